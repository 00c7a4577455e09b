"""Score all photos with all sentences: the one way in which evaluation, calibration and distillation do it.

Legend: I photos, T sentences, m regions a photo, n words a sentence, D numbers a region, d the joint size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from han_retrieval.errors import ModelError, QueryError, StoreError
from han_retrieval.progress import progress_bar
from han_retrieval.text import tokenize

if TYPE_CHECKING:
    from han_retrieval.matchers import Matcher
    from han_retrieval.regions import RegionStore

BATCH = 512


@contextmanager
def evaluating(model: Matcher) -> Iterator[None]:
    """Switch a model to evaluation mode without gradients; its mode is restored at the end."""
    training = model.training
    model.train(False)
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


def encode_photos(
    model: Matcher, store: RegionStore, ids: Sequence[str], *, batch: int = BATCH, progress: bool = False
) -> list[tuple[Tensor, Tensor]]:
    """Encode photos by their regions, a batch at a time.

    Returns:
        Tokens (b, m, d) and masks (b, m) of each batch; m is the largest number of regions in the batch.

    Raises:
        StoreError: A photo is not in the store, or has no region there.
        DataError: The model takes of photos what the store does not have.
    """
    encoded = []
    with evaluating(model), progress_bar(total=len(ids), desc="encoding photos", unit="photo", show=progress) as bar:
        for start in range(0, len(ids), batch):
            regions = store.batch(ids[start : start + batch])
            empty = (~regions.mask.any(1)).nonzero()
            if len(empty):
                raise StoreError(f"photo {ids[start + int(empty[0])]!r} has no region in the features: extract it anew")
            inputs, mask = model.image_inputs(regions)
            encoded.append((model.encode_images(inputs, mask), mask))
            bar.update(len(regions.mask))
    return encoded


def can_read(model: Matcher, sentence: str) -> bool:
    """Whether a sentence has a word, and not too many, by the model's own tokenizer."""
    try:
        model.encode_sentence(sentence)
    except QueryError:
        return False
    return True


def score_all(
    model: Matcher,
    photos: Iterable[tuple[Tensor, Tensor]],
    sentences: Sequence[str],
    *,
    photo_ids: Sequence[str],
    sentence_ids: Sequence[str] | None = None,
    batch: int = BATCH,
    precision: str = "float32",
    progress: bool = False,
) -> NDArray[np.float32]:
    """Score every photo with every sentence.

    Equal sentences are scored once. Sentences of similar length are encoded together, so that there is little padding;
    2 ``batch`` of them are in memory at a time. A pair's score does not depend on the other pairs.

    Args:
        model: The matcher.
        photos: Tokens (b, m, d) and masks (b, m) of consecutive photos, iterated once for each 2 ``batch`` sentences.
        sentences: T sentences that the model ``can_read``.
        photo_ids, sentence_ids: I and T names for error messages; sentences stand for themselves by default.
        batch: Half the number of sentences that are encoded together.
        precision: Of the large products, "float32" or "bfloat16".
        progress: Show a progress bar on stderr.

    Returns:
        (I, T) scores.

    Raises:
        ModelError: A score is not finite.
    """
    sentence_ids = sentences if sentence_ids is None else sentence_ids
    scores = np.empty((len(photo_ids), len(sentences)), dtype=np.float32)
    having: dict[str, list[int]] = {}  # the columns of each sentence
    for column, sentence in enumerate(sentences):
        having.setdefault(sentence, []).append(column)
    order = sorted(having, key=lambda sentence: len(tokenize(sentence)))
    bar = progress_bar(total=scores.size, desc="scoring pairs", unit="pair", unit_scale=True, show=progress)
    with evaluating(model), bar:
        for start in range(0, len(order), 2 * batch):  # a photo's tokens are projected again for each of these
            some = order[start : start + 2 * batch]
            columns = [having[sentence] for sentence in some]
            flat, counts = np.concatenate(columns), [len(each) for each in columns]
            words, word_mask = model.words(some)
            text_tokens = model.encode_texts(words, word_mask)  # (t, n, d)
            row = 0
            for image_tokens, region_mask in photos:
                found = model.score(
                    image_tokens, region_mask.to(image_tokens.device), text_tokens, word_mask, precision=precision
                )  # (i, t)
                block = found.float().cpu().numpy()
                rows = slice(row, row + len(block))
                refuse_not_finite(block, photo_ids[rows], [sentence_ids[first] for first, *_ in columns])
                scores[rows, flat] = block.repeat(counts, axis=1)
                row = rows.stop
                bar.update(len(block) * len(flat))
    return scores


def refuse_not_finite(scores: np.ndarray, photo_ids: Sequence[str], sentence_ids: Sequence[str]) -> None:
    """Check that all scores (I, T) are finite.

    Raises:
        ModelError: One is NaN or infinite; the message names the first such pair, in the order of the rows.
    """
    finite = np.isfinite(scores)
    if not finite.all():
        row, column = map(int, np.unravel_index(np.argmin(finite), scores.shape))
        raise ModelError(
            f"image {photo_ids[row]!r} and caption {sentence_ids[column]!r} score {scores[row, column]}: "
            "a score that is not finite is refused, never ranked; the model's weights or these features are damaged"
        )
