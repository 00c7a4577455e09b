"""A text encoder: one embedding a word, without its neighbours."""

import torch
from torch import Tensor, nn

from han_retrieval.errors import ConfigError
from han_retrieval.text.encoder import TextEncoderSizes


class BagOfWords(nn.Module):
    """Word ids to word embeddings of the joint size."""

    def __init__(self, vocabulary_size: int, joint_size: int):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, joint_size, padding_idx=0)

    def forward(self, words: Tensor, word_mask: Tensor) -> Tensor:
        """(T, n) int64 ids, (T, n) bool -> (T, n, d), zero at padding."""
        return torch.where(word_mask.unsqueeze(-1), self.embedding(words), 0)


def make(argument: str, config: TextEncoderSizes) -> nn.Module:
    """Called for ``--set model.text_encoder=bag-of-words``; ``argument`` is what stands behind a colon."""
    if argument:
        raise ConfigError(f"bag-of-words takes nothing behind a colon; got {argument!r}")
    return BagOfWords(config.vocabulary_size, config.joint_size)
