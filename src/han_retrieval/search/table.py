"""The table of an index: a Lance table with stable row ids, to which one process at a time writes.

When a method returns, its change is on the disk. A process that is killed loses only the commit that it was writing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from han_retrieval.data.files import field
from han_retrieval.errors import DataError, StoreError
from han_retrieval.files import write_whole
from han_retrieval.parsing import read_json_lines
from han_retrieval.search.pooling import POOLINGS
from han_retrieval.search.rows import (
    CHECKSUMS,
    PhotoFile,
    PhotoRow,
    columns_of,
    row_schema,
    to_files,
    to_places,
    to_table,
)
from han_retrieval.search.scan import FileState, Place
from han_retrieval.search.vector_index import EXACT_UP_TO, keep_up
from han_retrieval.storage.checksums import json_checksum
from han_retrieval.storage.sound import read_sound
from han_retrieval.storage.table import Table
from han_retrieval.storage.versions import is_table

BROKEN_NAME = "broken.jsonl"

_MOVES_A_COMMIT = 1024


@dataclass(frozen=True, slots=True)
class MadeBy:
    """What the rows of a table were made with.

    Attributes:
        model: The model's hash.
        detector: The detector's fingerprint.
        joint_size: d.
        storage: How tokens are stored, one of ``STORAGES``.
        pooling: How candidates are chosen, one of ``POOLINGS``.
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
    """A file that could not be indexed: its state when it was tried, the reason, and the version that tried it."""

    state: FileState
    reason: str
    reader: str


class PhotoTable:
    """A table for writing; the writer holds the index's lock.

    Attributes:
        path: Its folder.
        made_by: What its rows were made with.
    """

    def __init__(self, path: Path) -> None:
        if not is_table(path):
            raise StoreError(f"{path}: the index's table is missing; index the photos into a new folder")
        self.path = path
        self._table = Table(path, checksums=CHECKSUMS, versions_held=True)
        self._table.begin_writing()
        self.made_by = read_made_by(path, self._table.metadata)

    @classmethod
    def create(cls, path: Path, made_by: MadeBy) -> PhotoTable:
        """Make an empty table."""
        path.mkdir(exist_ok=True)
        schema = row_schema(made_by.joint_size, made_by.pooled_size, made_by.storage)
        Table.create(path, schema, asdict(made_by), checksums=CHECKSUMS, versions_held=True, stable_row_ids=True)
        return cls(path)

    def __len__(self) -> int:
        return len(self._table)

    def files(self) -> tuple[dict[str, tuple[PhotoFile, ...]], dict[str, int]]:
        """The files of each photo and their size in bytes, by the photo's id."""
        table = read_sound(self.path, self._table.dataset, columns_of(self._table.dataset.schema), CHECKSUMS)
        return to_files(table), dict(zip(table["id"].to_pylist(), table["size"].to_pylist(), strict=True))

    def append(self, rows: Sequence[PhotoRow]) -> None:
        """Add photos in one commit; their ids must be new."""
        if rows:
            self._table.catch_up()
            self._table.append(to_table(rows, self._table.dataset.schema))

    def move(self, files: Mapping[str, Sequence[PhotoFile]]) -> None:
        """Replace the files of photos, some photos at a time; their other columns stay."""
        ids = list(files)
        for first in range(0, len(ids), _MOVES_A_COMMIT):
            places = to_places({photo_id: files[photo_id] for photo_id in ids[first : first + _MOVES_A_COMMIT]})
            self._table.catch_up()
            self._table.merge(lambda dataset: dataset.merge_insert("id").when_matched_update_all(), places)

    def delete(self, ids: Sequence[str]) -> None:
        """Delete photos in one commit."""
        if ids:
            self._table.catch_up()
            gone = pa.table({"id": list(ids)})
            self._table.merge(lambda dataset: dataset.merge_insert("id").when_matched_delete(), gone)

    def tidy(self, *, exact_up_to: int = EXACT_UP_TO) -> None:
        """Merge small files; delete old versions that nobody reads, and files that killed processes left.

        A table with more than ``exact_up_to`` photos gets a vector index, or its vector index is brought up to date.
        """
        self._table.compact()
        if keep_up(self._table, exact_up_to):
            self._table.compact()

    def read_broken(self) -> dict[Place, Broken]:
        """The files that could not be indexed."""
        return read_broken(self.path)

    def write_broken(self, broken: Mapping[Place, Broken]) -> None:
        """Replace the list of files that could not be indexed."""
        entries = (
            {"root": root, "path": path, **asdict(each.state), "reason": each.reason, "reader": each.reader}
            for (root, path), each in sorted(broken.items())
        )
        lines = (json.dumps({**entry, "checksum": json_checksum(entry)}, ensure_ascii=False) for entry in entries)
        write_whole(self.path / BROKEN_NAME, "".join(line + "\n" for line in lines))


def read_broken(table: Path) -> dict[Place, Broken]:
    """As ``PhotoTable.read_broken``, without what is not as it was written, so that these files are tried again."""
    broken = {}
    try:
        for where, each in read_json_lines(table / BROKEN_NAME):
            root, path, reason = (field(each, name, str, where) for name in ("root", "path", "reason"))
            state = FileState(*(field(each, name, int, where) for name in ("size", "mtime")))
            reader = field({"reader": "", **each}, "reader", str, where)
            checksum = each.pop("checksum", None)
            if checksum is None or checksum == json_checksum(each):
                broken[root, path] = Broken(state, reason, reader)
    except DataError:
        return {}
    return broken


def read_made_by(path: Path, metadata: Mapping[str, str]) -> MadeBy:
    """What a table was made with, from its metadata.

    Raises:
        StoreError: It is not the table of an index, or one of a newer version.
    """
    try:
        made_by = MadeBy(
            model=metadata["model"],
            detector=metadata["detector"],
            joint_size=int(metadata["joint_size"]),
            storage=metadata["storage"],
            pooling=metadata["pooling"],
            pooled_size=int(metadata["pooled_size"]),
        )
    except (KeyError, ValueError):
        raise StoreError(f"{path}: a Lance table, but not an index's; index the photos into another folder") from None
    if made_by.pooling not in POOLINGS:
        raise StoreError(f"{path}: its vectors are pooled by {made_by.pooling!r}, which this version does not have")
    return made_by
