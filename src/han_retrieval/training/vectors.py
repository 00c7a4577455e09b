"""Word vectors as the start of embeddings."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from han_retrieval.errors import HANError
from han_retrieval.text import Vocabulary, word_vectors
from han_retrieval.text.vocabulary import SPECIAL_WORDS


def start_from_vectors(weight: Tensor, vocabulary: Vocabulary, source: str) -> None:
    """Put word vectors into the first numbers of embeddings (V, e), scaled to the size that the others start with.

    Raises:
        HANError: The source cannot be read, has none of the words, or its vectors are longer than embeddings.
    """
    vectors, found = word_vectors(vocabulary.words, source=source)
    if not found[len(SPECIAL_WORDS) :].any():
        raise HANError(f"{source}: has none of the {len(vocabulary) - len(SPECIAL_WORDS):,} words of the captions")
    if vectors.shape[1] > weight.shape[1]:
        raise HANError(
            f"{source}: its vectors have {vectors.shape[1]} numbers, more than model.word_size = {weight.shape[1]}"
        )
    rows = torch.from_numpy(np.flatnonzero(found))
    start = torch.from_numpy(vectors)[rows]
    with torch.no_grad():
        weight[rows, : start.shape[1]] = start * (weight[4:].std() / start.std())
