"""Candidate recall: the share of the best photos by exact scores that are among the candidates.

Legend: T sentences, N photos, m regions, n words, d numbers a token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from han_retrieval.errors import QueryError, StoreError
from han_retrieval.evaluation.scores import score_all
from han_retrieval.matchers import AligningMatcher
from han_retrieval.search.pooling import Pooling
from han_retrieval.search.query import CANDIDATES
from han_retrieval.search.reader import IndexReader

TOP = 10
NUMBERS = (50, 100, CANDIDATES, 400, 800)
WORDS = 100
_PHOTOS_AT_ONCE = 256


def candidate_recall(
    index: IndexReader,
    model: AligningMatcher,
    sentences: Sequence[str],
    *,
    top: int = TOP,
    numbers: Sequence[int] = NUMBERS,
    progress: bool = False,
) -> tuple[int, dict[int, float]]:
    """Score all photos of an index for each sentence, and count the best that are among the candidates.

    Args:
        index: With more than ``top`` photos.
        model: The model that made it, from ``IndexReader.load_model``.
        sentences: Queries; those of which the model knows no word are left out.
        top: The number of best photos.
        numbers: Of candidates.
        progress: Show a progress bar on stderr.

    Returns:
        The number of sentences that were scored, and the percentage of the best photos that are among the candidates,
        by their number.

    Raises:
        StoreError: There are too few photos.
        QueryError: The model knows no word of any sentence.
        ModelError: A score is not finite.
    """
    if len(index) <= top:
        raise StoreError(f"{index.path}: {len(index)} photos are too few to lose one of the best {top}")
    readable = [sentence for sentence in sentences if model.reads(sentence)]
    if not readable:
        raise QueryError(f"the model knows no word of any of the {len(sentences)} sentences")
    files = index.photos["path"].to_pylist()
    scores = score_all(model, _Photos(index, model.device), readable, photo_ids=files, progress=progress).T  # (T, N)
    best = np.argpartition(-scores, top - 1, axis=1)[:, :top]
    queries, kept = pool_sentences(model, readable, index.pooling), {}
    for number in (number for number in numbers if number < len(index)):
        pairs = zip(best, index.nearest(queries, number), strict=True)
        kept[number] = 100.0 * float(np.mean([np.isin(its, near) for its, near in pairs]))
    return len(readable), kept


def share_kept(
    products: NDArray[np.float32], scores: NDArray[np.float32], *, top: int, numbers: Sequence[int]
) -> dict[int, float]:
    """The percentage of the ``top`` photos by score that are among the first photos by product, by their number.

    Products and scores are (T, N). Photos whose score is -inf are left out, and numbers that are as large as N.
    """
    best = np.argpartition(-scores, top - 1, axis=1)[:, :top]
    its = np.take_along_axis(products, best, axis=1)  # (T, top)
    counted = np.where(np.isneginf(scores), -np.inf, products)
    places = np.stack([(row[None] > mine[:, None]).sum(1) for row, mine in zip(counted, its, strict=True)])
    return {number: 100.0 * float((places < number).mean()) for number in numbers if number < products.shape[1]}


@torch.no_grad()
def pool_sentences(model: AligningMatcher, sentences: Sequence[str], pooling: Pooling) -> Tensor:
    """The pooled vectors (T, e) of sentences, float32 on the CPU."""
    words, mask = model.words(sentences)
    return pooling.sentences(model, words, mask, model.encode_texts(words, mask)).float().cpu()


def frequent_words(model: AligningMatcher, count: int = WORDS) -> list[str]:
    """Queries of one word each: the words that are most frequent in the captions that the model learned from."""
    return [] if model.vocabulary is None else list(model.vocabulary.words[4 : 4 + count])


class _Photos:
    """The tokens of all photos of an index, read again in each iteration."""

    def __init__(self, index: IndexReader, device: torch.device) -> None:
        self._index, self._device = index, device

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for first in range(0, len(self._index), _PHOTOS_AT_ONCE):
            rows = np.arange(first, min(first + _PHOTOS_AT_ONCE, len(self._index)))
            tokens, mask = self._index.tokens(rows)
            yield tokens.to(self._device), mask
