"""Which regions show what a caption's words speak of: the truth of the alignment loss, from Entities annotations.

Legend: B pairs a batch, m regions, n words, k true boxes of a phrase.
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
class WordSpan:
    """Words [start, end) of a caption that speak of what boxes (k, 4) show, in pixels of the stored photo."""

    start: int
    end: int
    boxes: np.ndarray


def caption_spans(
    photo: CaptionedPhoto, truth: EntitiesPhotos, *, width: int, height: int
) -> dict[str, tuple[WordSpan, ...]]:
    """The boxed phrases of a photo's captions, by caption; captions whose words no annotated sentence has are left out.

    Args:
        photo: The photo with its captions.
        truth: Annotations by photo id.
        width, height: The size that the photo's regions are in, 0 where it is not known.
    """
    annotation = truth.get(photo.id)
    if annotation is None:
        return {}
    by_words: dict[tuple[str, ...], tuple[WordSpan, ...]] = {}
    for sentence in annotation.sentences:
        words, starts = tokenize_each(sentence.tokens)
        by_words[tuple(words)] = tuple(
            WordSpan(
                starts[phrase.start],
                starts[phrase.end],
                to_stored_size(phrase.boxes, annotation, width=width, height=height),
            )
            for phrase in sentence.phrases
            if len(phrase.boxes)
        )
    tokenized = {caption: tuple(tokenize(caption)) for caption in photo.captions}
    return {caption: by_words[words] for caption, words in tokenized.items() if words in by_words}


def shown_regions(
    spans: Sequence[Sequence[WordSpan]], boxes: Sequence[np.ndarray | None], *, first: int, words: int, regions: int
) -> Tensor:
    """Which regions show what each word speaks of: (B, words, regions) bool, all false for words that no span has.

    Args:
        spans: Of each pair's caption.
        boxes: (m, 4) of each pair's photo; None where it has none.
        first: Where a caption's first word stands among its ids.
        words, regions: n and m, padded.
    """
    shown = torch.zeros(len(spans), words, regions, dtype=torch.bool)
    for row, of_caption, of_photo in zip(shown, spans, boxes, strict=True):
        if of_photo is None:
            continue
        places = of_photo.astype(np.float64)  # (m, 4)
        for span in of_caption:
            row[first + span.start : first + span.end, : len(places)] |= torch.from_numpy(
                overlapping(places, span.boxes)
            )
    return shown
