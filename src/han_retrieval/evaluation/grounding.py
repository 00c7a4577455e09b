"""Phrase grounding: does the region that is most aligned with a phrase show what the phrase names?

It is measured against the boxes of Flickr30K Entities.

Legend: m regions of a photo, n words of a sentence, k annotated boxes of a phrase.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from han_retrieval.data import overlapping, to_stored_size
from han_retrieval.errors import DataError, StoreError
from han_retrieval.evaluation.protocols import check_regions
from han_retrieval.evaluation.scores import evaluating
from han_retrieval.progress import progress_bar
from han_retrieval.text import tokenize_each
from han_retrieval.text.tokenizer import check_words

if TYPE_CHECKING:
    from han_retrieval.data import EntitiesPhoto, EntitiesPhotos, EntitiesSentence, Phrase
    from han_retrieval.matchers import Matcher
    from han_retrieval.regions import Regions, RegionStore

MEASURES = ("pointing", "iou", "pointing_union", "iou_union")
GUESSES = ("model", "random", "centre", "best")

Hits = dict[str, dict[str, float]]
"""Shares in percent, by measure and by guess."""


@dataclass(frozen=True, slots=True)
class Grounding:
    """The share of phrases whose region is guessed right, in percent.

    A phrase may have several boxes (two dogs). The main measures are ``pointing``: the region's centre is in any of
    them, and ``iou``: the region overlaps any of them at an IoU of at least 0.5. A region that shows one of two dogs
    counts as right. ``pointing_union`` and ``iou_union`` use the one box around all of them, as most published figures
    do; they also accept a region between the dogs.

    The guesses are ``model``: the region most aligned with the phrase, by the mean weight of its words; ``random``: any
    region, as an exact expectation; ``centre``: the photo's centre for pointing and the whole photo for IoU; ``best``:
    the best of the regions, an upper bound for any choice among them.

    Attributes:
        overall: Of all phrases.
        by_type: Of the phrases of each type; a phrase of several types counts in each.
        counts: The number of "phrases", of the phrases of a type as "phrases: TYPE", and of those left out, by reason.
    """

    overall: Hits
    by_type: dict[str, Hits]
    counts: dict[str, int]


def ground(
    model: Matcher,
    annotations: EntitiesPhotos,
    store: RegionStore,
    *,
    ids: Sequence[str],
    progress: bool = True,
) -> Grounding:
    """Ground every phrase that has a box in the photos ``ids``; the others are counted.

    Each token of Entities is tokenized by itself. Annotated boxes are scaled to the photo's size in the store.

    Args:
        model: A matcher that aligns words and regions.
        annotations: Entities by photo; phrases of photos that are not in ``ids`` are counted and left out.
        store: The regions, with boxes.
        ids: The photos of the split.
        progress: Show a progress bar on stderr.

    Raises:
        ModelError: The store is of another detector than the model was trained with, or the model aligns no words.
        StoreError: The store has no boxes.
        DataError: No phrase with a box belongs to a photo with regions.
    """
    check_regions(model, store)
    counts = Counter[str]()
    counts["photos without annotation"] = sum(name not in annotations for name in ids)
    counts["phrases of photos not in the split"] = sum(map(_phrase_count, annotations.values()))
    hits: list[np.ndarray] = []  # (measures, guesses) a phrase
    types: list[Sequence[str]] = []
    with evaluating(model):
        photos = [annotations[name] for name in ids if name in annotations]
        for photo in progress_bar(photos, desc="grounding phrases", unit="photo", show=progress):
            counts["phrases of photos not in the split"] -= _phrase_count(photo)
            if photo.id not in store:
                counts["phrases of photos not in the features"] += _phrase_count(photo)
                continue
            regions = store.read([photo.id])[0]
            measures = _PhotoMeasures(photo, regions)
            boxed = [[phrase for phrase in sentence.phrases if len(phrase.boxes)] for sentence in photo.sentences]
            for sentence, phrases in zip(photo.sentences, boxed, strict=True):
                counts["phrases without a box"] += len(sentence.phrases) - len(phrases)
            for phrase, region in _most_aligned(model, regions, photo.sentences, boxed):
                if region is None:
                    counts["phrases without a word"] += 1
                    continue
                hits.append(measures.hits(phrase, region))
                types.append(phrase.types)
    if not hits:
        raise DataError("no boxed phrase belongs to a photo of the split with regions: is this their Entities file?")
    found = np.stack(hits)
    members = {name: [i for i, of in enumerate(types) if name in of] for name in sorted(set().union(*types))}
    return Grounding(
        overall=_shares(found),
        by_type={name: _shares(found[rows]) for name, rows in members.items()},
        counts={"phrases": len(found)} | {f"phrases: {name}": len(rows) for name, rows in members.items()} | counts,
    )


def _phrase_count(photo: EntitiesPhoto) -> int:
    return sum(len(sentence.phrases) for sentence in photo.sentences)


def _most_aligned(
    model: Matcher, regions: Regions, sentences: Sequence[EntitiesSentence], boxed: Sequence[Sequence[Phrase]]
) -> Iterator[tuple[Phrase, int | None]]:
    """A photo's phrases, by sentence, each with the region of the largest mean weight over its words; None without."""
    asked = []
    for sentence, phrases in zip(sentences, boxed, strict=True):
        words, starts = tokenize_each(sentence.tokens)
        if not words:
            yield from ((phrase, None) for phrase in phrases)
        elif phrases:
            encoded = model.encode_sentence(" ".join(words))
            check_words(encoded, words)
            asked.append((encoded, starts, phrases))
    features = torch.tensor(regions.features, dtype=torch.float32)
    alignments = model.alignments(features, [torch.tensor(encoded.ids) for encoded, _, _ in asked])
    for (encoded, starts, phrases), rows in zip(asked, alignments, strict=True):
        alignment = encoded.per_word(rows.cpu())  # (words, m)
        for phrase in phrases:
            weights = alignment[starts[phrase.start] : starts[phrase.end]]
            yield phrase, int(weights.mean(0).argmax()) if len(weights) else None


class _PhotoMeasures:
    """Measures the guesses at a phrase's region in one photo."""

    def __init__(self, photo: EntitiesPhoto, regions: Regions) -> None:
        if regions.boxes is None:
            raise StoreError(f"the features of photo {photo.id!r} have no boxes to ground by: extract them anew")
        width, height = regions.width or photo.width, regions.height or photo.height
        whole = [[0, 0, width, height]]
        self.boxes = np.concatenate([whole, regions.boxes]).astype(np.float64)  # (1 + m, 4), the whole photo first
        self.centres = (self.boxes[:, :2] + self.boxes[:, 2:]) / 2  # (1 + m, 2)
        self.photo, self.width, self.height = photo, width, height

    def hits(self, phrase: Phrase, region: int) -> np.ndarray:
        """Whether each guess is right under each measure: (measures, guesses)."""
        true = to_stored_size(phrase.boxes, self.photo, width=self.width, height=self.height)  # (k, 4)
        union = np.concatenate([true[:, :2].min(0), true[:, 2:].max(0)])[None]  # (1, 4)
        rows: list[np.ndarray] = []
        for boxes in (true, union):
            centres = self.centres[:, None]  # (1 + m, 1, 2)
            inside = ((centres >= boxes[:, :2]) & (centres <= boxes[:, 2:])).all(-1).any(-1)  # (1 + m,)
            rows += [np.asarray(inside), overlapping(self.boxes, boxes)]
        return np.array([
            [float(hit[1:][region]), float(hit[1:].mean()), float(hit[0]), float(hit[1:].any())]
            for hit in rows
        ])  # fmt: skip


def _shares(hits: np.ndarray) -> Hits:
    """(phrases, measures, guesses) -> percent."""
    means = 100.0 * hits.mean(axis=0)
    return {
        measure: dict(zip(GUESSES, (float(share) for share in row), strict=True))
        for measure, row in zip(MEASURES, means, strict=True)
    }
