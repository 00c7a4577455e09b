"""What finds candidates, learned from the model's own scores.

A photo and a sentence are compared by one dot product of the means of their tokens, and by the model word by region. A
linear map of the sentence's mean brings the products nearer to the scores: it is fitted so that the soft-max of the
products over photos is that of the scores, as a student learns from a teacher (Hinton et al., 2015). Photos keep their
plain means, so an index is not made anew for it.

Legend: I photos, T sentences, m regions, n words, d numbers a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from han_retrieval.data import CaptionedPhotos
from han_retrieval.errors import HANError
from han_retrieval.matchers import AligningMatcher
from han_retrieval.search.encode import encode_regions
from han_retrieval.search.pooling import MeanPooling, TextMap

if TYPE_CHECKING:
    from han_retrieval.regions import RegionStore

PHOTOS, SENTENCES = 3000, 1500
_HELD_OUT = 0.2
_TEMPERATURE = 0.22  # of the scores' soft-max, in their standard deviations: the best few dozen photos count
_STEPS, _RATE, _START = 300, 0.02, 20.0
_SENTENCES_A_STEP, _PHOTOS_A_STEP = 500, 1500
_PHOTOS_AT_ONCE = 256
TOP, KEPT = 10, (20, 50, 100, 200)


@dataclass(frozen=True, slots=True)
class Distilled:
    """A map, and what candidates keep of the exact best ten, in percent by their number, of sentences held out.

    Attributes:
        text_map: What was learned.
        photos, sentences: How many it was learned from, the sentences held out included.
        before, after: Without it and with it.
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
    photos: int = PHOTOS,
    sentences: int = SENTENCES,
    seed: int = 0,
    progress: bool = False,
) -> Distilled:
    """Learn a map from the scores of some photos and sentences, those of the model's training at best.

    Args:
        model: The teacher.
        dataset: Photos with captions.
        store: Their regions; photos that it lacks are left out.
        photos, sentences: How many are taken at most.
        seed: Of all that is drawn.
        progress: Show it on stderr.

    Raises:
        HANError: There are too few photos or sentences, or a score is not finite.
    """
    random = np.random.default_rng(seed)
    there = [photo for photo in dataset.photos if photo.id in store]
    drawn = [there[i] for i in random.permutation(len(there))[:photos]]
    captions = [(i, caption) for i, photo in enumerate(drawn) for caption in photo.captions if model.reads(caption)]
    chosen = [captions[i] for i in random.permutation(len(captions))[:sentences]]
    if len(drawn) <= 2 * TOP or len(chosen) < 2 * TOP:
        raise HANError(
            f"{len(drawn)} photos with regions and {len(chosen)} sentences are too few to learn from: take at least "
            f"{2 * TOP + 1} and {2 * TOP}"
        )
    pooling = MeanPooling(model.config.joint_size)
    own = torch.tensor([i for i, _ in chosen])
    with torch.no_grad():
        words, mask = model.words([caption for _, caption in chosen])
        texts = model.encode_texts(words, mask)
        queries = pooling.texts(texts, mask).float().cpu()  # (T, d)
        vectors, scores = _score(model, [photo.id for photo in drawn], store, texts, mask, pooling, progress=progress)
    if not scores.isfinite().all():
        raise HANError("a score is not finite: the model or the features are broken")
    temperature = _TEMPERATURE * float(scores.std(1).mean())
    # A model knows its training's pairs by heart, which nothing that is learned here could tell.
    scores[torch.arange(len(own)), own] = -torch.inf
    held = max(1, round(_HELD_OUT * len(chosen)))
    found = _fit(queries[held:], vectors, scores[held:], temperature, seed=seed, progress=progress)
    after = queries[:held] @ found.weight.T + found.bias
    return Distilled(
        text_map=found,
        photos=len(drawn),
        sentences=len(chosen),
        before=_kept(queries[:held] @ vectors.T, scores[:held]),
        after=_kept(after @ vectors.T, scores[:held]),
    )


def _score(
    model: AligningMatcher,
    ids: list[str],
    store: RegionStore,
    texts: Tensor,
    mask: Tensor,
    pooling: MeanPooling,
    *,
    progress: bool,
) -> tuple[Tensor, Tensor]:
    """Pooled vectors of photos (I, d) and their scores with sentences (T, I), some photos at a time."""
    vectors, scores = [], []
    with tqdm(total=len(ids), desc="scoring photos", unit="photo", disable=not progress) as bar:
        for first in range(0, len(ids), _PHOTOS_AT_ONCE):
            some = ids[first : first + _PHOTOS_AT_ONCE]
            tokens, there = encode_regions(model, store.read(some))
            vectors.append(pooling.images(tokens, there))
            scores.append(model.score(tokens.to(model.device), there, texts, mask).T.float().cpu())
            bar.update(len(some))
    return torch.cat(vectors), torch.cat(scores, dim=1)


def _fit(queries: Tensor, vectors: Tensor, scores: Tensor, temperature: float, *, seed: int, progress: bool) -> TextMap:
    """The map whose products (T, I) have the soft-max of the scores; those of -inf do not count."""
    random = torch.Generator().manual_seed(seed)
    weight = (_START * torch.eye(queries.shape[1])).requires_grad_()
    bias = torch.zeros(queries.shape[1], requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], lr=_RATE)
    for step in tqdm(range(_STEPS), desc="distilling", unit="step", disable=not progress):
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
    # Products are logits; on the scale of the scores, those of a query's parts can be added up.
    return TextMap((temperature * weight).detach(), (temperature * bias).detach())


def _kept(products: Tensor, scores: Tensor) -> dict[int, float]:
    best = scores.topk(TOP, dim=1).indices
    its = products.gather(1, best)  # (T, TOP)
    counted = products.masked_fill(scores == -torch.inf, -torch.inf)
    places = (counted.unsqueeze(1) > its.unsqueeze(2)).sum(2)
    return {number: 100.0 * float((places < number).float().mean()) for number in KEPT if number < products.shape[1]}
