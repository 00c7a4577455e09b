"""Scores of some photos with one sentence: ``scoring.single_block`` in NumPy, of words that attend to regions.

That module has the formulas. Here what is T texts there is one, so tables are (I, m, n).

Legend: I photos, m regions, n words, d the joint size.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from han_retrieval.light.encoder import Array, Weights, softmax

_CLOSED = np.float32(-1e30)


class Block:
    """One block of attention.

    Args:
        weights: By the names in ``matchers.han.HeterogeneousAttention``.
        temperature, residual, over: Of the block.
    """

    def __init__(self, weights: Weights, *, temperature: float, residual: str, over: str) -> None:
        self._residual, beta = residual, np.float32(temperature)
        one_way = over == "one-way"
        self._over = {"images": "own" if one_way else over, "texts": "both" if one_way else over}
        query, key, value, output = (weights[f"{name}.weight"] for name in ("query", "key", "value", "output"))
        self._weight = np.concatenate([beta * query, key, output @ value])
        self._bias = np.concatenate([beta * weights["query.bias"], weights["key.bias"], output @ weights["value.bias"]])
        self._output_bias, self._beta = weights["output.bias"], beta

    def project(self, tokens: Array) -> tuple[Array, Array, Array, Array]:
        """(..., d) tokens to q, k, u and c, (..., d) each."""
        q, k, u = np.split(tokens @ self._weight.T + self._bias, 3, axis=-1)
        if self._residual == "query":
            return q, k, u, np.divide(q, self._beta, dtype=np.float32) + self._output_bias
        return q, k, u, tokens + self._output_bias

    def inside(self, projections: tuple[Array, ...], mask: NDArray[np.bool_], *, of: str) -> Inside:
        """The tables inside z "images" or "texts": projections (z, t, d) and mask (z, t)."""
        q, k, u, c = projections
        closed = np.where(mask, np.float32(0), _CLOSED)
        logits = q @ _turned(k) + closed[:, np.newaxis]
        top = logits.max(-1, keepdims=True)
        weights = np.exp(logits - top)
        total = weights.sum(-1, keepdims=True)
        inner = weights / total
        lse = (top + np.log(total))[..., 0]
        over = self._over[of]
        if over != "both":
            lse = np.full_like(closed, -_CLOSED if over == "own" else _CLOSED)
        uu, cu = u @ _turned(u), c @ _turned(u)
        pu = inner @ uu
        return Inside(closed, lse, inner, uu, pu, cu, pu @ _turned(inner), 2 * inner @ _turned(cu), c @ _turned(c))


class Inside(NamedTuple):
    """What ``scoring.single_block.Tables`` has."""

    closed: Array
    lse: Array
    inner: Array
    uu: Array
    pu: Array
    cu: Array
    pp: Array
    pc: Array
    cc: Array


def word_matches(block: Block, photos: Array, mask: NDArray[np.bool_], words: Array, *, temperature: float) -> Array:
    """r of every word of a sentence with every photo, (I, n).

    Args:
        block: The block that both pass.
        photos: (I, m, d) tokens.
        mask: (I, m), true where a region is.
        words: (n, d) tokens.
        temperature: lambda.
    """
    there = mask[..., np.newaxis]
    of_photos = tuple(np.where(there, x, np.float32(0)) for x in block.project(np.where(there, photos, np.float32(0))))
    of_words = block.project(words)
    io = block.inside(of_photos, mask, of="images")
    tw = block.inside(tuple(x[np.newaxis] for x in of_words), np.ones((1, len(words)), bool), of="texts")

    def cross(photo: int, word: int) -> Array:
        return of_photos[photo] @ of_words[word].T  # (I, m, n)

    qk, kq, UU, UC, CU, CC = (cross(*pair) for pair in ((0, 1), (1, 0), (2, 2), (2, 3), (3, 2), (3, 3)))
    closed = io.closed[:, :, np.newaxis]
    E, a = _mixture(qk, io.lse[:, :, np.newaxis], axis=2)
    F, b = _mixture(kq + closed, tw.lse[:, np.newaxis, :], axis=1)

    PU, PC = UU @ _turned(tw.inner), CU @ _turned(tw.inner)
    H = b * PU + UC
    V = H + io.uu @ F
    W = _turned(F) @ UU + _turned(b) * tw.pu + tw.cu
    pp, pc, cc = (_diagonal(x)[:, np.newaxis, :] for x in (tw.pp, tw.pc, tw.cc))
    w_norm = _sqrt((b * pp + pc) * b + cc + (F * (H + V)).sum(1, keepdims=True))

    S = a * (io.inner @ V) + io.cu @ F + b * PC + CC + E @ _turned(W)

    B = 2 * (a * (io.inner @ UU) + CU) + E @ tw.uu
    pp, pc, cc = (_diagonal(x)[:, :, np.newaxis] for x in (io.pp, io.pc, io.cc))
    o_norm = _sqrt((a * pp + pc) * a + cc + (E * B).sum(2, keepdims=True))

    alpha = _turned(softmax(_turned(np.float32(temperature) * S / (w_norm * o_norm) + closed)))
    delta = alpha * a
    squares = delta * (io.pp @ delta + io.pc @ alpha) + alpha * (io.cc @ alpha)
    gamma, R = _turned(alpha) @ E, _turned(alpha) @ B
    attended = _sqrt(squares.sum(1) + (gamma * R).sum(2))
    return (alpha * S).sum(1) / (w_norm[:, 0] * attended)


def _mixture(logits: Array, lse: Array, *, axis: int) -> tuple[Array, Array]:
    """The soft-max over the other side's logits and the own side's, whose log-sum-exp is ``lse``."""
    top = np.maximum(logits.max(axis, keepdims=True), lse)
    weights, own = np.exp(logits - top), np.exp(lse - top)
    total = weights.sum(axis, keepdims=True) + own
    return weights / total, own / total


def _turned(x: Array) -> Array:
    return x.swapaxes(-1, -2)


def _diagonal(x: Array) -> Array:
    return x.diagonal(axis1=1, axis2=2)


def _sqrt(squares: Array) -> Array:
    return np.sqrt(np.maximum(squares, np.float32(1e-24)))
