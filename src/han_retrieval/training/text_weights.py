"""What a text encoder starts with: pre-trained word vectors, or the weights of a pre-trained text encoder."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from han_retrieval.errors import ConfigError, DataError, ModelError
from han_retrieval.parsing import read_settings
from han_retrieval.storage.folder_checksums import refuse_damage, write_files
from han_retrieval.text import Vocabulary, word_vectors
from han_retrieval.text.frozen import FrozenEncoder, FrozenTokens
from han_retrieval.text.language_model import Backbone, same_language_model
from han_retrieval.text.tokenizer import Ids
from han_retrieval.text.vocabulary import SPECIAL_WORDS
from han_retrieval.training.config import TrainingConfig
from han_retrieval.weights import read_tensors, tensor_bytes

_VOCABULARY, _WEIGHTS, _NAMED = "vocabulary.json", "text_encoder.safetensors", "text_encoder.json"


class PretrainedText(NamedTuple):
    """A pre-trained text encoder: its words, its weights by name, and the fingerprint of its language model, if any."""

    vocabulary: Vocabulary
    weights: dict[str, Tensor]
    fingerprint: str | None = None

    def save(self, folder: Path) -> None:
        """Write it into a folder, with its checksums."""
        named = {} if self.fingerprint is None else {"fingerprint": self.fingerprint}
        contents = {_NAMED: json.dumps(named).encode()} if named else {}
        contents[_VOCABULARY] = self.vocabulary.to_json().encode()
        write_files(folder, {**contents, _WEIGHTS: tensor_bytes(self.weights)})


def load_pretrained_text(folder: str | Path) -> PretrainedText:
    """Read the folder that ``pretrain_text`` wrote.

    Raises:
        ModelError: A file is missing, damaged or not what it should be.
    """
    path = Path(folder)
    if not (path / _WEIGHTS).is_file():
        raise ModelError(
            f"{path}: no {_WEIGHTS} there; `han train-text --out {shlex.quote(str(path))}` writes it at its end"
        )
    named: Any = read_settings(path / _NAMED, kind=ModelError) if (path / _NAMED).is_file() else {}
    refuse_damage(path, [*([_NAMED] if named else []), _VOCABULARY, _WEIGHTS])
    fingerprint = named.get("fingerprint") if isinstance(named, dict) else named
    if not isinstance(fingerprint, str | None):
        raise ModelError(f"{path / _NAMED}: must give the language model's fingerprint as text")
    return PretrainedText(Vocabulary.load(path / _VOCABULARY), read_tensors(path / _WEIGHTS), fingerprint)


def start_from_text(encoder: nn.Module, pretrained: PretrainedText, folder: str) -> None:
    """Give a text encoder the weights of a pre-trained one.

    Raises:
        ModelError: It has other sizes, or another language model.
    """
    own = getattr(encoder, "fingerprint", None)
    if not same_language_model(own, pretrained.fingerprint):
        raise ModelError(
            f"{folder}: was trained on the language model {pretrained.fingerprint or 'none'}, not on {own or 'none'}: "
            "set model.text_encoder to the same"
        )
    try:
        encoder.load_state_dict(pretrained.weights)
    except RuntimeError:
        raise ModelError(
            f"{folder}: its text encoder has other sizes or parts than the model's; train it with the same "
            "options, such as model.word_size (a vse++ takes none, it reads in one direction)"
        ) from None


def frozen_tokens(
    encoder: nn.Module, sentences: Sequence[Ids], *, device: torch.device, progress: bool
) -> FrozenTokens | None:
    """Sentences' tokens by a text encoder with a frozen language model, which remembers them.

    None without one, without a ``fingerprint`` to tell them from another's, or where they cannot be kept.
    """
    if getattr(encoder, "frozen_size", None) is None or not hasattr(encoder, "fingerprint"):
        return None
    if not any(each.requires_grad for each in encoder.parameters()):
        return None
    tokens = FrozenTokens.of(cast(FrozenEncoder, encoder), sentences, device=device, progress=progress)
    encoder.remembered = tokens  # type: ignore[assignment]
    return tokens


def parameter_groups(module: nn.Module, config: TrainingConfig) -> list[tuple[list[nn.Parameter], float]]:
    """What is trained of a matcher or a text encoder: all but a language model, and that, at its own rate."""
    slow = [parameter for part in module.modules() if isinstance(part, Backbone) for parameter in part.parameters()]
    apart = set(map(id, slow))
    rest = [each for each in module.parameters() if each.requires_grad and id(each) not in apart]
    return [(rest, 1.0), *([(slow, config.text_lr_factor)] if slow else [])]


def word_embedding(encoder: nn.Module, vocabulary: Vocabulary, *, wanted_by: str) -> nn.Parameter:
    """The embedding (V, e) of the vocabulary's words in a text encoder, which the option ``wanted_by`` needs.

    Raises:
        ConfigError: It has no such ``embedding.weight``, or a tokenizer of its own, whose ids are no such words.
    """
    weight = dict(encoder.named_parameters()).get("embedding.weight")
    if weight is None or len(weight) != len(vocabulary) or getattr(encoder, "tokenizer", None) is not None:
        raise ConfigError(
            f"{wanted_by}: this text encoder has no word embeddings, or a tokenizer of its own; leave it out"
        )
    return weight


def start_from_vectors(encoder: nn.Module, vocabulary: Vocabulary, source: str) -> None:
    """Put word vectors into the first numbers of a text encoder's embeddings, scaled to their standard deviation.

    Raises:
        ConfigError: The encoder has no embeddings of the vocabulary's words.
        DataError: The source has none of the words, or its vectors are longer than embeddings.
        HANError: The source cannot be read.
    """
    weight = word_embedding(encoder, vocabulary, wanted_by=f"word_vectors = {source!r}")
    vectors, found = word_vectors(vocabulary.words, source=source)
    if not found[len(SPECIAL_WORDS) :].any():
        raise DataError(f"{source}: has none of the {len(vocabulary) - len(SPECIAL_WORDS):,} words of the captions")
    if vectors.shape[1] > weight.shape[1]:
        raise DataError(
            f"{source}: its vectors have {vectors.shape[1]} numbers, more than model.word_size = {weight.shape[1]}"
        )
    rows = torch.from_numpy(np.flatnonzero(found))
    start = torch.from_numpy(vectors)[rows]
    with torch.no_grad():
        weight[rows, : start.shape[1]] = start * (weight[len(SPECIAL_WORDS) :].std() / start.std())
