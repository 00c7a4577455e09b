"""Gram space for one block: the same scores as ``gram``, with what belongs to one item kept out of the pairs.

The soft-max over both sets is a mixture: with a_i the share of region i's attention that stays inside the image and
p_i the sum it would gather there alone, h~_i = a_i p_i + sum_k A_ik u_k + c_i over words k only. p is an image's own,
so a pair keeps one number a_i in place of m weights; likewise b_j and P_j for a word. All that is left for a pair are
(n, m) blocks.

Legend: I images, T texts of equal length, m regions, n words, d the joint size. Indices: i, l regions; j, k words.
Pair blocks have the layout (T, n, I, m) throughout, in which a matrix product of all texts with all images leaves them;
image-wise products read it as (I, T n, m) and text-wise ones as (T, n, I m), without a copy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from han_retrieval.scoring.gram import positive_sqrt
from han_retrieval.scoring.projections import Projections


@dataclass(frozen=True)
class Side:
    """One side of the pairs, z items with t tokens each: its projections and all dot products inside an item.

    Attributes:
        q, k, u, c: (z, t, d), see ``Projections``.
        p: (z, t, d), what a token gathers from its own item: softmax_l(q_i . k_l) u_l.
        lse: (z, t), log-sum-exp of a token's logits inside its own item.
        uu, pu, cu, pp, pc, cc: (z, t, t) dot products of rows' vectors with columns'.
        inner: (z, t, t), the soft-max inside the item: p = inner u.
    """

    q: Tensor
    k: Tensor
    u: Tensor
    c: Tensor
    p: Tensor
    lse: Tensor
    uu: Tensor
    pu: Tensor
    cu: Tensor
    pp: Tensor
    pc: Tensor
    cc: Tensor
    inner: Tensor


def side(projections: Projections, mask: Tensor | None = None) -> Side:
    """The precomputed side of z items: projections (z, t, d); mask (z, t), or None where every token is valid."""
    q, k, u, c = projections
    logits = q @ k.mT
    if mask is not None:
        logits = logits.masked_fill(~mask.unsqueeze(1), -torch.inf)
    inner = logits.softmax(-1)
    p = inner @ u
    return Side(
        q, k, u, c, p, logits.logsumexp(-1),
        uu=u @ u.mT, pu=p @ u.mT, cu=c @ u.mT, pp=p @ p.mT, pc=p @ c.mT, cc=c @ c.mT, inner=inner,
    )  # fmt: skip


def word_matches(images: Side, texts: Side, region_mask: Tensor | None, *, temperature: float) -> Tensor:
    """r_j of every word of every pair: (T, I, n)."""
    T, n, d = texts.u.shape
    I, m, _ = images.u.shape

    def cross(of_texts: Tensor, of_images: Tensor) -> Tensor:
        return (of_texts.reshape(-1, d) @ of_images.reshape(-1, d).mT).view(-1, n, I, m)

    def by_image(blocks: Tensor, matrices: Tensor) -> Tensor:
        """(T, n, I, m) @ (I, m, r m) -> (T, n, I, r m), an image's own matrix on its columns."""
        out = blocks.reshape(T * n, I, m).transpose(0, 1) @ matrices  # (I, T n, r m)
        return out.transpose(0, 1).unflatten(0, (T, n))

    def by_text(matrices: Tensor, blocks: Tensor) -> Tensor:
        """(T, n, n) @ (T, n, I, m) -> (T, n, I, m), a text's own matrix on its rows."""
        return (matrices @ blocks.reshape(T, n, I * m)).view(T, n, I, m)

    # Cross blocks, named by the word's vector and then the region's.
    u_u, c_u = cross(torch.cat([texts.u, texts.c]), images.u).split(T)
    u_c, c_c = cross(torch.cat([texts.u, texts.c]), images.c).split(T)
    u_p, c_p = by_image(u_u, images.inner.mT), by_image(c_u, images.inner.mT)
    P_u, P_c, P_p = by_text(texts.inner, u_u), by_text(texts.inner, u_c), by_text(texts.inner, u_p)

    # Attention: of regions to words, A_ow with own share a (T, 1, I, m); of words to regions, A_wo with b (T, n, I, 1).
    A_ow, a = _mixture(cross(texts.k, images.q), images.lse, dim=1)
    to_regions = cross(texts.q, images.k)
    if region_mask is not None:
        to_regions = to_regions.masked_fill(~region_mask, -torch.inf)
    A_wo, b = _mixture(to_regions, texts.lse.view(T, n, 1, 1), dim=3)

    # S_ji = w^_j . o^_i, with w^ = b P + c + A_wo u_o and o^ = a p + c + A_ow u_w.
    wo_uu, wo_up, wo_uc = by_image(A_wo, torch.cat([images.uu, images.pu.mT, images.cu.mT], dim=2)).split(m, dim=3)
    from_words = (
        _per_pair_dot(A_wo, u_u)
        + b.squeeze(3).transpose(1, 2).unsqueeze(3) * texts.pu.unsqueeze(1)
        + texts.cu.unsqueeze(1)
    )
    S = a * (b * P_p + c_p + wo_up) + b * P_c + c_c + wo_uc + _per_pair_apply(from_words, A_ow)

    # Squared lengths of w^ (T, n, I, 1) and of o^ (T, 1, I, m).
    pp, pc, cc = (gram.diagonal(dim1=1, dim2=2).reshape(T, n, 1, 1) for gram in (texts.pp, texts.pc, texts.cc))
    own = (b * pp + 2 * pc) * b + cc
    w_norm = positive_sqrt(own + (A_wo * (wo_uu + 2 * (b * P_u + c_u))).sum(3, keepdim=True))
    pp, pc, cc = (gram.diagonal(dim1=1, dim2=2) for gram in (images.pp, images.pc, images.cc))  # (I, m)
    own = (a * pp + 2 * pc) * a + cc
    on_words = a * u_p + u_c  # u_k . (a_i p_i + c_i)
    o_norm = positive_sqrt(own + (A_ow * (by_text(texts.uu, A_ow) + 2 * on_words)).sum(1, keepdim=True))

    # Alignment.
    logits = S * (temperature / (w_norm * o_norm))
    if region_mask is not None:
        logits = logits.masked_fill(~region_mask, -torch.inf)
    alpha = logits.softmax(3)

    # |o~_j|^2, with o~ = delta p + alpha c over regions + gamma u over words, delta = alpha a and gamma = alpha A_ow'.
    delta = alpha * a
    d_pp, d_pc = by_image(delta, torch.cat([images.pp, 2 * images.pc], dim=2)).split(m, dim=3)
    a_cc = by_image(alpha, images.cc)
    gamma = _per_pair_dot(alpha, A_ow)  # (T, I, n, n)
    squares = (delta * d_pp + alpha * (d_pc + a_cc)).sum(3).transpose(1, 2)  # (T, I, n)
    squares = squares + (gamma * (2 * _per_pair_dot(alpha, on_words) + gamma @ texts.uu.unsqueeze(1))).sum(3)
    return (alpha * S).sum(3).transpose(1, 2) / (w_norm.squeeze(3).transpose(1, 2) * positive_sqrt(squares))


def _mixture(logits: Tensor, lse: Tensor, *, dim: int) -> tuple[Tensor, Tensor]:
    """The soft-max over the other side's logits and the own side's, whose log-sum-exp is ``lse``.

    Returns the other side's weights and the share that stays on the own side; they sum to 1 along ``dim``.
    """
    top = torch.maximum(logits.detach().amax(dim, keepdim=True), lse.detach())
    weights, own = (logits - top).exp(), (lse - top).exp()
    total = weights.sum(dim, keepdim=True) + own
    return weights / total, own / total


def _per_pair_dot(left: Tensor, right: Tensor) -> Tensor:
    """Sum over regions, pair by pair: (T, n, I, m), (T, n, I, m) -> (T, I, n, n).

    A loop over texts, since only then the batch is one stride and no block is copied.
    """
    pairs = zip(left.unbind(), right.unbind(), strict=True)
    return torch.stack([x.transpose(0, 1) @ y.permute(1, 2, 0) for x, y in pairs])


def _per_pair_apply(weights: Tensor, blocks: Tensor) -> Tensor:
    """Sum over words, pair by pair: (T, I, n, n), (T, n, I, m) -> (T, n, I, m)."""
    pairs = zip(weights.unbind(), blocks.unbind(), strict=True)
    return torch.stack([(x @ y.transpose(0, 1)).transpose(0, 1) for x, y in pairs])
