"""Which regions show what a caption's words name: targets of the alignment loss, from Entities annotations.

Legend: B pairs a batch, m regions, n words, k annotated boxes of a phrase.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from han_retrieval.data import CaptionedPhoto, EntitiesPhotos, overlapping, to_stored_size
from han_retrieval.text import tokenize, tokenize_each


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """Words (or their ids) [start, end) of a caption, and the boxes (k, 4) of what they name, in the stored pixels."""

    start: int
    end: int
    boxes: np.ndarray


def caption_spans(
    photo: CaptionedPhoto, annotations: EntitiesPhotos, *, width: int, height: int
) -> dict[str, tuple[Span, ...]]:
    """The boxed phrases of a photo's captions, by caption; captions whose words no annotated sentence has are left out.

    Args:
        photo: The photo with its captions.
        annotations: Annotations by photo id.
        width, height: The size that the photo's regions are in, 0 where it is not known.
    """
    annotation = annotations.get(photo.id)
    if annotation is None:
        return {}
    by_words: dict[tuple[str, ...], tuple[Span, ...]] = {}
    for sentence in annotation.sentences:
        words, starts = tokenize_each(sentence.tokens)
        by_words[tuple(words)] = tuple(
            Span(
                starts[phrase.start],
                starts[phrase.end],
                to_stored_size(phrase.boxes, annotation, width=width, height=height),
            )
            for phrase in sentence.phrases
            if len(phrase.boxes)
        )
    tokenized = {caption: tuple(tokenize(caption)) for caption in photo.captions}
    return {caption: by_words[words] for caption, words in tokenized.items() if words in by_words}


def id_spans(spans: Sequence[Span], ids: Sequence[tuple[int, int]]) -> list[Span]:
    """Spans of words as spans of ids, from the ids [start, end) of each word; those without ids are left out."""
    return [
        Span(ids[span.start][0], ids[span.end - 1][1], span.boxes)
        for span in spans
        if span.start < span.end <= len(ids)
    ]


def shown_regions(
    spans: Sequence[Sequence[Span]], boxes: Sequence[np.ndarray | None], *, words: int, regions: int
) -> Tensor:
    """Which regions show what each word names: (B, words, regions) bool, all false for words that are in no span.

    Args:
        spans: The spans of ids of each pair's caption.
        boxes: (m, 4) boxes of the regions of each pair's photo; None where it has none.
        words, regions: n and m, padded.
    """
    shown = torch.zeros(len(spans), words, regions, dtype=torch.bool)
    for row, of_caption, of_photo in zip(shown, spans, boxes, strict=True):
        if of_photo is None:
            continue
        places = of_photo.astype(np.float64)  # (m, 4)
        for span in of_caption:
            row[span.start : span.end, : len(places)] |= torch.from_numpy(overlapping(places, span.boxes))
    return shown
