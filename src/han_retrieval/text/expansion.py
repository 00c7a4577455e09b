"""Vocabulary expansion: embeddings of words that no training caption has, predicted from pre-trained word vectors.

Legend: V words of a vocabulary, K of them that have a vector, M further words, g numbers a vector, e an embedding.
"""

from __future__ import annotations

from itertools import compress
from pathlib import Path

import numpy as np

from han_retrieval.text.vectors import frequent_words, word_vectors
from han_retrieval.text.vocabulary import SPECIAL_WORDS, Vocabulary

_RIDGES = 10.0 ** np.arange(-2, 5)


def expand_vocabulary(
    vocabulary: Vocabulary, embedding: np.ndarray, *, source: str | Path, count: int
) -> tuple[Vocabulary, np.ndarray]:
    """Add the most frequent words of a source of word vectors to a vocabulary and its embedding.

    A new word's embedding is a linear function of its vector, fitted by ridge regression to the words that have both.
    The strength of the ridge is chosen by leave-one-out error. Words that are there already keep ids and embeddings.

    Args:
        vocabulary: V words.
        embedding: (V, e) float32, trained.
        source: As ``word_vectors`` takes it.
        count: How many words of the source are looked at, the most frequent first.

    Returns:
        The vocabulary of V + M words and its (V + M, e) float32 embedding.

    Raises:
        HANError: The source cannot be read.
    """
    new = [word for word in frequent_words(source, count=count) if word not in vocabulary]
    vectors, found = word_vectors([*vocabulary.words, *new], source=source)
    vectors = np.concatenate([vectors, np.ones((len(vectors), 1), np.float32)], axis=1)  # (V + M, g + 1)
    known, usable = found[: len(vocabulary)], found[len(vocabulary) :]  # a line of several words is no word's vector
    known[: len(SPECIAL_WORDS)] = False
    if not known.any():
        return vocabulary, embedding
    weights = _ridge(vectors[: len(vocabulary)][known], embedding[known])  # (g + 1, e)
    predicted = vectors[len(vocabulary) :][usable] @ weights  # (M, e)
    words = (*vocabulary.words, *compress(new, usable))
    return Vocabulary(words), np.concatenate([embedding, predicted.astype(embedding.dtype)])


def _ridge(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The linear map (g, e) of (K, g) inputs to (K, e) targets whose left-out error is least over ``_RIDGES``."""
    left, sizes, right = np.linalg.svd(inputs.astype(np.float64), full_matrices=False)
    turned = left.T @ targets  # (g, e)
    maps, errors = [], []
    for ridge in _RIDGES:
        share = sizes**2 / (sizes**2 + ridge)
        leverage = (left**2) @ share  # (K,) how much a word's prediction depends on the word itself
        residuals = targets - left @ (share[:, None] * turned)
        errors.append(float(np.square(residuals / (1 - leverage).clip(1e-6)[:, None]).sum()))
        maps.append(right.T @ ((share / sizes.clip(1e-12))[:, None] * turned))
    return maps[int(np.argmin(errors))]
