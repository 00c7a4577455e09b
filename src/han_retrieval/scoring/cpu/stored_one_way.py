"""``stored`` for images whose regions attend to regions alone: fewer products, fewer tables."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from han_retrieval.scoring.cpu.lanes import Array
from han_retrieval.scoring.cpu.one_way_stored_kernel import QueryWords, StoredRegions, against_images
from han_retrieval.scoring.cpu.pair_kernel import TextGrams
from han_retrieval.scoring.cpu.stored import StoredItems
from han_retrieval.scoring.one_way import attended_regions, attending_words
from han_retrieval.scoring.projections import AttentionBlock, Projections


class OneWayImages(StoredItems):
    """A collection of images. ``tables`` are ``StoredRegions``."""

    @classmethod
    def _tables(cls, _: AttentionBlock, projections: Projections, there: Tensor, /, **__: Any) -> tuple[Tensor, ...]:
        its = attended_regions(projections, there)
        return its.closed, its.lengths, its.inner, its.uu, projections.c @ its.u.mT, its.oo

    def _query(self, query: Tensor) -> tuple[tuple[Tensor, ...], list[tuple[Tensor, str]]]:
        one = Projections(*(x(query).unsqueeze(0) for x in self.maps))
        its = attending_words(one, torch.ones(one.q.shape[:2], dtype=torch.bool))
        grams = its.pp, its.pc, its.cc
        diagonals = (gram.diagonal(dim1=1, dim2=2) for gram in grams)
        tables = its.closed, its.lse, *diagonals, *(gram[0] for gram in grams if "regions" in self.directions)
        q, P, c = its.q[0], its.P[0], its.c[0]
        return tables, [(q, "k"), (P, "u"), (c, "u"), (P, "c"), (c, "c")]

    def _against(self, products: Array, its: tuple[Array, ...], mine: tuple[Array, ...], *rest: Any) -> None:
        count = len(QueryWords._fields)
        grams = TextGrams(*mine[count:]) if len(mine) > count else None
        against_images(products, StoredRegions(*its), QueryWords(*mine[:count]), grams, *rest)
