"""The models that can be run without torch: a HAN of one block, words aligned with regions, read by MiniLM or a GRU.

Legend: n words, m regions, I photos, d the joint size.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from han_retrieval.errors import HANError
from han_retrieval.light.encoder import Array, MiniLM, Weights, bert_weights, gru_states, layer_norm, softmax
from han_retrieval.light.scores import Block, word_matches
from han_retrieval.matchers.saving import CONFIG, VOCABULARY, WEIGHTS, config_fields
from han_retrieval.search.pooling import TEXT_MAP
from han_retrieval.storage.folder_checksums import refuse_damage
from han_retrieval.text.tokenizer import EncodedSentence, WordTokenizer
from han_retrieval.text.vocabulary import Vocabulary

_WANTED = {"matcher": "han", "blocks": 1, "alignment": "words", "pooling": "mean"}
_GRUS = ("bigru", "gru")


class LightModel:
    """A model of a folder.

    Attributes:
        vocabulary: Its words.
    """

    vocabulary: Vocabulary

    def __init__(self, folder: Path, fields: dict[str, Any]) -> None:
        self._fields = fields
        self._weights = _read(folder / WEIGHTS)
        self._encoder = {name.removeprefix("text_encoder."): x for name, x in self._weights.items()}
        self.vocabulary = Vocabulary.load(folder / VOCABULARY)
        self._temperature = float(fields["alignment_temperature"])
        self._block = Block(
            {name.removeprefix("blocks.0."): x for name, x in self._weights.items()},
            temperature=fields["attention_temperature"],
            residual=fields["residual"],
            over=fields["attention_over"],
        )
        self._language_model: MiniLM | None = None
        if fields["text_encoder"] not in _GRUS:
            self._language_model = _minilm(fields["text_encoder_fingerprint"], trained=self._encoder)

    @classmethod
    def load(cls, folder: Path) -> LightModel | None:
        """The model of a folder; None where it takes torch, or is wrong in a way that loading with torch says."""
        try:
            fields = config_fields(folder)
            language_model = fields.get("text_encoder") == "minilm"
            if any(fields.get(name) != value for name, value in _WANTED.items()):
                return None
            if not language_model and fields.get("text_encoder") not in _GRUS:
                return None
            refuse_damage(folder, [CONFIG, WEIGHTS, VOCABULARY])
            return cls(folder, fields)
        except (HANError, KeyError, ValueError, TypeError, OSError, ImportError):
            return None

    def encode(self, sentence: str) -> EncodedSentence:
        """The ids and words of a sentence."""
        if self._language_model is not None:
            return self._language_model.tokenizer.encode(sentence)
        return WordTokenizer(self.vocabulary, self._fields["bos_eos"]).encode(sentence)

    def known_words(self, sentence: str) -> dict[str, bool]:
        """As ``Matcher.known_words``; empty where that refuses the sentence."""
        encoded = self.encode(sentence)
        if not any(encoded.known):
            return {}
        known: Sequence[bool] = encoded.known
        if self._language_model is not None:
            known = [word in self.vocabulary for word in encoded.words]
        return dict.fromkeys(encoded.left_out, False) | dict(zip(encoded.words, known, strict=True))

    def tokens(self, sentence: str) -> Array:
        """The tokens (n, d) of a sentence, of unit length."""
        ids = np.array(self.encode(sentence).ids)
        if self._language_model is None:
            states = gru_states(self._encoder["embedding.weight"][ids], self._encoder)
        else:
            layers = self._language_model.tokens(ids)  # (n, layers, h)
            if self._fields["text_layers"] == "mix":
                inputs: Array = softmax(self._encoder["mix"]) @ layer_norm(layers, 1e-5)
            else:
                inputs = layer_norm(layers[:, -1], 1e-5)
            if self._fields["text_head"] == "gru":
                states = gru_states(inputs, self._encoder)
            else:
                states = inputs @ self._encoder["head.weight"].T + self._encoder["head.bias"]
        return unit(states)

    def scores(self, photos: Array, mask: NDArray[np.bool_], words: Array) -> Array:
        """The scores (I,) of photos (I, m, d) and a sentence (n, d)."""
        return word_matches(self._block, photos, mask, words, temperature=self._temperature).mean(1)


class LightMap:
    """The map of a sentence's mean that ``han distil`` wrote, see ``search.pooling.TextMap``.

    Raises:
        ValueError: The file cannot be read.
    """

    def __init__(self, folder: Path, *, model: str) -> None:
        from safetensors import SafetensorError, safe_open

        self._map: Weights = {}
        refuse_damage(folder, [TEXT_MAP], anew="han distil")
        if (folder / TEXT_MAP).is_file():
            try:
                with safe_open(folder / TEXT_MAP, "numpy") as file:
                    if (file.metadata() or {}).get("model") == model:
                        self._map = {name: file.get_tensor(name) for name in ("weight", "bias")}
            except SafetensorError as error:
                raise ValueError(f"{folder / TEXT_MAP}: {error}") from None

    def pool(self, tokens: Array) -> Array:
        """The vector (d,) of a sentence (n, d), as ``search.pooling.MeanPooling``."""
        mean = unit(tokens.sum(0))
        return self._map["weight"] @ mean + self._map["bias"] if self._map else mean


def unit(x: Array) -> Array:
    """(..., d) of unit length, as torch's ``normalize``."""
    return x / np.maximum(np.sqrt((x * x).sum(-1, keepdims=True)), np.float32(1e-12))


def _read(file: Path) -> Weights:
    from safetensors.numpy import load_file

    return {name: x.astype(np.float32, copy=False) for name, x in load_file(file).items()}


def _minilm(fingerprint: str | None, *, trained: Weights) -> MiniLM:
    """The language model, with those of its weights that a text encoder has trained.

    Raises:
        ValueError: It is not here, or another than the model was trained with.
    """
    from safetensors import safe_open

    from han_retrieval.text.language_folder import folder_fingerprint

    folder = MiniLM.folder()
    if (
        folder is None
        or (fingerprint or "").rsplit("-", 2)[1:] != folder_fingerprint(folder, "minilm").rsplit("-", 2)[1:]
    ):
        raise ValueError("another language model")
    opened = safe_open(folder / "model.safetensors", "numpy").__enter__()
    large = "embeddings.word_embeddings.weight"  # of which a sentence takes some rows
    own = bert_weights(trained, prefix="trained_backbone.")
    kept = [name for name in opened.keys() if name != large and name not in own]  # noqa: SIM118
    weights = own | {name: opened.get_tensor(name) for name in kept}

    def rows(ids: Sequence[int]) -> Array:
        if large in own:
            return own[large][list(ids)]
        return np.concatenate([opened.get_slice(large)[int(i) : int(i) + 1] for i in ids])

    return MiniLM(folder, weights, rows)
