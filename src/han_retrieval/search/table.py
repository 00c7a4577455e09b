"""The table of an index: Lance with stable row ids, written by one process in whole commits.

What a method has reported is on the disk. A process killed at any moment loses the commit it was at, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from han_retrieval.errors import HANError
from han_retrieval.files import write_whole
from han_retrieval.regions.disk import Syncing, append, commit, is_lance, merge_files, open_lance, write_empty, writing
from han_retrieval.search.readers import unread
from han_retrieval.search.rows import PhotoFile, PhotoRow, row_schema, to_files, to_places, to_table
from han_retrieval.search.scan import Place, State

BROKEN_NAME = "broken.jsonl"

# Files of at least this many photos are left as they are; smaller ones are merged when there are so many of them.
_PHOTOS_A_FILE = 8192
_SMALL_FILES = 64
_MOVES_A_COMMIT = 1024


@dataclass(frozen=True, slots=True)
class MadeBy:
    """What everything in a table depends on.

    Attributes:
        model: The model's hash.
        detector: The detector's fingerprint.
        joint_size: d.
        storage: How tokens are kept, one of ``STORAGES``.
        pooling: The pooling's name.
        pooled_size: e.
    """

    model: str
    detector: str
    joint_size: int
    storage: str
    pooling: str
    pooled_size: int


@dataclass(frozen=True, slots=True)
class Broken:
    """A file that is no photo of the index, as it was when it was tried, and why."""

    state: State
    reason: str


class PhotoTable:
    """A table to write to; whoever does holds the index's lock.

    Attributes:
        path: Its folder.
        made_by: What it was made by.
    """

    def __init__(self, path: Path) -> None:
        if not is_lance(path):
            raise HANError(f"{path}: the index's table is missing; index the photos into a new folder")
        self.path = path
        self._disk = Syncing(path)
        self._dataset = open_lance(path)
        self.made_by = read_made_by(path, self._dataset.schema.metadata or {})

    @classmethod
    def create(cls, path: Path, made_by: MadeBy) -> PhotoTable:
        """A new, empty table."""
        path.mkdir(exist_ok=True)
        metadata = {f"han_{name}": str(value) for name, value in asdict(made_by).items()}
        schema = row_schema(made_by.joint_size, made_by.pooled_size, made_by.storage, metadata)
        write_empty(path, schema, stable_row_ids=True)
        return cls(path)

    def __len__(self) -> int:
        return int(self._dataset.count_rows())

    def files(self) -> tuple[dict[str, tuple[PhotoFile, ...]], dict[str, int]]:
        """The files of each photo, and their size in bytes, by the photo's id."""
        table = self._dataset.to_table(columns=["id", "root", "path", "mtime", "copies", "size"])
        return to_files(table), dict(zip(table["id"].to_pylist(), table["size"].to_pylist(), strict=True))

    def append(self, rows: Sequence[PhotoRow]) -> None:
        """Add photos in one commit; their ids must be new."""
        if not rows:
            return
        self._refresh()
        self._dataset = append(self._dataset, to_table(rows, self._dataset.schema), self._disk)
        if sum(each.physical_rows < _PHOTOS_A_FILE for each in self._dataset.get_fragments()) >= _SMALL_FILES:
            self.tidy()

    def move(self, files: Mapping[str, Sequence[PhotoFile]]) -> None:
        """Say anew where photos are, some at a time; everything else about them stays."""
        ids = list(files)
        for first in range(0, len(ids), _MOVES_A_COMMIT):
            places = to_places({photo_id: files[photo_id] for photo_id in ids[first : first + _MOVES_A_COMMIT]})
            self._merge(lambda dataset: dataset.merge_insert("id").when_matched_update_all(), places)

    def delete(self, ids: Sequence[str]) -> None:
        """Take photos out in one commit."""
        if ids:
            gone = pa.table({"id": list(ids)})
            self._merge(lambda dataset: dataset.merge_insert("id").when_matched_delete(), gone)

    def tidy(self) -> None:
        """Merge small files; delete old versions that nobody reads, and what killed runs left."""
        if merge_files(self._dataset, self._disk, rows_a_file=_PHOTOS_A_FILE):
            self._dataset = open_lance(self.path)
        with writing(self.path):
            versions = [each["version"] for each in self._dataset.versions()]
            with unread(self.path, versions[:-1]) as old:
                # No one else writes, so what no version names is a leftover however young it is.
                self._dataset.cleanup_old_versions(retain_versions=len(versions) - old, delete_unverified=True)

    def read_broken(self) -> dict[Place, Broken]:
        """The files that could not be made photos of the index."""
        return read_broken(self.path)

    def write_broken(self, broken: Mapping[Place, Broken]) -> None:
        """Keep that list in the place of the one before."""
        lines = (
            json.dumps({"root": root, "path": path, **asdict(each.state), "reason": each.reason}, ensure_ascii=False)
            for (root, path), each in sorted(broken.items())
        )
        write_whole(self.path / BROKEN_NAME, "".join(line + "\n" for line in lines))

    def _merge(self, change: Callable[[Any], Any], rows: pa.Table) -> None:
        self._refresh()
        with writing(self.path):
            transaction, _ = change(self._dataset).execute_uncommitted(rows)
        self._dataset = commit(self._dataset, transaction, self._disk)

    def _refresh(self) -> None:
        with writing(self.path):
            interrupted = self._dataset.latest_version != self._dataset.version  # a commit of ours, before it returned
        if interrupted:
            self._dataset = open_lance(self.path)


def read_broken(table: Path) -> dict[Place, Broken]:
    """As ``PhotoTable.read_broken``; empty where the list cannot be read, as its files are then tried again."""
    broken = {}
    try:
        # Not splitlines, for which some letters of a name end a line too.
        for line in filter(None, (table / BROKEN_NAME).read_text(encoding="utf-8").split("\n")):
            each = json.loads(line)
            broken[each["root"], each["path"]] = Broken(State(each["size"], each["mtime"]), each["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return broken


def read_made_by(path: Path, metadata: dict[bytes, bytes]) -> MadeBy:
    """What a table's schema says about it.

    Raises:
        HANError: It is no index's table.
    """
    said = {name.decode().removeprefix("han_"): value.decode() for name, value in metadata.items()}
    try:
        return MadeBy(
            model=said["model"],
            detector=said["detector"],
            joint_size=int(said["joint_size"]),
            storage=said["storage"],
            pooling=said["pooling"],
            pooled_size=int(said["pooled_size"]),
        )
    except (KeyError, ValueError):
        raise HANError(f"{path}: a Lance table, but not an index's; index the photos into another folder") from None
