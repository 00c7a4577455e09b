"""Lance's vector index over the pooled vectors of an index's table: made, kept up, checked.

All of it follows from the table, so that it can be made anew at any time. ``vectors.json`` is written when the files of
a vector index are on the disk; one that it does not name, or whose files are not as they were written, is not used.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from han_retrieval.files import write_whole
from han_retrieval.search.rows import CHECKSUMS
from han_retrieval.storage.damage import Damage
from han_retrieval.storage.hashes import FileHashes, check_file, hash_file
from han_retrieval.storage.table import Table
from han_retrieval.storage.versions import open_dataset

EXACT_UP_TO = 200_000
"""The number of photos above which an index gets a vector index, unless it says otherwise."""

COLUMN, NAME = "pooled", "candidates"
FILE = "vectors.json"
MEND = "the next `han index` makes it anew"

# One byte a number, whose order needs no second look at the vectors: to read these one by one takes a second.
_KIND = "IVF_SQ"
_ROWS_A_PARTITION = 8192
_UNINDEXED = 8192  # rows that a search may compare one by one
_GROWTH = 2.0  # partitions are chosen anew once there are so many times the rows


@dataclass(frozen=True)
class Made:
    """The content of ``vectors.json``: the rows and partitions when these were chosen, and the files by their path."""

    rows: int = 0
    partitions: int = 1
    files: dict[str, FileHashes] = field(default_factory=dict)


_CONTENT = TypeAdapter(Made)


@dataclass(frozen=True)
class Segments:
    """The vector index of a version of a table.

    Attributes:
        table: The table's folder.
        made: What is known of it.
        names: The folders of its segments, in the table's folder.
        fragments: The fragments whose rows it has.
    """

    table: Path
    made: Made
    names: tuple[str, ...]
    fragments: frozenset[int]

    @classmethod
    def find(cls, table: Path, dataset: Any) -> Segments | None:
        """The vector index of a version; None where it has none."""
        found = [each for each in dataset.describe_indices() if each.name == NAME]
        segments = [segment for each in found for segment in each.segments]
        if not segments:
            return None
        names = tuple(f"_indices/{segment.uuid}" for segment in segments)
        fragments = frozenset(number for segment in segments for number in segment.fragment_ids)
        return cls(table, read_made(table), names, fragments)

    def damage(self) -> Damage | None:
        """The first file that is not as it was written; None where all are."""
        for name in self.names:
            files = {file: each for file, each in self.made.files.items() if file.startswith(f"{name}/")}
            if not files:
                return Damage(self.table / name, "is a vector index that was not finished", MEND)
            for file, hashes in files.items():
                damage = check_file(self.table / file, hashes, whole=True)
                if damage is not None:
                    return Damage(damage.path, damage.what, MEND)
        return None

    def unindexed(self, dataset: Any) -> int:
        """The number of rows that a search compares one by one."""
        return sum(each.count_rows() for each in dataset.get_fragments() if each.fragment_id not in self.fragments)


def usable(table: Path, dataset: Any) -> Segments | None:
    """The vector index of a version; None, with a warning, where it is not as it was written."""
    segments = Segments.find(table, dataset)
    damage = None if segments is None else segments.damage()
    if damage is not None:
        warn(damage)
        return None
    return segments


def warn(damage: Damage) -> None:
    """Say that a vector index is not used."""
    warnings.warn(f"{damage}; candidates are chosen without it, in memory", stacklevel=2)


def keep_up(table: Table, exact_up_to: int) -> bool:
    """Make the vector index of a table that has more than ``exact_up_to`` rows, or bring it up to date.

    Rows that are new since are compared one by one until there are many. Interrupted, the table is as it was, and the
    next call goes on.

    Returns:
        Whether there was something to do.

    Raises:
        StoreError: The disk is full or may not be written to.
    """
    rows, segments = len(table), Segments.find(table.path, table.dataset)
    if rows <= exact_up_to:
        if segments is not None:
            _drop(table)
        return segments is not None
    if segments is None or segments.damage() is not None or rows > _GROWTH * segments.made.rows:
        _make(table, rows)
        return True
    if segments.unindexed(table.dataset) <= _UNINDEXED:
        return False
    table.let_commit(lambda dataset: dataset.optimize.optimize_indices(index_names=[NAME]))
    _note(table, segments.made)
    return True


def check_vectors(path: Path) -> list[Damage]:
    """The damage of the vector index of the table at ``path``, if any; its rows are sound."""
    segments = Segments.find(path, open_dataset(path))
    damage = None if segments is None else segments.damage()
    return [] if damage is None else [damage]


def repair_vectors(path: Path) -> list[str]:
    """Take a damaged vector index out of the table at ``path``; returns what was done, a line each."""
    damages = check_vectors(path)
    if damages:
        _drop(Table(path, checksums=CHECKSUMS, versions_held=True))
    return [f"{each.path}: {each.what}; the vector index left the index, and {MEND}" for each in damages]


def _drop(table: Table) -> None:
    table.let_commit(lambda dataset: dataset.drop_index(NAME))
    (table.path / FILE).unlink(missing_ok=True)


def _make(table: Table, rows: int) -> None:
    partitions = max(1, round(rows / _ROWS_A_PARTITION))
    kind: dict[str, Any] = {"index_type": _KIND, "name": NAME, "metric": "cosine", "num_partitions": partitions}
    table.let_commit(lambda dataset: dataset.create_index(COLUMN, **kind, replace=True))
    _note(table, Made(rows, partitions))


def _note(table: Table, made: Made) -> None:
    """Write what is known of the vector index of the newest version, whose files are on the disk."""
    segments = Segments.find(table.path, table.dataset)
    files = {} if segments is None else _hash(table.path, segments.names)
    older = {name: each for name, each in read_made(table.path).files.items() if (table.path / name).exists()}
    content = asdict(Made(made.rows, made.partitions, older | files))
    write_whole(table.path / FILE, json.dumps(content) + "\n")


def _hash(table: Path, names: Collection[str]) -> dict[str, FileHashes]:
    files = (file for name in names for file in sorted((table / name).iterdir()))
    return {file.relative_to(table).as_posix(): hash_file(file, whole=True) for file in files}


def read_made(table: Path) -> Made:
    """The content of ``vectors.json``; empty where it cannot be read, so that the vector index is made anew."""
    try:
        return _CONTENT.validate_json((table / FILE).read_bytes())
    except (OSError, ValidationError):
        return Made()
