"""The region store: a Lance table, a row a photo, that grows by whole batches and is read at random.

A batch that ``append`` has reported is on disk: its data file is synced before the manifest that names it is written,
and that before the call returns. A process killed at any moment loses the batch it was at, and nothing else. One
process writes at a time, any number read meanwhile: rows are only added at the end and keep their numbers when files
are merged.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pyarrow as pa

from han_retrieval.data.files import is_text, readable, reading
from han_retrieval.errors import HANError
from han_retrieval.regions.disk import (
    LOCK_NAME,
    Syncing,
    WriterLock,
    append,
    is_lance,
    merge_files,
    open_lance,
    reason_of,
    write_empty,
    writing,
)
from han_retrieval.regions.regions import Regions
from han_retrieval.regions.rows import (
    RegionBatch,
    RegionRow,
    StoredPhoto,
    StoreSummary,
    row_schema,
    to_batch,
    to_regions,
    to_table,
)

FORMAT_VERSION = 1
SKIPPED_NAME = "skipped.jsonl"

# Files of at least this many photos are left as they are; smaller ones are merged when there are so many of them.
_PHOTOS_A_FILE = 8192
_SMALL_FILES = 64

T = TypeVar("T")

_OWN_NAMES = {"_versions", "_transactions", "data", LOCK_NAME, SKIPPED_NAME}


class RegionStore:
    """Photos' regions by photo id; made by ``open``, ``create`` or ``resume``.

    Reading is safe in threads. Lance's own threads do not survive a fork, so worker processes must be spawned; a
    store that is sent to one (pickled) opens itself again there.

    Attributes:
        path: The folder.
        fingerprint: The detector that made the features.
        feature_size: D.
    """

    def __init__(self, path: Path, lock: WriterLock | None = None) -> None:
        self.path = path
        self._lock = lock
        self._process = os.getpid()
        self._disk = Syncing(path)
        self._dataset = open_lance(path)
        self.fingerprint, self.feature_size = _read_metadata(path, self._dataset.schema.metadata or {})
        self._rows = self._read(_rows_by_id)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """A store as it is now, for reading; later appends by others are not seen.

        Raises:
            HANError: There is nothing at ``path``, or no region store, or one that a newer version wrote, or its name
                is no text.
        """
        path = _absolute(path)
        with reading(path):
            if not path.exists():
                raise HANError(f"{path}: no such region store; `han extract` makes one")
            if not is_lance(path):
                raise HANError(f"{path}: not a region store; give the folder that `han extract --out` wrote")
        return cls(path)

    @classmethod
    def create(cls, path: str | Path, *, fingerprint: str, feature_size: int) -> Self:
        """A new, empty store, locked for writing.

        Raises:
            HANError: ``path`` is a file, a folder with other things in it, a store already, or nothing can be written
                there.
        """
        path = _absolute(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            others = sorted({entry.name for entry in path.iterdir()} - _OWN_NAMES)
        except OSError as error:
            raise HANError(f"{path}: no folder can be made there ({error.strerror})") from None
        if others:
            raise HANError(f"{path}: holds other things, such as {others[0]}; choose a new folder for the features")
        lock = WriterLock(path)
        if is_lance(path):
            lock.release()
            raise HANError(f"{path}: is a region store already")
        write_empty(path, _schema(fingerprint, feature_size))
        return cls(path, lock)

    @classmethod
    def resume(cls, path: str | Path, *, fingerprint: str, feature_size: int) -> Self:
        """The store at ``path``, created where there is none yet, locked for writing.

        Raises:
            HANError: It holds features of another detector, another process is writing to it, or as ``open`` and
                ``create``.
        """
        path = _absolute(path)
        with reading(path):
            is_there = is_lance(path)
        if not is_there:
            return cls.create(path, fingerprint=fingerprint, feature_size=feature_size)
        store = cls.open(path)
        store.lock()
        try:
            if store.fingerprint != fingerprint and len(store) == 0:
                # A run that failed before its first photo leaves nothing worth keeping.
                write_empty(path, _schema(fingerprint, feature_size))
                return cls(path, store._lock)
            store.require(fingerprint)
        except HANError:
            store.close()
            raise
        return store

    def require(self, fingerprint: str) -> None:
        """Refuse to go on with features of another detector.

        Raises:
            HANError: The store's fingerprint is another one; the message names both.
        """
        if self.fingerprint != fingerprint:
            raise HANError(
                f"{self.path}: its features were made by {self.fingerprint!r}, not by {fingerprint!r}; features of two "
                f"detectors do not mix: use the first again, or extract into another folder"
            )

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, photo_id: object) -> bool:
        return photo_id in self._rows

    def __repr__(self) -> str:
        return f"RegionStore({str(self.path)!r}, {len(self)} photos, {self.feature_size} numbers a region)"

    @property
    def ids(self) -> list[str]:
        """The photos' ids, in the order in which they were appended."""
        return list(self._rows)

    def photos(self) -> list[StoredPhoto]:
        """All photos without their regions, in the order of ``ids``."""
        columns = ["id", "path", "width", "height"]
        table = self._read(lambda dataset: dataset.to_table(columns=columns)).slice(0, len(self))
        return [
            StoredPhoto(photo_id, None if path is None else Path(path), width, height)
            for photo_id, path, width, height in zip(*(table[name].to_pylist() for name in columns), strict=True)
        ]

    def read(self, ids: Sequence[str]) -> list[Regions]:
        """The regions of some photos, in the order asked, repeats and all; arrays are read-only views.

        Raises:
            HANError: A photo is not in the store.
        """
        return to_regions(self._take(ids, ["width", "height", "boxes", "labels", "scores", "features"]))

    def batch(self, ids: Sequence[str], *, geometry: bool = False) -> RegionBatch:
        """The regions of some photos as padded tensors, in the order asked, repeats and all.

        Args:
            ids: The photos.
            geometry: Put position and size of the boxes behind the features; see ``box_geometry``.

        Raises:
            HANError: A photo is not in the store, or has no boxes where their geometry is asked for.
        """
        return to_batch(self._take(ids, ["regions", "boxes", "width", "height", "features"]), geometry=geometry)

    def describe(self) -> StoreSummary:
        """What the store holds, in numbers."""
        counts = self._read(lambda dataset: dataset.to_table(columns=["regions"]))["regions"].to_numpy()[: len(self)]
        data_bytes = sum(file.stat().st_size for file in (self.path / "data").glob("*.lance"))
        return StoreSummary(
            fingerprint=self.fingerprint,
            feature_size=self.feature_size,
            photos=len(self),
            with_boxes=self._read(lambda dataset: dataset.count_rows("boxes IS NOT NULL")),
            regions_min=int(counts.min(initial=counts[0])) if len(self) else 0,
            regions_mean=float(counts.mean()) if len(self) else 0.0,
            regions_max=int(counts.max(initial=0)),
            bytes_a_photo=data_bytes / len(self) if len(self) else 0.0,
        )

    def __reduce__(self) -> tuple[Callable[[Path], RegionStore], tuple[Path]]:
        return RegionStore.open, (self.path,)

    def lock(self) -> None:
        """Become the one writer; ``close``, the end of a ``with`` block and the end of the process undo it.

        Raises:
            HANError: Another process, or another store object of this one, is writing.
        """
        if self._lock is None:
            self._lock = WriterLock(self.path)
            self._refresh()

    def close(self) -> None:
        """Give the writer's lock back, where it is held; reading goes on working."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def append(self, rows: Iterable[RegionRow]) -> int:
        """Add photos in one commit; those whose id is there already are left out.

        Returns:
            How many were added; they are on disk then.

        Raises:
            HANError: Another process is writing, a feature is not finite, or the disk is full or may not be written to;
                what was appended before is kept.
        """
        self.lock()
        with writing(self.path):
            newest = self._dataset.latest_version
        if newest != self._dataset.version:
            self._refresh()  # an append of ours was interrupted between its commit and its return
        new: dict[str, RegionRow] = {}
        for row in rows:
            if row.id not in self._rows:
                new.setdefault(row.id, row)
        if new:
            committed = append(self._dataset, to_table(list(new.values()), self._dataset.schema), self._disk)
            first = len(self._rows)
            self._rows.update((photo_id, first + place) for place, photo_id in enumerate(new))
            self._dataset = committed
            if sum(each.physical_rows < _PHOTOS_A_FILE for each in self._dataset.get_fragments()) >= _SMALL_FILES:
                self.compact()
        return len(new)

    def compact(self) -> None:
        """Merge small files, then delete what nothing needs: merged files, old versions, leftovers of killed runs.

        Killed in the midst of it, the store is as it was, with some files too many that the next call deletes.

        Raises:
            HANError: Another process is writing, or the disk is full or may not be written to.
        """
        self.lock()
        if merge_files(self._dataset, self._disk, rows_a_file=_PHOTOS_A_FILE):
            self._refresh()
        with writing(self.path):
            self._dataset.cleanup_old_versions(older_than=timedelta(0), delete_unverified=True)

    def _refresh(self) -> None:
        self._dataset = open_lance(self.path)
        self._rows = self._read(_rows_by_id)

    def _take(self, ids: Sequence[str], columns: list[str]) -> pa.Table:
        missing = [photo_id for photo_id in ids if photo_id not in self._rows]
        if missing:
            own = f"its ids are like {next(iter(self._rows))!r}" if self._rows else "it is empty"
            raise HANError(
                f"{self.path}: lacks {len(set(missing))} of the photos asked for, such as {missing[0]!r} ({own}); "
                f"extract them, or import with --ids where the names differ"
            )
        rows = [self._rows[photo_id] for photo_id in ids]
        return self._read(lambda dataset: dataset.take(rows, columns=columns))

    def _read(self, read: Callable[[Any], T]) -> T:
        if os.getpid() != self._process:
            raise RuntimeError("a RegionStore cannot be read in a forked process; start workers with 'spawn'")
        try:
            return read(self._dataset)
        except (OSError, pa.ArrowInvalid):
            # A writer has merged and deleted our files; rows keep their numbers, so the newest version serves as well.
            self._dataset = open_lance(self.path)
        try:
            return read(self._dataset)
        except (OSError, pa.ArrowInvalid) as error:
            raise HANError(f"{self.path}: a file of it is gone or damaged ({reason_of(error)}); make it anew") from None


def _absolute(path: str | Path) -> Path:
    path = Path(path).absolute()
    if not is_text(str(path)):
        raise HANError(f"{readable(str(path))}: its name is not UTF-8, which a region store's must be; choose another")
    return path


def _schema(fingerprint: str, feature_size: int) -> pa.Schema:
    metadata = {"han_regions_version": FORMAT_VERSION, "han_fingerprint": fingerprint, "han_feature_size": feature_size}
    return row_schema(feature_size, {name: str(value) for name, value in metadata.items()})


def _rows_by_id(dataset: Any) -> dict[str, int]:
    ids = dataset.to_table(columns=["id"])["id"].to_pylist()
    return {photo_id: row for row, photo_id in enumerate(ids)}


def _read_metadata(path: Path, metadata: dict[bytes, bytes]) -> tuple[str, int]:
    """The fingerprint and the feature size."""
    version = int(metadata.get(b"han_regions_version", b"0"))
    if version == 0:
        raise HANError(f"{path}: a Lance table, but not a region store; give the folder that `han extract --out` wrote")
    if version > FORMAT_VERSION:
        raise HANError(
            f"{path}: of format {version}, from a newer han-retrieval; this one reads {FORMAT_VERSION}: upgrade it"
        )
    return metadata[b"han_fingerprint"].decode(), int(metadata[b"han_feature_size"])
