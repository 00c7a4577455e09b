"""Pages of results, from rankings that grow as people scroll."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from han_retrieval.errors import QueryError
from han_retrieval.search import CANDIDATES, Hit, SearchResult

_GROWTH = 4  # each round ranks so many times the candidates of the round before


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page of a list of photos a request asks for.

    Attributes:
        first: Position of the page's first photo in the list, from 0.
        count: How many photos at most.
        where: SQL condition on the index's columns, or None for all photos.
    """

    first: int
    count: int
    where: str | None = None


@dataclass(slots=True)
class Ranking:
    """The photos of a query, best first, as far as they were asked for.

    Attributes:
        total: How many photos there are to rank.
        hits: The photos ranked so far, without their regions; photos are only added at the end.
        depth: How many candidates were ranked for them.
        nothing: No photo is likely to match.
        step: How many candidates more the next round ranks.
    """

    total: int
    hits: list[Hit] = field(default_factory=list)
    depth: int = 0
    nothing: bool = False
    step: int = field(default_factory=lambda: CANDIDATES)

    def grow(self, wanted: int, rank: Callable[[int], SearchResult]) -> dict[str, float]:
        """Rank until there are ``wanted`` hits, or all photos are ranked.

        Each round ranks more candidates than the one before. Its new photos are added behind those of earlier rounds,
        so that photos that were shown keep their positions. Returns seconds by stage, empty if there were enough hits.
        After a round that took too long, the next one is smaller.
        """
        seconds: dict[str, float] = {}
        while len(self.hits) < wanted and self.depth < self.total:
            depth = self.depth + self.step
            try:
                found = rank(depth)
            except QueryError:
                self.step = max(CANDIDATES, self.step // _GROWTH)
                raise
            if not self.depth:
                self.nothing = found.nothing_matches
            known = {hit.row for hit in self.hits}
            # Lists show no regions, and many rankings are kept.
            self.hits += [replace(hit, boxes=None, labels=None) for hit in found.hits if hit.row not in known]
            self.depth, self.step = depth, depth * (_GROWTH - 1)
            for stage, duration in found.seconds.items():
                seconds[stage] = seconds.get(stage, 0.0) + duration
        return seconds
