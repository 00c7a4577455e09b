"""Gram space, any number of blocks: scores of pairs without a d-wide vector of a pair.

Within a block everything but the soft-max is linear, so a token of a pair stays a short linear combination of vectors
that belong to one image or one text alone, and every number that the score needs is a dot product of such vectors.

Legend: I images, T texts of equal length, m regions, n words, s = m + n tokens of a pair, d the joint size.
A *term* is a pair of coefficients (T, I, s, s) and basis vectors, m an image and n a text; a pair's tokens are the
sum over terms of coefficients @ basis. Coefficients None stand for the identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from han_retrieval.scoring.projections import AttentionBlock, project


class Basis(NamedTuple):
    """Vectors of items: (I, m, d) of images, (T, n, d) of texts."""

    images: Tensor
    texts: Tensor


Term = tuple[Tensor | None, Basis]


def joint_gram(
    image_tokens: Tensor, region_mask: Tensor, text_tokens: Tensor, blocks: Sequence[AttentionBlock]
) -> Tensor:
    """The Gram matrix of all final tokens of each pair: (I, m, d), (I, m), (T, n, d) -> (T, I, s, s)."""
    terms: list[Term] = [(None, Basis(image_tokens, text_tokens))]
    word_mask = torch.ones(text_tokens.shape[:2], dtype=torch.bool, device=text_tokens.device)
    mask = torch.cat(
        [_spread_images(region_mask, word_mask), _spread_texts(word_mask, region_mask)], dim=2
    )  # (T, I, s)
    for block in blocks:
        queries, keys, attended, added = [], [], [], []
        for coefficients, basis in terms:
            # The bias goes into the term with the identity: it is added once a token.
            of_images = project(block, basis.images, with_bias=coefficients is None)
            of_texts = project(block, basis.texts, with_bias=coefficients is None)
            q, k, u, c = (Basis(*both) for both in zip(of_images, of_texts, strict=True))
            queries.append((coefficients, q))
            keys.append((coefficients, k))
            attended.append((coefficients, u))
            added.append((coefficients, c))
        logits = _dot(queries, keys).masked_fill(~mask.unsqueeze(2), -torch.inf)
        attention = logits.softmax(-1)  # A (T, I, s, s)
        # h~ = A u + c, term by term: the number of terms doubles with each block.
        terms = [(attention if k is None else attention @ k, basis) for k, basis in attended] + added
    return _dot(terms, terms)


def _dot(left: Sequence[Term], right: Sequence[Term]) -> Tensor:
    """Dot products of all tokens of a pair, sum over terms of K G K'^T: (T, I, s, s)."""
    total: Tensor | None = None
    for k_left, basis_left in left:
        for k_right, basis_right in right:
            gram = _gram(basis_left, basis_right)
            gram = gram if k_left is None else k_left @ gram
            gram = gram if k_right is None else gram @ k_right.mT
            total = gram if total is None else total + gram
    assert total is not None  # there is always the term of the tokens themselves
    return total


def _gram(left: Basis, right: Basis) -> Tensor:
    """(T, I, s, s): what is inside one image or one text is computed once, what crosses is two matrix products."""
    oo = _spread_images(left.images @ right.images.mT, left.texts)
    ww = _spread_texts(left.texts @ right.texts.mT, left.images)
    ow = torch.einsum("imd,tnd->timn", left.images, right.texts)
    wo = torch.einsum("tnd,imd->tinm", left.texts, right.images)
    return torch.cat([torch.cat([oo, ow], dim=3), torch.cat([wo, ww], dim=3)], dim=2)


def _spread_images(of_images: Tensor, texts: Tensor) -> Tensor:
    """(I, ...) seen as (T, I, ...)."""
    return of_images.unsqueeze(0).expand(texts.shape[0], *of_images.shape)


def _spread_texts(of_texts: Tensor, images: Tensor) -> Tensor:
    """(T, ...) seen as (T, I, ...)."""
    return of_texts.unsqueeze(1).expand(of_texts.shape[0], images.shape[0], *of_texts.shape[1:])


def matches_from_gram(gram: Tensor, region_mask: Tensor, *, temperature: float, gatherers: str) -> Tensor:
    """Alignment and matching from the pairs' Gram matrices.

    With the gatherers' rows of the Gram matrix, S_ij = g_i . s_j, alpha_i = softmax_j(lambda S_ij / (|g_i| |s_j|)), and
    r_i = (alpha_i . S_i) / (|g_i| |sum_j alpha_ij s_j|), where the last norm is alpha_i (s . s') alpha_i'.

    Args:
        gram: (T, I, s, s), regions first.
        region_mask: (I, m).
        temperature: lambda.
        gatherers: "words" or "regions".

    Returns:
        (T, I, g) matches r, where g is n for words and m for regions (those of padding are to be left out).
    """
    m = region_mask.shape[1]
    regions, words = slice(None, m), slice(m, None)
    g, s = (words, regions) if gatherers == "words" else (regions, words)
    cross, inner = gram[..., g, s], gram[..., s, s]
    norms = positive_sqrt(gram.diagonal(dim1=-2, dim2=-1))
    cosines = cross / (norms[..., g].unsqueeze(-1) * norms[..., s].unsqueeze(-2))
    if gatherers == "words":
        cosines = cosines.masked_fill(~region_mask[None, :, None, :], -torch.inf)
    alpha = (temperature * cosines).softmax(-1)  # (T, I, g, s)
    picture = positive_sqrt(((alpha @ inner) * alpha).sum(-1))
    return (alpha * cross).sum(-1) / (norms[..., g] * picture)


def positive_sqrt(squares: Tensor) -> Tensor:
    """Square roots of squared lengths that rounding may have brought to 0 or below, with a finite gradient."""
    return squares.clamp_min(1e-24).sqrt()
