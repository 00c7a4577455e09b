"""How many of the best photos by exact scores the candidates keep.

Legend: T sentences, N photos, m regions, n words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from han_retrieval.errors import HANError
from han_retrieval.matchers import AligningMatcher
from han_retrieval.search.index import Index
from han_retrieval.search.ranking import CANDIDATES, refuse_not_finite

TOP = 10
NUMBERS = (50, 100, CANDIDATES, 400, 800)
WORDS = 100
_PHOTOS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class CandidateRecall:
    """What the candidates keep of the exact best.

    Attributes:
        sentences, photos, top: How many were asked, of how many photos, and how many are the best.
        kept: By the number of candidates, the share of the best photos that are among them, in percent.
    """

    sentences: int
    photos: int
    top: int
    kept: dict[int, float]


@torch.no_grad()
def candidate_recall(
    index: Index,
    model: AligningMatcher,
    sentences: Sequence[str],
    *,
    top: int = TOP,
    numbers: Sequence[int] = NUMBERS,
    progress: bool = False,
) -> CandidateRecall:
    """Score all photos for each sentence, exactly, and see where the candidates' order has the best.

    Args:
        index: With more than ``top`` photos.
        model: The one that made it, as ``Index.load_model`` gives it.
        sentences: Those of which the model knows no word are left out.
        top: How many photos are the best.
        numbers: Of candidates.
        progress: Show it on stderr.

    Raises:
        HANError: There are too few photos, or no sentence that the model knows a word of; a score is not finite.
    """
    if len(index) <= top:
        raise HANError(f"{index.path}: {len(index)} photos are too few to lose one of the best {top}")
    readable = [sentence for sentence in sentences if model.reads(sentence)]
    if not readable:
        raise HANError(f"the model knows no word of any of the {len(sentences)} sentences")
    words, mask = model.words(readable)
    texts = model.encode_texts(words, mask)  # (T, n, d)
    scores = _score_all(index, model, texts, mask, progress=progress)  # (T, N)
    nearness = (index.pooling.texts(texts, mask).float().cpu() @ torch.from_numpy(index.pooled).T).numpy()  # (T, N)
    best = np.argpartition(-scores, top - 1, axis=1)[:, :top]
    its = np.take_along_axis(nearness, best, axis=1)  # (T, top)
    places = np.stack([(row[None] > mine[:, None]).sum(1) for row, mine in zip(nearness, its, strict=True)])
    kept = {number: 100.0 * float((places < number).mean()) for number in numbers if number < len(index)}
    return CandidateRecall(len(readable), len(index), top, kept)


def frequent_words(model: AligningMatcher, count: int = WORDS) -> list[str]:
    """Queries where none are given: the words that the model learned from most captions, each alone."""
    return [] if model.vocabulary is None else list(model.vocabulary.words[4 : 4 + count])


def _score_all(index: Index, model: AligningMatcher, texts: Tensor, mask: Tensor, *, progress: bool) -> np.ndarray:
    scores = np.empty((len(texts), len(index)), np.float32)
    with tqdm(total=len(index), desc="scoring all photos", unit="photo", disable=not progress) as bar:
        for first in range(0, len(index), _PHOTOS_AT_ONCE):
            rows = np.arange(first, min(first + _PHOTOS_AT_ONCE, len(index)))
            tokens, there = index.tokens(rows)
            block = model.score(tokens.to(model.device), there, texts, mask)  # (k, T)
            scores[:, rows] = block.T.float().cpu().numpy()
            bar.update(len(rows))
    refuse_not_finite(index, np.arange(len(index)), scores.sum(0))
    return scores
