"""Captions that say of several photos the same, word by word or nearly: the loss takes none of them as a negative.

Legend: B pairs a batch, b of them this rank's, W different words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from han_retrieval.text import tokenize
from han_retrieval.text.function_words import FUNCTION_WORDS
from han_retrieval.text.words import owners_of


def photos_having(sentences: Sequence[Sequence[str]]) -> list[list[frozenset[int]]]:
    """The photos that have a sentence, by photo and sentence; empty where no two photos share one."""
    flat = [(sentence, photo) for photo, of_photo in enumerate(sentences) for sentence in of_photo]
    having = iter(owners_of([sentence for sentence, _ in flat], [photo for _, photo in flat]))
    found = [[next(having) for _ in of_photo] for of_photo in sentences]
    return found if any(len(photos) > 1 for of_photo in found for photos in of_photo) else []


class SimilarCaptions:
    """Pairs of captions that have most of their words in common.

    Two captions are similar if |A and B| / |A or B| (Jaccard, 1912), of the sets of their words without function
    words, is ``share`` or more. Captions of function words alone are similar to none.

    Args:
        sentences: By photo and caption.
        share: From above 0 to 1.
    """

    def __init__(self, sentences: Sequence[Sequence[str]], share: float) -> None:
        places: dict[str, int] = {}
        self._share = share
        self._words = [
            [
                np.array([places.setdefault(w, len(places)) for w in {*tokenize(s)} - FUNCTION_WORDS], dtype=np.int64)
                for s in of_photo
            ]
            for of_photo in sentences
        ]

    def matching(self, part: Sequence[tuple[int, int]], own: slice) -> Tensor:
        """Which captions are similar to one of a photo's: (b, B) bool of the (photo, caption) places of a batch.

        Args:
            part: The B places.
            own: Which of them are the rows.
        """
        photos = [self._words[photo] for photo, _ in part[own]]
        bags, counts = _bags(
            [*(each for of_photo in photos for each in of_photo), *(self._words[p][c] for p, c in part)]
        )
        first = len(bags) - len(part)
        common = bags[:first] @ bags[first:].T
        similar = common >= self._share * (counts[:first, None] + counts[None, first:] - common) * (1 - 1e-6)
        similar &= common > 0
        return torch.stack([of_photo.any(0) for of_photo in similar.split([len(each) for each in photos])])


def _bags(words: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Sets of words as rows (t, W) float32 of 0 and 1, and their sizes (t,)."""
    sizes = np.array([len(each) for each in words])
    different, columns = np.unique(np.concatenate(words), return_inverse=True)
    bags = torch.zeros(len(words), len(different))
    bags[torch.from_numpy(np.repeat(np.arange(len(words)), sizes)), torch.from_numpy(columns)] = 1
    return bags, torch.from_numpy(sizes).float()
