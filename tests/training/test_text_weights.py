"""Word vectors need word embeddings."""

from __future__ import annotations

import pytest
from torch import nn

from han_retrieval.errors import ConfigError
from han_retrieval.text import Vocabulary
from han_retrieval.training.text_weights import start_from_vectors


def test_an_encoder_without_embeddings_takes_no_vectors():
    with pytest.raises(ConfigError, match="word_vectors = 'glove-6b-50d': this text encoder has no word embeddings"):
        start_from_vectors(nn.Linear(2, 2), Vocabulary.from_sentences(["a dog"]), "glove-6b-50d")
