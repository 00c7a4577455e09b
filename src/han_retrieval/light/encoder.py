"""Sentences to tokens: ``text.bert`` with the head of ``text.language_model``, and ``text.bigru``, one at a time.

Legend: n rows of ids (words), s places of a row, L sub-words, h numbers a state, e numbers an embedding, d the joint
size.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from han_retrieval.errors import ModelError
from han_retrieval.parsing import read_settings
from han_retrieval.text.bert_names import LAYER_NAMES, MINILM

Array = NDArray[np.float32]
Weights = dict[str, Array]
ReadRows = Callable[[Sequence[int]], Array]
"""Some rows of the embeddings of sub-words, which are too many to be read for one sentence."""


def gru_states(inputs: Array, weights: Weights) -> Array:
    """The states of torch's GRU, the mean of both directions where there are two: (n, e) to (n, d)."""
    forward = _one_direction(inputs, weights, "l0")
    if "gru.weight_ih_l0_reverse" not in weights:
        return forward
    return np.float32(0.5) * (forward + _one_direction(inputs[::-1], weights, "l0_reverse")[::-1])


def _one_direction(inputs: Array, weights: Weights, suffix: str) -> Array:
    w_in, w_state, b_in, b_state = (
        weights[f"gru.{name}_{suffix}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    state = np.zeros(w_state.shape[1], np.float32)
    states = []
    for each in inputs @ w_in.T + b_in:
        (in_r, in_z, in_n), (r, z, n) = np.split(each, 3), np.split(w_state @ state + b_state, 3)
        reset, update = _sigmoid(in_r + r), _sigmoid(in_z + z)
        state = (1 - update) * np.tanh(in_n + reset * n) + update * state
        states.append(state)
    return np.stack(states)


def _sigmoid(x: Array) -> Array:
    return 0.5 * (np.tanh(0.5 * x) + 1)


class MiniLM:
    """The language model ``minilm``, from its package's folder and with the weights given."""

    def __init__(self, folder: Path, weights: Weights, read_rows: ReadRows) -> None:
        from tokenizers import Tokenizer

        from han_retrieval.text.subwords import SubwordTokenizer, TextSplitter, start_and_end

        self._sizes: dict[str, Any] = read_settings(folder / "config.json", kind=ModelError)
        self._weights, self._read_rows = weights, read_rows
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        split = TextSplitter(tokenizer)
        self._start, self._end = start_and_end(tokenizer)
        most = self._sizes["max_position_embeddings"] - len(self._start) - len(self._end)
        self.tokenizer = SubwordTokenizer(split, most, tokenizer.token_to_id("[UNK]"))

    @staticmethod
    def folder() -> Path | None:
        """Where it is; None where it is not installed."""
        found = importlib.util.find_spec(MINILM)
        return None if found is None or found.origin is None else Path(found.origin).parent / "model"

    def tokens(self, rows: NDArray[np.int64]) -> Array:
        """(n, s) ids, as the tokenizer gives them, to (n, layers, h): the mean of each row's own sub-words."""
        from han_retrieval.text.subwords import EMPTY, beside

        there = rows != EMPTY
        ids, row = rows[there], np.nonzero(there)[0]
        own = ids >= 0
        whole = [*self._start, *np.where(own, ids, beside(ids)).tolist(), *self._end]
        states = self._states(whole)[:, len(self._start) : len(self._start) + len(ids)]  # (layers, L, h)
        sums = np.zeros((len(rows), *states.shape[::2]), np.float32)
        np.add.at(sums, row[own], states.transpose(1, 0, 2)[own])
        return sums / np.maximum((rows >= 0).sum(1), 1)[:, np.newaxis, np.newaxis].astype(np.float32)

    def _states(self, ids: Sequence[int]) -> Array:
        """The states (layers, L, h) of all layers."""
        w, eps = self._weights, self._sizes["layer_norm_eps"]
        x = self._read_rows(ids)
        x = x + w["embeddings.position_embeddings.weight"][: len(ids)] + w["embeddings.token_type_embeddings.weight"][0]
        states = [self._norm(x, "embeddings.LayerNorm", eps)]
        for layer in range(self._sizes["num_hidden_layers"]):
            at, x = f"encoder.layer.{layer}", states[-1]
            x = self._norm(x + self._attend(x, f"{at}.attention"), f"{at}.attention.output.LayerNorm", eps)
            inner = _gelu(self._linear(x, f"{at}.intermediate.dense"))
            states.append(self._norm(x + self._linear(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm", eps))
        return np.stack(states)

    def _attend(self, x: Array, at: str) -> Array:
        heads = self._sizes["num_attention_heads"]
        q, k, v = (
            self._linear(x, f"{at}.self.{name}").reshape(len(x), heads, -1).transpose(1, 0, 2)
            for name in ("query", "key", "value")
        )  # (heads, L, h / heads)
        logits = q @ k.transpose(0, 2, 1) / np.float32(np.sqrt(q.shape[2]))
        found = softmax(logits) @ v
        return self._linear(found.transpose(1, 0, 2).reshape(x.shape), f"{at}.output.dense")

    def _linear(self, x: Array, name: str) -> Array:
        return x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]

    def _norm(self, x: Array, name: str, eps: float) -> Array:
        return layer_norm(x, eps) * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def bert_weights(weights: Weights, *, prefix: str) -> Weights:
    """Those weights of ``text.bert`` that there are behind a prefix, by BERT's own names."""
    found: Weights = {}
    for name, x in weights.items():
        if not name.startswith(prefix):
            continue
        *module, part = name.removeprefix(prefix).split(".")
        match module:
            case ["word" | "position" as kind]:
                found[f"embeddings.{kind}_embeddings.weight"] = x
            case ["segment"]:
                found["embeddings.token_type_embeddings.weight"] = x
            case ["norm"]:
                found[f"embeddings.LayerNorm.{part}"] = x
            case ["encoder", layer, "self_attn"]:  # in_proj_weight or in_proj_bias
                for each, own in zip(("query", "key", "value"), np.split(x, 3), strict=True):
                    found[f"encoder.layer.{layer}.attention.self.{each}.{part.removeprefix('in_proj_')}"] = own
            case ["encoder", layer, *inner]:
                found[f"encoder.layer.{layer}.{LAYER_NAMES['.'.join(inner)]}.{part}"] = x
    return found


def layer_norm(x: Array, eps: float) -> Array:
    """(..., h) with mean 0 and variance 1."""
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(eps))


def softmax(logits: Array) -> Array:
    """Weights that sum to 1 along the last axis."""
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def _gelu(x: Array) -> Array:
    """x Phi(x), whose erf is formula 7.1.26 of Abramowitz and Stegun: to 1.5e-7."""
    y = np.abs(x) * np.float32(np.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * y)
    tail = np.zeros_like(t)
    for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        tail = (tail + np.float32(factor)) * t
    return 0.5 * x * (1 + np.sign(x) * (1 - tail * np.exp(-y * y)))
