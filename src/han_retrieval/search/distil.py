"""Learn to choose candidates from the model's own scores.

Candidates are chosen by the dot product of a sentence's and a photo's mean token. A linear map of the sentence's mean
makes these products closer to the model's scores: it is fitted so that the softmax of the products over photos is the
softmax of the scores, as in knowledge distillation (Hinton et al., 2015). Photos keep their plain means, so existing
indexes stay as they are.

Legend: I photos, T sentences, d numbers a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from han_retrieval.data import CaptionedPhotos
from han_retrieval.errors import DataError
from han_retrieval.evaluation.scores import encode_photos, score_all
from han_retrieval.matchers import AligningMatcher
from han_retrieval.progress import progress_bar
from han_retrieval.search.pooling import MAP_PHOTOS, MAP_SENTENCES, MeanPooling, TextMap
from han_retrieval.search.recall import pool_sentences, share_kept
from han_retrieval.text import tokenize
from han_retrieval.text.words import owners_of

if TYPE_CHECKING:
    from han_retrieval.regions import RegionStore

_HELD_OUT = 0.2
_TEMPERATURE = 0.22  # of the scores' softmax, in their standard deviations: the best few dozen photos count
_STEPS, _RATE, _START = 300, 0.02, 20.0
_SENTENCES_A_STEP, _PHOTOS_A_STEP = 500, 1500
TOP, KEPT = 10, (20, 50, 100, 200)


@dataclass(frozen=True, slots=True)
class Distilled:
    """A learned map, and the candidate recall of sentences that were held out.

    Attributes:
        text_map: The map.
        photos, sentences: The number of each; sentences held out included.
        before, after: The share of the exact best ten that candidates keep without and with the map, in percent by the
            number of candidates.
    """

    text_map: TextMap
    photos: int
    sentences: int
    before: dict[int, float]
    after: dict[int, float]


def distil(
    model: AligningMatcher,
    dataset: CaptionedPhotos,
    store: RegionStore,
    *,
    photos: int = MAP_PHOTOS,
    sentences: int = MAP_SENTENCES,
    seed: int = 0,
    progress: bool = False,
) -> Distilled:
    """Learn a map from the scores of photos and sentences, best those that the model was trained on.

    Args:
        model: The teacher.
        dataset: Photos with captions.
        store: The photos' regions; photos that it lacks are left out.
        photos, sentences: The largest number of each.
        seed: Of the random choice of photos and sentences, and of the steps.
        progress: Show progress bars on stderr.

    Raises:
        DataError: There are too few photos or sentences.
        ModelError: A score is not finite.
    """
    random = np.random.default_rng(seed)
    there = [photo for photo in dataset.photos if photo.id in store]
    drawn = [there[i] for i in random.permutation(len(there))[:photos]]
    captions = [(i, caption) for i, photo in enumerate(drawn) for caption in photo.captions if model.reads(caption)]
    owners = owners_of([caption for _, caption in captions], [i for i, _ in captions])
    # Equal captions are learned from once: those held out are none of the others.
    different: dict[tuple[str, ...], int] = {}
    for i in random.permutation(len(captions)).tolist():
        if len(drawn) - len(owners[i]) >= TOP:
            different.setdefault(tuple(tokenize(captions[i][1])), i)
    places = list(different.values())[:sentences]
    chosen = [captions[i] for i in places]
    if len(drawn) <= 2 * TOP or len(chosen) < 2 * TOP:
        raise DataError(
            f"{len(drawn)} photos with regions and {len(chosen)} sentences are too few to learn from: take at least "
            f"{2 * TOP + 1} and {2 * TOP}"
        )
    pooling = MeanPooling()
    ids, lines = [photo.id for photo in drawn], [caption for _, caption in chosen]
    encoded = encode_photos(model, store, ids, progress=progress)
    vectors = torch.cat([pooling.images(*each).float().cpu() for each in encoded])  # (I, d)
    queries = pool_sentences(model, lines, pooling)  # (T, d)
    scores = torch.from_numpy(score_all(model, encoded, lines, photo_ids=ids, progress=progress).T.copy())  # (T, I)
    temperature = _TEMPERATURE * float(scores.std(1).mean())
    # A model knows the pairs of its training by heart, which the map cannot learn.
    for row, i in zip(scores, places, strict=True):
        row[list(owners[i])] = -torch.inf
    held = max(1, round(_HELD_OUT * len(chosen)))
    found = _fit(queries[held:], vectors, scores[held:], temperature, seed=seed, progress=progress)
    after = queries[:held] @ found.weight.T + found.bias
    return Distilled(
        text_map=found,
        photos=len(drawn),
        sentences=len(chosen),
        before=share_kept((queries[:held] @ vectors.T).numpy(), scores[:held].numpy(), top=TOP, numbers=KEPT),
        after=share_kept((after @ vectors.T).numpy(), scores[:held].numpy(), top=TOP, numbers=KEPT),
    )


def _fit(queries: Tensor, vectors: Tensor, scores: Tensor, temperature: float, *, seed: int, progress: bool) -> TextMap:
    """The map whose products (T, I) have the softmax of the scores; scores of -inf do not count."""
    random = torch.Generator().manual_seed(seed)
    weight = (_START * torch.eye(queries.shape[1])).requires_grad_()
    bias = torch.zeros(queries.shape[1], requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], lr=_RATE)
    for step in progress_bar(range(_STEPS), desc="distilling", unit="step", show=progress):
        rows = torch.randperm(len(queries), generator=random)[:_SENTENCES_A_STEP]
        columns = torch.randperm(len(vectors), generator=random)[:_PHOTOS_A_STEP]
        wanted = scores[rows][:, columns]
        teacher = (wanted / temperature).softmax(1)
        products = (queries[rows] @ weight.T + bias) @ vectors[columns].T
        student = products.masked_fill(wanted == -torch.inf, -1e4).log_softmax(1)
        loss = -(teacher * student).sum(1).mean()
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (1 - step / _STEPS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # The products are logits. On the scale of the scores, those of a query's parts can be added.
    return TextMap((temperature * weight).detach(), (temperature * bias).detach())
