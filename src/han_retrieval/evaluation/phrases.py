"""Phrases of an annotated sentence as a matcher's words, and the regions that show them.

Legend: m regions of a photo, k true boxes of a phrase.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from han_retrieval.text import tokenize

if TYPE_CHECKING:
    from han_retrieval.data import EntitiesPhoto, EntitiesSentence

IOU = 0.5


def sentence_words(sentence: EntitiesSentence) -> tuple[list[str], list[int]]:
    """A sentence's words, each token tokenized by itself, and where each token starts among them, then their end."""
    words: list[str] = []
    starts = [0]
    for token in sentence.tokens:
        words += tokenize(token)
        starts.append(len(words))
    return words, starts


def to_stored_size(boxes: np.ndarray, photo: EntitiesPhoto, *, width: int, height: int) -> Tensor:
    """True boxes (k, 4) in pixels of a photo of ``width`` and ``height``, 0 where they are not known; float64."""
    shares = [(width or photo.width) / photo.width, (height or photo.height) / photo.height]
    return torch.from_numpy(boxes).double() * torch.tensor(shares, dtype=torch.float64).repeat(2)


def overlapping(regions: Tensor, boxes: Tensor) -> Tensor:
    """Which regions overlap any of the boxes at IoU >= 0.5: (m, 4), (k, 4) -> (m,) bool."""
    from torchvision.ops import box_iou  # a second of importing, which a search does without

    return (box_iou(regions, boxes) >= IOU).any(-1)
