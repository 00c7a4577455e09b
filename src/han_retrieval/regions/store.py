"""The region store: a Lance table with a row a photo, which grows by whole batches and is read at random.

One process writes at a time, any number read meanwhile. Rows are only added at the end and keep their numbers when
files are merged, so that a reader whose files were merged goes on with the newest version.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self, TypeVar

from han_retrieval.data.files import is_text, readable, reading
from han_retrieval.errors import DataError, StoreError
from han_retrieval.files import leftovers
from han_retrieval.objects import is_remote, to_path
from han_retrieval.regions.regions import Regions
from han_retrieval.regions.rows import (
    CHECKSUMS,
    PHOTO,
    RegionBatch,
    RegionRow,
    StoredPhoto,
    StoreSummary,
    row_schema,
    to_batch,
    to_regions,
    to_table,
)
from han_retrieval.storage.closing import Closing
from han_retrieval.storage.copies import copy_table
from han_retrieval.storage.failures import reading as reading_table
from han_retrieval.storage.hashes import FOLDER
from han_retrieval.storage.locks import LOCK_NAME, WriterLock
from han_retrieval.storage.sound import SoundRows, read_sound
from han_retrieval.storage.table import Table
from han_retrieval.storage.versions import is_table

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT_VERSION = 1
SKIPPED_NAME = "skipped.jsonl"

T = TypeVar("T")

_OWN_NAMES = {"_versions", "_transactions", "_deletions", FOLDER, "data", LOCK_NAME, SKIPPED_NAME}


class RegionStore(Closing):
    """The regions of photos by photo id; made by ``open``, ``create`` or ``resume``.

    Reading is safe in threads. Lance's own threads do not survive a fork, so worker processes must be spawned; a
    store that is pickled is opened again in the other process.

    Attributes:
        path: The folder, or the place in object storage.
        fingerprint: Of the detector that made the features.
        feature_size: D.
        pooled_size: P, of the photos' pooled vectors; 0 where they have none, or there are no photos yet.
    """

    def __init__(self, path: Path, lock: WriterLock | None = None, *, copy: tuple[Path, IO[str]] | None = None) -> None:
        self.path = path
        self._lock = lock
        self._copy = copy
        self._process = os.getpid()
        self._table = Table(path if copy is None else copy[0], checksums=CHECKSUMS)
        self.fingerprint, self.feature_size = _read_metadata(path, self._table.metadata)
        self._rows, self._sound = self._read(self._read_rows)
        self._pooled_size: int | None = None

    @classmethod
    def open(cls, path: str | Path, *, copy: bool = False) -> Self:
        """A store as it is now, for reading; later appends by others are not seen.

        Like all that takes a store or an index, it takes a folder or a URL of object storage, such as
        s3://bucket/features.

        Args:
            path: The folder or the URL.
            copy: Copy a store of object storage into the cache of this machine first, and read that: for what reads
                each photo many times. What is appended later is read from a new copy.

        Raises:
            StoreError: There is nothing at ``path``, or no region store, or one that a newer version wrote, or its name
                is not UTF-8.
        """
        path = require_store(path)
        return cls(path, copy=copy_table(path, progress=True) if copy and is_remote(path) else None)

    @classmethod
    def create(cls, path: str | Path, *, fingerprint: str, feature_size: int) -> Self:
        """A new, empty store, locked for writing.

        Raises:
            StoreError: ``path`` is a file, a folder with other things in it, a store already, or nothing can be written
                there.
        """
        path = _absolute(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            others = sorted({entry.name for entry in path.iterdir()} - _OWN_NAMES - {f.name for f in leftovers(path)})
        except OSError as error:
            raise StoreError(f"{path}: no folder can be made there ({error.strerror})") from None
        if others:
            raise StoreError(f"{path}: holds other things, such as {others[0]}; choose a new folder for the features")
        lock = WriterLock(path)
        if is_table(path):
            lock.close()
            raise StoreError(f"{path}: is a region store already")
        _create_table(path, fingerprint, feature_size)
        return cls(path, lock)

    @classmethod
    def resume(cls, path: str | Path, *, fingerprint: str, feature_size: int) -> Self:
        """The store at ``path``, created where there is none yet, locked for writing.

        Raises:
            StoreError: It holds features of another detector, another process is writing to it, or as ``open`` and
                ``create``.
        """
        path = _absolute(path)
        with reading(path):
            is_there = is_table(path)
        if not is_there:
            return cls.create(path, fingerprint=fingerprint, feature_size=feature_size)
        store = cls.open(path)
        store.lock()
        try:
            if store.fingerprint != fingerprint and len(store) == 0:
                # A run that failed before its first photo leaves nothing worth keeping.
                _create_table(path, fingerprint, feature_size)
                return cls(path, store._lock)
            store.require(fingerprint)
        except StoreError:
            store.close()
            raise
        return store

    def require(self, fingerprint: str) -> None:
        """Refuse features of another detector.

        Raises:
            StoreError: The store's fingerprint is another one; the message names both.
        """
        if self.fingerprint != fingerprint:
            raise StoreError(
                f"{self.path}: its features were made by {self.fingerprint!r}, not by {fingerprint!r}; features of two "
                f"detectors do not mix: use the first again, or extract into another folder"
            )

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, photo_id: object) -> bool:
        return photo_id in self._rows

    def __repr__(self) -> str:
        return f"RegionStore({str(self.path)!r}, {len(self)} photos, {self.feature_size} numbers a region)"

    def __reduce__(self) -> tuple[Callable[[Path], RegionStore], tuple[Path]]:
        return RegionStore.open, (self.path,)

    @property
    def pooled_size(self) -> int:  # noqa: D102  # an attribute, above
        if self._pooled_size is None and self._rows:
            (first,) = self.read([next(iter(self._rows))])
            self._pooled_size = 0 if first.pooled is None else len(first.pooled)
        return self._pooled_size or 0

    @property
    def ids(self) -> list[str]:
        """The photos' ids, in the order in which they were appended."""
        return list(self._rows)

    def photos(self) -> list[StoredPhoto]:
        """All photos without their regions, in the order of ``ids``."""
        columns = ["id", "path", "width", "height"]
        table = self._read(self._read_photos).slice(0, len(self))
        return [
            StoredPhoto(photo_id, None if path is None else to_path(path), width, height)
            for photo_id, path, width, height in zip(*(table[name].to_pylist() for name in columns), strict=True)
        ]

    def region_counts(self) -> dict[str, int]:
        """How many regions each photo has, by its id, without reading them."""
        counts = self._read(self._read_photos)["regions"].to_pylist()
        return dict(zip(self._rows, counts, strict=False))

    def read(self, ids: Sequence[str]) -> list[Regions]:
        """The regions of photos, in the order of ``ids``, which may repeat; arrays are read-only views.

        Raises:
            StoreError: A photo is not in the store.
        """
        return to_regions(self._take(ids, ["width", "height", "boxes", "labels", "scores", "features", "pooled"]))

    def batch(self, ids: Sequence[str]) -> RegionBatch:
        """The regions of photos as padded tensors, in the order of ``ids``, which may repeat.

        Raises:
            StoreError: A photo is not in the store.
        """
        return to_batch(self._take(ids, ["boxes", "features", "pooled"]))

    def describe(self) -> StoreSummary:
        """What the store holds, in numbers."""
        counts = self._read(self._read_photos)["regions"].to_numpy()[: len(self)]
        data_bytes = sum(file.stat().st_size for file in (self.path / "data").glob("*.lance"))
        return StoreSummary(
            fingerprint=self.fingerprint,
            feature_size=self.feature_size,
            photos=len(self),
            with_boxes=self._read(lambda dataset: dataset.count_rows("boxes IS NOT NULL")),
            pooled_size=self.pooled_size,
            regions_min=int(counts.min(initial=counts[0])) if len(self) else 0,
            regions_mean=float(counts.mean()) if len(self) else 0.0,
            regions_max=int(counts.max(initial=0)),
            bytes_a_photo=data_bytes / len(self) if len(self) else 0.0,
        )

    def lock(self) -> None:
        """Become the one writer; ``close``, the end of a ``with`` block and the end of the process undo it.

        Raises:
            StoreError: Another process, or another store object of this one, is writing.
        """
        if self._lock is None:
            self._lock = WriterLock(self.path)
            if self._copy is not None:
                self._copy, self._table = None, Table(self.path, checksums=CHECKSUMS)
            self._table.begin_writing()
            self._rows, self._sound = self._read(self._read_rows)

    def close(self) -> None:
        """Release the writer's lock, where it is held; reading goes on working."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def append(self, rows: Iterable[RegionRow]) -> int:
        """Add photos in one commit; those whose id is there already are left out.

        Returns:
            How many were added; they are on the disk.

        Raises:
            StoreError: Another process is writing, or the disk is full or may not be written to; what was appended
                before is kept.
            DataError: A feature is not finite, or photos have pooled vectors of other sizes than those before.
        """
        self.lock()
        self._table.catch_up()
        if len(self._table) != len(self._rows):  # an append was interrupted after its commit
            self._rows, self._sound = self._read(self._read_rows)
        new: dict[str, RegionRow] = {}
        for row in rows:
            if row.id not in self._rows:
                new.setdefault(row.id, row)
        if new:
            self._check_pooled(list(new.values()))
            appended = self._table.append(to_table(list(new.values()), self._table.dataset.schema))
            self._sound.extend(appended)
            first = len(self._rows)
            self._rows.update((photo_id, first + place) for place, photo_id in enumerate(new))
        return len(new)

    def compact(self) -> None:
        """Merge small files and delete what is no longer needed, as ``Table.compact`` does.

        Raises:
            StoreError: Another process is writing, or the disk is full or may not be written to.
        """
        self.lock()
        self._table.compact()

    def _check_pooled(self, rows: Sequence[RegionRow]) -> None:
        """Check that pooled vectors are of one size; a store that is older than their column leaves them out."""
        if "pooled" not in self._table.dataset.schema.names:
            return
        sizes = [0 if row.regions.pooled is None else len(row.regions.pooled) for row in rows]
        wanted = self.pooled_size if self._rows else sizes[0]
        for row, size in zip(rows, sizes, strict=True):
            if size != wanted:
                raise DataError(
                    f"photo {row.id!r}: its pooled vector has {size} numbers, that of the photos before {wanted}; the "
                    "detector must give all photos one of one size, or none"
                )

    def _take(self, ids: Sequence[str], columns: list[str]) -> pa.Table:
        missing = [photo_id for photo_id in ids if photo_id not in self._rows]
        if missing:
            own = f"its ids are like {next(iter(self._rows))!r}" if self._rows else "it is empty"
            raise StoreError(
                f"{self.path}: lacks {len(set(missing))} of the photos asked for, such as {missing[0]!r} ({own}); "
                f"extract them, or import with --ids where the names differ"
            )
        rows = [self._rows[photo_id] for photo_id in ids]
        there = [name for name in columns if name in self._table.dataset.schema.names]
        table = self._read(lambda dataset: dataset.take(rows, columns=there))
        self._sound.require(rows, table)
        return table

    def _read_photos(self, dataset: Any) -> pa.Table:
        return read_sound(self.path, dataset, PHOTO, CHECKSUMS)

    def _read_rows(self, dataset: Any) -> tuple[dict[str, int], SoundRows]:
        """The rows by the photos' ids, and what checks rows that are read later."""
        table = self._read_photos(dataset)
        return {photo_id: row for row, photo_id in enumerate(table["id"].to_pylist())}, SoundRows(
            self.path, table, CHECKSUMS
        )

    def _read(self, read: Callable[[Any], T]) -> T:
        if os.getpid() != self._process:
            raise RuntimeError("a RegionStore cannot be read in a forked process; start workers with 'spawn'")
        try:
            with reading_table(self.path):
                return read(self._table.dataset)
        except StoreError:  # a writer has merged and deleted our files, or they are damaged
            self._table.reopen()
        with reading_table(self.path):
            return read(self._table.dataset)


def require_store(path: str | Path) -> Path:
    """The absolute path of a region store, if one is there.

    Raises:
        StoreError: As ``RegionStore.open``.
    """
    path = _absolute(path)
    with reading(path):
        if not path.exists():
            raise StoreError(f"{path}: no such region store; `han extract` makes one")
        if not is_table(path):
            raise StoreError(f"{path}: not a region store; give the folder that `han extract --out` wrote")
    return path


def _absolute(path: str | Path) -> Path:
    path = to_path(path).absolute()
    if not is_text(str(path)):
        raise StoreError(f"{readable(str(path))}: its name is not UTF-8, which a region store's must be")
    return path


def _create_table(path: Path, fingerprint: str, feature_size: int) -> None:
    metadata = {"regions_version": FORMAT_VERSION, "fingerprint": fingerprint, "feature_size": feature_size}
    Table.create(path, row_schema(feature_size), metadata, checksums=CHECKSUMS)


def _read_metadata(path: Path, metadata: dict[str, str]) -> tuple[str, int]:
    """The fingerprint and the feature size."""
    version = int(metadata.get("regions_version", 0))
    if version == 0:
        raise StoreError(
            f"{path}: a Lance table, but not a region store; give the folder that `han extract --out` wrote"
        )
    if version > FORMAT_VERSION:
        raise StoreError(
            f"{path}: of format {version}, from a newer han-retrieval; this one reads {FORMAT_VERSION}: upgrade it"
        )
    return metadata["fingerprint"], int(metadata["feature_size"])
