"""All pairs through any number of blocks, in either direction: ``gram`` in chunks.

Items are projected for many pairs at once (the terms of a few hundred images and texts fit in memory), pairs are lifted
for few at once (their tables fit in cache).

Legend: I images, T texts, m regions, n words, s = m + n tokens of a pair, d the joint size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from han_retrieval.scoring.gram import group_items, joint_grams, matches_from_gram, project_terms
from han_retrieval.scoring.matching import Items, Matching
from han_retrieval.scoring.projections import AttentionBlock

ITEMS_AT_ONCE = 256  # that are projected
IMAGES_AT_ONCE = 32  # whose pairs are lifted


def scores(items: Items, *, blocks: Sequence[AttentionBlock], matching: Matching, chunk_elements: int) -> Tensor:
    """(I, T) scores of all pairs; ``chunk_elements`` bounds a chunk's (s, s) tables."""
    image_tokens, region_mask, text_tokens, word_mask = items
    m, over = region_mask.shape[1], [block.over for block in blocks]
    lengths = word_mask.sum(1)
    order = lengths.argsort(stable=True)
    columns: list[Tensor] = []
    for tokens, mask in zip(image_tokens.split(ITEMS_AT_ONCE), region_mask.split(ITEMS_AT_ONCE), strict=True):
        masks = mask.split(IMAGES_AT_ONCE)
        terms = project_terms(tokens.masked_fill(~mask.unsqueeze(2), 0).flatten(0, 1), blocks)
        images = [
            group_items(some, [(len(of), m)])
            for some, of in zip(terms.split(IMAGES_AT_ONCE * m, dim=1), masks, strict=True)
        ]  # fmt: skip
        rows: list[Tensor] = []
        for texts in order.split(ITEMS_AT_ONCE):
            groups: list[Tensor] = []  # of one length, and few enough
            for n in lengths[texts].unique().tolist():
                at_once = chunk_elements // (min(IMAGES_AT_ONCE, len(mask)) * (m + n) ** 2)
                groups += texts[lengths[texts] == n].split(max(1, at_once))
            words = torch.cat([text_tokens[group][word_mask[group]] for group in groups])
            sizes = [(len(group), int(lengths[group[0]])) for group in groups]
            of_texts = group_items(project_terms(words, blocks), sizes)
            row = [
                torch.cat([_pooled(gram, of, matching) for gram in joint_grams(of_images, of, of_texts, over=over)])
                for of_images, of in zip(images, masks, strict=True)
            ]
            rows.append(torch.cat(row, dim=1))
        columns.append(torch.cat(rows))
    return torch.cat(columns, dim=1)[order.argsort()].mT


def _pooled(gram: Tensor, region_mask: Tensor, matching: Matching) -> Tensor:
    """(T, I, s, s) to (T, I)."""
    found = {
        direction: matches_from_gram(gram, region_mask, temperature=matching.temperature, direction=direction)
        for direction in matching.directions
    }
    words = region_mask.new_ones(gram.shape[-1] - region_mask.shape[1])
    return matching.scores(found, region_mask=region_mask, word_mask=words)
