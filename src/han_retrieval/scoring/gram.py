"""Gram space, any number of blocks: scores of pairs without a d-wide vector of a pair.

Within a block everything but the soft-max is linear, h_l = A_l u_l(h_{l-1}) + c_l(h_{l-1}), and every number that the
score needs is a dot product. For linear maps x and y, the dot products x y' of a pair's tokens x(h_l) with its tokens
y(h_l) follow from four such matrices one block below: with xu = x(u_l(.)) and xc = x(c_l(.)),

    x y' = A_l (xu yu' A_l' + xu yc') + (xc yu' A_l' + xc yc')                                           (the lift)

and so on down to h_0, where x and y are vectors of one image or one text alone. There, what is inside an item is
computed once an item, and what crosses by a few large matrix products for all pairs, 6, 26 or 106 times m n d
multiply-adds a pair for one, two or three blocks. A_l is the soft-max of q_l k_l', itself lifted through the blocks
below.

Legend: I images of m regions, T texts of n words, z items of either kind with t tokens each, N tokens of all groups of
them, s = m + n tokens of a pair, P = T I pairs, d the joint size, L blocks. A map of h_l has f = 2^l *terms*, one for
each choice of u or c in every block up to l: those with u_l first, then those with c_l.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from han_retrieval.scoring.projections import AttentionBlock, project

Table = Sequence[Sequence[Tensor]]  # [x][y]: the dot products of term x with term y


class GroupedItems(NamedTuple):
    """Images or texts, in groups of z items with t tokens each.

    Attributes:
        terms: (f, N, d) terms of q_l and k_l for every block, then those of h_L twice.
        inner: For every group, the same dot products inside its items, (z, t, t).
        groups: (z, t) of every group.
    """

    terms: list[tuple[Tensor, Tensor]]
    inner: list[list[Table]]
    groups: list[tuple[int, int]]


def project_terms(tokens: Tensor, blocks: Sequence[AttentionBlock]) -> Tensor:
    """All that (N, d) tokens bring to pairs: the terms of q_1, k_1, ..., q_L, k_L and h_L, (3 2^L - 2, N, d)."""
    terms, found = [tokens], []
    for block in blocks:
        # The bias goes into the last term, that of c alone: it is added once a token.
        q, k, u, c = zip(*(project(block, x, with_bias=x is terms[-1]) for x in terms), strict=True)
        found += [*q, *k]
        terms = [*u, *c]
    return torch.stack([*found, *terms])


def group_items(terms: Tensor, groups: list[tuple[int, int]]) -> GroupedItems:
    """The (V, N, d) terms of items' tokens, group after group, and the dot products inside the items."""
    terms = terms.contiguous()
    inner: list[list[Table]] = [
        [[[x @ y.mT for y in ys] for x in xs] for xs, ys in _by_block(of_group.unflatten(1, group))]
        for group, of_group in zip(groups, terms.split([z * t for z, t in groups], dim=1), strict=True)
    ]
    return GroupedItems(_by_block(terms), inner, groups)


def _by_block(terms: Tensor) -> list[tuple[Tensor, Tensor]]:
    """What ``project_terms`` stacked, apart: (q_l, k_l) for every block and (h_L, h_L)."""
    pairs, f = [], 1
    while f < len(terms):
        q, k, terms = terms.split([f, f, len(terms) - 2 * f])
        pairs.append((q, k))
        f *= 2
    return [*pairs, (terms, terms)]


def joint_grams(
    images: GroupedItems, region_mask: Tensor, texts: GroupedItems, *, over: Sequence[str]
) -> Iterator[Tensor]:
    """The Gram matrix (T, I, s, s) of all final tokens of each pair, group of texts after group.

    ``images`` is one group, with its (I, m) mask; every token of ``texts`` is a word; ``over`` is each block's. What
    crosses is held for all groups at once, 26 m n numbers a pair for two blocks: some hundred texts are enough.
    """
    mask = None if bool(region_mask.all()) else region_mask
    sizes = [T * n for T, n in texts.groups]
    across = []  # of all groups at once, since then the matrix products are large
    for (x_o, y_o), (x_w, y_w) in zip(images.terms, texts.terms, strict=True):
        wo = torch.tensordot(x_w, y_o, ([2], [2]))  # (f, N, f, I m)
        ow = wo.permute(2, 3, 0, 1) if x_o is y_o else torch.tensordot(x_o, y_w, ([2], [2]))  # (f, I m, f, N)
        across.append((ow.split(sizes, dim=3), wo.split(sizes, dim=1)))
    for group, inner in enumerate(texts.inner):
        dots = [
            Dots(oo, [x.unbind(1) for x in ow[group]], [x.unbind(1) for x in wo[group]], ww)
            for oo, (ow, wo), ww in zip(images.inner[0], across, inner, strict=True)
        ]
        # For the backward pass keep what crosses; all above it is larger and cheaper, and computed again.
        attend = partial(checkpoint, _attend, use_reentrant=False, preserve_rng_state=False)
        yield (attend if torch.is_grad_enabled() else _attend)(dots, mask, over)


class Dots(NamedTuple):
    """Dot products of the terms of two maps for T I pairs: (I, m, m), (I m, T n), (T n, I m), (T, n, n)."""

    oo: Table
    ow: Table
    wo: Table
    ww: Table

    def of(self, x: int, y: int) -> Tensor:
        """Term x with term y for all tokens of a pair: (P, s, s)."""
        oo, ow, wo, ww = (table[x][y] for table in self)
        (I, m, _), (T, n, _) = oo.shape, ww.shape
        from_regions = torch.cat([oo.expand(T, I, m, m), ow.view(I, m, T, n).permute(2, 0, 1, 3)], dim=3)
        from_words = torch.cat([wo.view(T, n, I, m).transpose(1, 2), ww.unsqueeze(1).expand(T, I, n, n)], dim=3)
        return torch.cat([from_regions, from_words], dim=2).flatten(0, 1)


def _attend(dots: list[Dots], region_mask: Tensor | None, over: Sequence[str]) -> Tensor:
    """Up through the blocks, to the Gram matrix (T, I, s, s) of h_L."""
    *blocks, final = dots
    (I, m, _), (T, n, _) = final.oo[0][0].shape, final.ww[0][0].shape
    attention: list[Tensor] = []
    for block, sets in zip(blocks, over, strict=True):
        terms = range(len(block.oo))
        logits = _lift(block, terms, terms, attention).view(T, I, m + n, m + n)
        if region_mask is not None:
            mask = torch.cat([region_mask, region_mask.new_ones(I, n)], dim=1)
            logits = logits.masked_fill(~mask.unsqueeze(1), -torch.inf)
        if sets != "both":
            is_region = torch.arange(m + n, device=logits.device) < m
            same_set = is_region.unsqueeze(1) == is_region  # (s, s)
            unseen = {"own": ~same_set, "other": same_set, "one-way": is_region.unsqueeze(1) & ~is_region}[sets]
            logits = logits.masked_fill(unseen, -torch.inf)
        attention.append(logits.softmax(-1).flatten(0, 1))
    return _lift_symmetric(final, range(len(final.oo)), attention).view(T, I, m + n, m + n)


def _lift(dots: Dots, x: range, y: range, attention: list[Tensor]) -> Tensor:
    """x y' (P, s, s) above the blocks whose attention is given."""
    if not attention:
        return dots.of(x[0], y[0])
    *below, A = attention
    (xu, xc), (yu, yc) = _halves(x), _halves(y)

    def with_y(x: range) -> Tensor:
        return torch.baddbmm(_lift(dots, x, yc, below), _lift(dots, x, yu, below), A.mT)

    return torch.baddbmm(with_y(xc), A, with_y(xu))


def _lift_symmetric(dots: Dots, x: range, attention: list[Tensor]) -> Tensor:
    """x x' (P, s, s) with two products for three: B + B' + xc xc', where B = A (xu xu' A' / 2 + xu xc')."""
    if not attention:
        return dots.of(x[0], x[0])
    *below, A = attention
    xu, xc = _halves(x)
    half = A @ torch.baddbmm(_lift(dots, xu, xc, below), _lift_symmetric(dots, xu, below), A.mT, alpha=0.5)
    return half + half.mT + _lift_symmetric(dots, xc, below)


def _halves(x: range) -> tuple[range, range]:
    return x[: len(x) // 2], x[len(x) // 2 :]


def matches_from_gram(gram: Tensor, region_mask: Tensor, *, temperature: float, direction: str) -> Tensor:
    """Alignment and matching from the pairs' Gram matrices.

    With the rows of the tokens that attend, S_ij = g_i . s_j, alpha_i = softmax_j(lambda S_ij / (|g_i| |s_j|)), and
    r_i = (alpha_i . S_i) / (|g_i| |sum_j alpha_ij s_j|), where the last norm is alpha_i (s . s') alpha_i'.

    Args:
        gram: (T, I, s, s), regions first.
        region_mask: (I, m).
        temperature: lambda.
        direction: "words": words attend to regions; "regions": regions attend to words.

    Returns:
        (T, I, g) matches r, where g is n for words and m for regions (those of padding are to be left out).
    """
    m = region_mask.shape[1]
    regions, words = slice(None, m), slice(m, None)
    g, s = (words, regions) if direction == "words" else (regions, words)
    cross, inner = gram[..., g, s], gram[..., s, s]
    norms = positive_sqrt(gram.diagonal(dim1=-2, dim2=-1))
    cosines = cross / (norms[..., g].unsqueeze(-1) * norms[..., s].unsqueeze(-2))
    if direction == "words":
        cosines = cosines.masked_fill(~region_mask[None, :, None, :], -torch.inf)
    alpha = (temperature * cosines).softmax(-1)  # (T, I, g, s)
    attended_norm = positive_sqrt(((alpha @ inner) * alpha).sum(-1))
    return (alpha * cross).sum(-1) / (norms[..., g] * attended_norm)


def positive_sqrt(squares: Tensor) -> Tensor:
    """Square roots of squared lengths that rounding may have brought to 0 or below, with a finite gradient."""
    return squares.clamp_min(1e-24).sqrt()
