"""Rankings that get longer as people scroll."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from han_retrieval.search import CANDIDATES, Answer, Hit

_DEEPER = 4  # times as many candidates, when all that were ranked have been shown
_KEPT = 32


@dataclass(slots=True)
class Ranking:
    """The photos of a query, as far as they were asked for, best first.

    Attributes:
        total: How many photos there are to rank.
        hits: In order; they only get more.
        depth: How many candidates were ranked for them.
        nothing: No photo is likely to match.
    """

    total: int
    hits: list[Hit] = field(default_factory=list)
    depth: int = 0
    nothing: bool = False

    def grow(self, wanted: int, rank: Callable[[int], Answer]) -> dict[str, float]:
        """Have at least so many hits, if there are as many photos.

        Candidates are ranked in rounds, each of more than the one before, and a later round only adds photos behind
        those of earlier ones: what was shown keeps its place.

        Args:
            wanted: How many.
            rank: Ranks so many candidates and gives them all.

        Returns:
            Seconds by stage; empty where nothing had to be done.
        """
        seconds: dict[str, float] = {}
        while len(self.hits) < wanted and self.depth < self.total:
            depth = self.depth * _DEEPER or CANDIDATES
            answer = rank(depth)
            if not self.depth:
                self.nothing = answer.nothing
            there = {hit.row for hit in self.hits}
            self.hits += [hit for hit in answer.hits if hit.row not in there]
            self.depth = depth
            for stage, each in answer.seconds.items():
                seconds[stage] = seconds.get(stage, 0.0) + each
        return seconds


class Rankings:
    """Those that were asked for last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Ranking] = OrderedDict()

    def get(self, query: Hashable, total: Callable[[], int]) -> Ranking:
        """The ranking of a query; a new one knows how many photos there are to rank, and nothing else."""
        if query not in self._kept:
            self._kept[query] = Ranking(total())
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(query)
        return self._kept[query]

    def clear(self) -> None:
        """Forget them: the index is another one."""
        self._kept.clear()
