"""Gram space for one block whose regions attend to regions alone: a photo's side is the same for every sentence.

    o^_i = p_i + c_i                                     an image's own, with all its products and lengths
    w^_j = b_j P_j + c_j + sum_i F_ij u_i                as in ``single_block``

Here without any d-wide vector of a pair: five large products, k_o.q_w, u_o.P_w, u_o.c_w, o^.P_w and o^.c_w, and what
follows the attention of the words is ``alignment`` of w^ with o^, without blocks:

    H = b UP + UC,   V = H + uu F                        u_i.(b P + c)_j and u_i.w^_j
    |w^|^2 = b^2 PP + 2 b Pc + cc + sum_i F (H + V)
    cos(o^_i, w^_j) = (b OP + OC + ou F) / |w^_j|        o^ brought to unit length beforehand

Legend: I images, T texts of equal length, m regions, n words, d the joint size. Indices: i regions; j, k words.
Products of a region's vector with a word's are named region first, word second: UC_ij = u_i.c_j, OP_ij = o^_i.P_j.
``cpu.one_way_kernel`` writes w^ down for one image and a few texts at a time, which takes three large products, and has
the derivatives. ``cpu.one_way_stored_kernel`` has the statements below for stored images.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from han_retrieval.scoring import alignment
from han_retrieval.scoring.alignment import Sources, closed_tokens, unit_tokens
from han_retrieval.scoring.gram import positive_sqrt
from han_retrieval.scoring.projections import Projections
from han_retrieval.scoring.single_block import cross, mixture


class AttendedRegions(NamedTuple):
    """z images after attention, m regions each.

    Attributes:
        k, u, unit: (z, m, d), the factors of the large products; unit: o^ at unit length, zeros where no region is.
        closed: (z, m), 0 or CLOSED.
        lengths: (z, m), |o^|.
        inner: (z, m, m), the soft-max inside the image: p = inner u.
        uu, ou, oo: (z, m, m), dot products among u and unit.
    """

    k: Tensor
    u: Tensor
    unit: Tensor
    closed: Tensor
    lengths: Tensor
    inner: Tensor
    uu: Tensor
    ou: Tensor
    oo: Tensor


class AttendingWords(NamedTuple):
    """z texts before they meet an image, n words each.

    Attributes:
        q, P, c: (z, n, d), the factors of the large products; P: what a word attends to inside its text.
        closed: (z, n), 0 or CLOSED.
        lse: (z, n), log-sum-exp of a word's logits inside its text.
        pp, pc, cc: (z, n, n) dot products; pc: 2 P.c.
    """

    q: Tensor
    P: Tensor
    c: Tensor
    closed: Tensor
    lse: Tensor
    pp: Tensor
    pc: Tensor
    cc: Tensor


def attend_inside(projections: Projections, closed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(z, t, d) projections and (z, t) of an item's own attention: log-sum-exp, soft-max and p = inner u."""
    logits = projections.q @ projections.k.mT + closed.unsqueeze(1)
    inner = logits.softmax(-1)
    return logits.logsumexp(-1), inner, inner @ projections.u


def attended_regions(projections: Projections, mask: Tensor) -> AttendedRegions:
    """All that images bring: projections (z, m, d), mask (z, m)."""
    closed = closed_tokens(mask, projections.q)
    _, inner, p = attend_inside(projections, closed)
    unit, lengths = unit_tokens((p + projections.c).masked_fill(~mask.unsqueeze(-1), 0))
    u = projections.u
    return AttendedRegions(projections.k, u, unit, closed, lengths, inner, u @ u.mT, unit @ u.mT, unit @ unit.mT)


def attending_words(projections: Projections, mask: Tensor) -> AttendingWords:
    """All that texts bring: projections (z, n, d), mask (z, n)."""
    closed = closed_tokens(mask, projections.q)
    lse, _, p = attend_inside(projections, closed)
    c = projections.c
    return AttendingWords(projections.q, p, c, closed, lse, p @ p.mT, 2 * p @ c.mT, c @ c.mT)


def matches(
    images: AttendedRegions,
    texts: AttendingWords,
    *,
    directions: tuple[str, ...],
    temperature: float,
    factors: torch.dtype,
) -> dict[str, Tensor]:
    """Matches r of all pairs, in plain torch, differentiable; ``factors``: what the products' factors are rounded to.

    By direction, (T, I, n) of words or (T, I, m) of regions; those of padding mean nothing.
    """
    pairs = (
        (images.k, texts.q),
        (images.u, texts.P),
        (images.u, texts.c),
        (images.unit, texts.P),
        (images.unit, texts.c),
    )
    KQ, UP, UC, OP, OC = (cross(x.to(factors), y.to(factors), dtype=x.dtype) for x, y in pairs)

    # Attention of words: to regions F (T, I, m, n), to their own text b (T, I, 1, n).
    F, b = mixture(KQ + images.closed[None, :, :, None], texts.lse[:, None, None, :], dim=2)
    H = b * UP + UC
    V = H + images.uu @ F
    pp, pc, cc = (gram.diagonal(dim1=1, dim2=2)[:, None, None, :] for gram in (texts.pp, texts.pc, texts.cc))
    w_norm = positive_sqrt((b * pp + pc) * b + cc + (F * (H + V)).sum(2, keepdim=True))
    X = (b * OP + OC + images.ou @ F) / w_norm

    found = {}
    if "words" in directions:
        regions = Sources(images.closed, images.lengths, images.oo)
        found["words"] = alignment.matches(X, regions, temperature=temperature, attention="cosine")
    if "regions" in directions:
        Z = b.mT * (b * texts.pp.unsqueeze(1) + texts.pc.unsqueeze(1)) + texts.cc.unsqueeze(1) + F.mT @ (H + V)
        cosines = (Z + Z.mT) / 2 / (w_norm.mT * w_norm)
        words = Sources(texts.closed.unsqueeze(1), w_norm.squeeze(2), cosines)
        found["regions"] = alignment.matches(X.mT, words, temperature=temperature, attention="cosine")
    return found
