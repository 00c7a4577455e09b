"""An index in parts: each shard keeps the pooled vectors of some photos and scores these, a front merges the answers.

The S shards of N photos are rows s N / S to (s + 1) N / S - 1, neighbours in the table and so in its fragments. The
front has the photos' columns, and reads what the page shows of single photos.

Legend: N photos, T queries, K rows, P parts of a query, e numbers a pooled vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from han_retrieval.clock import Clock
from han_retrieval.scoring.kernels import finish_loading
from han_retrieval.search.index import Index
from han_retrieval.search.opened import Unreadable
from han_retrieval.search.parts import encode_part, score_parts
from han_retrieval.search.query import Part
from han_retrieval.search.reader import IndexReader
from han_retrieval.search.rows import to_vectors
from han_retrieval.search.settings import Settings
from han_retrieval.search.unknown import some_sentence
from han_retrieval.search.vectors import Rows
from han_retrieval.storage.sound import SoundRows, read_all

if TYPE_CHECKING:
    from han_retrieval.search.reader import Score


class Version(NamedTuple):
    """A state of an index: the folder of its table, the table's version, and a hash of what this version says.

    Rows of two states are not the same. Of a table that was made anew, versions have the same numbers.
    """

    table: str
    number: int
    content: str


def version_of(index: IndexReader) -> Version:
    """The state that was opened."""
    assert index._opened is not None
    return Version(index.settings.table, int(index._dataset.version), index._opened.content)


def first_row(photos: int, shard: int, shards: int) -> int:
    """The first row of a shard, and so the end of the one before it."""
    return photos * shard // shards


class ShardReader(IndexReader):
    """The part of an index that is one shard: its pooled vectors are in memory, those of other photos are not read.

    Args:
        path: The index's folder.
        shard, shards: Which of how many.

    Attributes:
        begin, end: Its rows are those from ``begin`` on and before ``end``.
    """

    _uses_vector_index = False  # a shard has its vectors in memory

    def __init__(self, path: str | Path, shard: int, shards: int) -> None:
        self._shard, self._shards = shard, shards
        self.begin = self.end = 0
        super().__init__(path)

    def _read_pooled(
        self, settings: Settings, dataset: Any, ids: NDArray[np.uint64], sound: SoundRows, size: int
    ) -> NDArray[np.float32]:
        self.begin, self.end = (first_row(len(ids), each, self._shards) for each in (self._shard, self._shard + 1))
        rows = read_all(dataset, ["pooled"], range(self.begin, self.end))
        sound.require(range(self.begin, self.end), rows)
        return to_vectors(rows["pooled"]) if len(rows) else np.empty((0, size), np.float32)

    def candidates(
        self, queries: Tensor, k: int, *, rows: Rows | None = None, where: str | None = None
    ) -> tuple[Rows, NDArray[np.float32]]:
        """As of the index, among the rows of this shard."""
        if rows is not None:
            rows = rows[(rows >= self.begin) & (rows < self.end)] - self.begin
        found, near = super().candidates(queries, k, rows=rows)
        return found + self.begin, near


class Shard:
    """A shard with its model, which answers for a state of the index: a newer one is loaded when it is asked for.

    Args:
        index: The index's folder.
        model: The folder of its model, if it was moved.
        shard, shards: Which of how many.

    Raises:
        HANError: The index or the model is missing, or they do not belong together.
    """

    def __init__(self, index: str | Path, model: str | Path | None, shard: int, shards: int) -> None:
        self._reader = ShardReader(index, shard, shards)
        self._folder = model
        self._model, self._loaded = self._reader.load_model(model), self._reader.made_by.model

    def warm_up(self) -> None:
        """Score once, so that the first request does not wait for loading."""
        sentence = some_sentence(self._model)
        rows = np.arange(self._reader.begin, min(self._reader.end, self._reader.begin + 1))
        if sentence is not None:
            parts = [encode_part(self._reader, self._model, Part(text=sentence))]
            self._reader.scores(rows, partial(score_parts, self._model, parts), clock=Clock())
            finish_loading()

    def candidates(
        self, version: Version, queries: NDArray[np.float32], k: int, where: str | None
    ) -> tuple[Rows, NDArray[np.float32]]:
        """(T, k) rows and dot products of the nearest photos that meet a condition."""
        reader = self._at(version)
        rows = None if where is None else reader.filter(where)
        return reader.candidates(torch.from_numpy(queries.copy()), k, rows=rows)

    def scores(self, version: Version, rows: Rows, scoring: Any, what: Any) -> NDArray[np.float32]:
        """The scores (P, K) of rows by ``scoring(model, what, photos)``."""
        reader = self._at(version)
        if reader.made_by.model != self._loaded:
            self._model, self._loaded = reader.load_model(self._folder), reader.made_by.model
        return reader.scores(rows, partial(scoring, self._model, what), clock=Clock())[1]

    def reach(self, version: Version) -> Version:
        """Read this state of the index, and return it."""
        return version_of(self._at(version))

    def _at(self, version: Version) -> ShardReader:
        if version_of(self._reader) != version:
            self._reader.refresh()
        if version_of(self._reader) != version:
            raise Unreadable(f"{self._reader.path}: changes just now; try again in a few seconds")
        return self._reader


class Shards(Protocol):
    """Where shards are asked, all at once."""

    @property
    def count(self) -> int: ...  # noqa: D102

    def ask(self, method: str, arguments: Sequence[tuple[Any, ...] | None]) -> list[Any | None]:
        """The answers of the shards to a method of ``Shard``; None of those that do not answer or are not asked.

        Args:
            method: Its name.
            arguments: For each shard; None where it need not answer.

        Raises:
            HANError: A shard raised it, and not because it is behind or ahead.
        """


class ShardedIndex(Index):
    """An index whose photos are searched by shards."""

    _uses_vector_index = False  # shards have the vectors

    def __init__(self, path: str | Path, shards: Shards, **options: Any) -> None:
        self._shards = shards
        self._silent: set[int] = set()
        super().__init__(path, **options)

    @property
    def missing(self) -> int:
        """How many photos the last search could not ask, since their shards do not answer."""
        return sum(end - begin for each, (begin, end) in enumerate(self._bounds()) if each in self._silent)

    def begin_search(self) -> None:
        """Forget which shards did not answer before."""
        self._silent = set()

    def check(self) -> None:
        """Check that a shard answers.

        Raises:
            Unreadable: None does.
        """
        self.begin_search()
        self._ask("reach", [(version_of(self),)] * self._shards.count)

    def _read_pooled(
        self, settings: Settings, dataset: Any, ids: NDArray[np.uint64], sound: SoundRows, size: int
    ) -> NDArray[np.float32]:
        return np.empty((0, size), np.float32)  # shards have them

    def pooled_of(self, row: int) -> NDArray[np.float32]:
        """The pooled vector (1, e) of a photo, from the disk."""
        return to_vectors(self.take([row], ["pooled"])["pooled"])

    def candidates(
        self, queries: Tensor, k: int, *, rows: Rows | None = None, where: str | None = None
    ) -> tuple[Rows, NDArray[np.float32]]:
        """As of the index: the best among the best of each shard. ``rows`` are those that ``where`` leaves."""
        request = (version_of(self), queries.detach().float().cpu().numpy(), k, where)
        answers = self._ask("candidates", [request] * self._shards.count)
        found, near = (np.concatenate(each, axis=1) for each in zip(*answers.values(), strict=True))
        order = np.lexsort((found, -near), axis=1)[:, :k]
        return np.take_along_axis(found, order, axis=1), np.take_along_axis(near, order, axis=1)

    def nearest(self, queries: Tensor, k: int, *, rows: Rows | None = None, where: str | None = None) -> Rows:
        """As of the index."""
        return self.candidates(queries, k, rows=rows, where=where)[0]

    def scores(self, rows: Rows, score: Score, *, clock: Clock) -> tuple[Rows, NDArray[np.float32]]:
        """As of the index; ``score`` is a ``partial`` of a function, a model and what photos are scored for."""
        assert isinstance(score, partial)
        _, what = score.args
        parts = [rows[(rows >= begin) & (rows < end)] for begin, end in self._bounds()]
        version = version_of(self)
        with clock("rank"):
            answers = self._ask("scores", [(version, part, score.func, what) if len(part) else None for part in parts])
        if not answers:  # no row, or those of shards that are silent
            return super().scores(rows[:0], score, clock=clock)
        return np.concatenate([parts[each] for each in answers]), np.concatenate([*answers.values()], axis=1)

    def _bounds(self) -> list[tuple[int, int]]:
        """The first row of each shard, and the one behind its last."""
        shards = self._shards.count
        return list(pairwise(first_row(len(self), each, shards) for each in range(shards + 1)))

    def _ask(self, method: str, arguments: Sequence[tuple[Any, ...] | None]) -> dict[int, Any]:
        """The answers by shard; those that do not answer are silent from then on.

        Raises:
            Unreadable: None answers.
        """
        asked = [None if each in self._silent else given for each, given in enumerate(arguments)]
        answers = self._shards.ask(method, asked)
        found = {each: answer for each, answer in enumerate(answers) if answer is not None}
        self._silent |= {each for each, given in enumerate(asked) if given is not None and each not in found}
        if any(arguments) and not found and len(self._silent) == self._shards.count:
            raise Unreadable(f"{self.path}: none of its {self._shards.count} shards answers; they are being replaced")
        return found
