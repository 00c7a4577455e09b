"""Gram space for one block: the same scores as ``gram``, with what belongs to one item kept out of the pairs.

The soft-max over both sets is a mixture. With a_i the share of region i's attention that stays inside its image and p_i
the sum it would attend to there alone, and likewise b_j and P_j for a word inside its text,

    o^_i = a_i p_i + c_i + sum_k E_ik u_k        over words k,      E = A_ow, with a_i + sum_k E_ik = 1
    w^_j = b_j P_j + c_j + sum_i F_ij u_i        over regions i,    F = A_wo', with b_j + sum_i F_ij = 1

p is an image's own, so a pair keeps one number a_i in place of m weights. All that is left are (m, n) matrices.
Attention over one's own set alone is a = b = 1, over the other set alone a = b = 0.

Legend: I images, T texts of equal length, m regions, n words, d the joint size. Indices: i, l regions; j, k words.
Products of a region's vector with a word's are named region first, word second: UC_ij = u_i.c_j, PU_ij = u_i.P_j.
Here words attend to regions. ``cpu.pair_kernel`` and the files that it names have the same statements for one image and
a few texts at a time, their derivatives, and regions that attend to words; ``gpu.single_block_kernel`` has them for one
pair on a GPU.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from han_retrieval.scoring.gram import positive_sqrt
from han_retrieval.scoring.projections import Projections

CLOSED = -1e30
"""Added to the logits of a token that is not there. Finite, so that an item without tokens has no NaN."""


class Tables(NamedTuple):
    """All products of z items' vectors inside an item, t tokens each.

    Attributes:
        closed: (z, t), 0 or CLOSED.
        lse: (z, t), log-sum-exp of a token's logits inside its own item; -CLOSED where it attends to that alone, CLOSED
            where it does not.
        inner: (z, t, t), the soft-max inside the item: p = inner u.
        uu, pu, cu, pp, cc: (z, t, t) dot products of rows' vectors with columns'.
        pc: (z, t, t), 2 p.c, since it is only met doubled.
    """

    closed: Tensor
    lse: Tensor
    inner: Tensor
    uu: Tensor
    pu: Tensor
    cu: Tensor
    pp: Tensor
    pc: Tensor
    cc: Tensor


def tables(projections: Projections, mask: Tensor, *, over: str = "both") -> Tables:
    """Products inside z items: projections (z, t, d), mask (z, t), ``over`` of the block."""
    q, k, u, c = projections
    closed = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, CLOSED)
    logits = q @ k.mT + closed.unsqueeze(1)
    inner = logits.softmax(-1)
    # The share of a token's own set follows from this one number: far above all other logits or far below them.
    lse = logits.logsumexp(-1) if over == "both" else torch.full_like(closed, -CLOSED if over == "own" else CLOSED)
    uu, cu = u @ u.mT, c @ u.mT
    pu = inner @ uu
    return Tables(closed, lse, inner, uu, pu, cu, pp=pu @ inner.mT, pc=2 * inner @ cu.mT, cc=c @ c.mT)


class PreparedItems(NamedTuple):
    """What is computed once for z items of t tokens, and read by all their pairs.

    Attributes:
        vectors: (z, t, d) each, the factors of the large products, rounded to bfloat16 or not.
        tables: All products inside the items, of vectors that are not rounded.
        squares: The square tables once more, as ``gpu.single_block`` lays them out for its kernel, or None.
    """

    vectors: Projections
    tables: Tables
    squares: Tensor | None = None


def prepare(projections: Projections, mask: Tensor, *, factors: torch.dtype, over: str = "both") -> PreparedItems:
    """Projections (z, t, d) and mask (z, t) of items; ``factors``: what the large products' factors are rounded to."""
    return PreparedItems(Projections(*(x.to(factors) for x in projections)), tables(projections, mask, over=over))


def cross(of_images: Tensor, of_texts: Tensor, *, dtype: torch.dtype) -> Tensor:
    """Dot products (T, I, m, n) of regions' vectors (I, m, d) with words' (T, n, d), by one matrix product.

    ``dtype`` is the vectors' own, or float32 for vectors in bfloat16, which torch has on CUDA alone.
    """
    left, right = of_images.flatten(0, 1), of_texts.flatten(0, 1).mT
    rows = left @ right if left.dtype == dtype else torch.mm(left, right, out_dtype=dtype)  # (I m, T n)
    return rows.view(*of_images.shape[:2], *of_texts.shape[:2]).permute(2, 0, 1, 3)


class Products(NamedTuple):
    """The six large products of all pairs, (T, I, m, n) each: the first letter is the region's vector."""

    qk: Tensor
    kq: Tensor
    uu: Tensor
    uc: Tensor
    cu: Tensor
    cc: Tensor


def products(images: PreparedItems, texts: PreparedItems) -> Products:
    """Those of I images of m regions and T texts of n words, in the tables' dtype."""
    (q, k, u, c), w = images.vectors, texts.vectors
    factors = (q, w.k), (k, w.q), (u, w.u), (u, w.c), (c, w.u), (c, w.c)
    return Products(*(cross(*pair, dtype=images.tables.uu.dtype) for pair in factors))


def word_matches(images: PreparedItems, texts: PreparedItems, *, temperature: float) -> Tensor:
    """r_j of every word of every pair, (T, I, n). In plain torch, differentiable."""
    return matches_from_products(products(images, texts), images.tables, texts.tables, temperature=temperature)


def matches_from_products(
    between: Products, image_tables: Tables, text_tables: Tables, *, temperature: float
) -> Tensor:
    """The small part of ``word_matches``: all that follows the large products."""
    qk, kq, UU, UC, CU, CC = between
    io, tw = image_tables, text_tables
    N_o, N_w = io.inner, tw.inner.unsqueeze(1)  # (I, m, m), (T, 1, n, n)

    # Attention: of regions to words E (T, I, m, n), to their own image a (T, I, m, 1); of words F and b (T, I, 1, n).
    to_words = qk + tw.closed[:, None, None, :]
    E, a = mixture(to_words, io.lse[None, :, :, None], dim=3)
    to_regions = kq + io.closed[None, :, :, None]
    F, b = mixture(to_regions, tw.lse[:, None, None, :], dim=2)

    # Words: V = u_i.w^_j and W = w^_j.u_k, and their lengths (T, I, 1, n).
    PU, PC = UU @ N_w.mT, CU @ N_w.mT
    H = b * PU + UC
    V = H + io.uu @ F
    W = F.mT @ UU + b.mT * tw.pu.unsqueeze(1) + tw.cu.unsqueeze(1)
    pp, pc, cc = (gram.diagonal(dim1=1, dim2=2)[:, None, None, :] for gram in (tw.pp, tw.pc, tw.cc))
    w_norm = positive_sqrt((b * pp + pc) * b + cc + (F * (H + V)).sum(2, keepdim=True))

    # S_ij = o^_i.w^_j
    S = a * (N_o @ V) + io.cu @ F + b * PC + CC + E @ W.mT

    # Regions: B = u_k.(o^_i + a_i p_i + c_i), and their lengths (T, I, m, 1).
    B = 2 * (a * (N_o @ UU) + CU) + E @ tw.uu.unsqueeze(1)
    pp, pc, cc = (gram.diagonal(dim1=1, dim2=2)[None, :, :, None] for gram in (io.pp, io.pc, io.cc))
    o_norm = positive_sqrt((a * pp + pc) * a + cc + (E * B).sum(3, keepdim=True))

    # Alignment.
    alpha = (temperature * S / (w_norm * o_norm) + io.closed[None, :, :, None]).softmax(2)

    # Matching: a word attends to delta p + alpha c over regions + gamma u over words.
    delta = alpha * a
    squares = delta * (io.pp @ delta + io.pc @ alpha) + alpha * (io.cc @ alpha)
    gamma, R = alpha.mT @ E, alpha.mT @ B
    attended_norm = positive_sqrt(squares.sum(2) + (gamma * R).sum(3))  # (T, I, n)
    return (alpha * S).sum(2) / (w_norm.squeeze(2) * attended_norm)


def mixture(logits: Tensor, lse: Tensor, *, dim: int) -> tuple[Tensor, Tensor]:
    """The soft-max over the other side's logits and the own side's, whose log-sum-exp is ``lse``.

    Returns the other side's weights and the share that stays on the own side; they sum to 1 along ``dim``.
    """
    top = torch.maximum(logits.detach().amax(dim, keepdim=True), lse.detach())
    weights, own = (logits - top).exp(), (lse - top).exp()
    total = weights.sum(dim, keepdim=True) + own
    return weights / total, own / total
