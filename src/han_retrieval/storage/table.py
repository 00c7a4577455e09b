"""A Lance table as a store needs it: one writer, commits that are on the disk, errors that a person can read."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from han_retrieval.errors import StoreError
from han_retrieval.files import sync
from han_retrieval.storage.locks import lock_unread

if TYPE_CHECKING:
    import pyarrow as pa

# Files of at least this many rows are left as they are; smaller ones are merged once there are so many of them.
ROWS_A_FILE = 8192
SMALL_FILES = 64

_PREFIX = "han_"  # of the keys of this package in a schema's metadata


class Table:
    """A table to read and, by whoever holds the folder's ``WriterLock``, to write to.

    What a method has committed is on the disk when it returns: data files are synced before the manifest that names
    them is written, and that before the method returns. A process that is killed loses the commit it was at, and
    nothing else.

    Args:
        path: Its folder.
        versions_held: Whether readers hold the version that they read (``hold_version``). Otherwise old versions are
            deleted whether or not somebody reads them, and readers must open the newest one where a file is gone.

    Attributes:
        dataset: The Lance dataset, at the version that was opened or committed last.

    Raises:
        StoreError: It cannot be read.
    """

    def __init__(self, path: Path, *, versions_held: bool = False) -> None:
        self.path = path
        self.dataset = open_dataset(path)
        self._versions_held = versions_held
        self._synced: set[Path] = set()

    @classmethod
    def create(
        cls,
        path: Path,
        schema: pa.Schema,
        metadata: Mapping[str, object],
        *,
        versions_held: bool = False,
        stable_row_ids: bool = False,
    ) -> Self:
        """A new, empty table, in place of an empty one if there is one.

        Raises:
            StoreError: The file system has no hard links, or nothing can be written there.
        """
        import lance

        require_hard_links(path)
        empty = schema.with_metadata({_PREFIX + name: str(value) for name, value in metadata.items()}).empty_table()
        mode = "overwrite" if is_table(path) else "create"
        with writing(path):
            # Version 2.1 of the file format is read by every pylance that this project allows.
            lance.write_dataset(
                empty, path, mode=mode, data_storage_version="2.1", enable_stable_row_ids=stable_row_ids
            )
        table = cls(path, versions_held=versions_held)
        with writing(path):
            table._sync("_transactions", "_versions", "")
        return table

    @property
    def metadata(self) -> dict[str, str]:
        """What ``create`` was given about the table."""
        return metadata_of(self.dataset)

    def __len__(self) -> int:
        return int(self.dataset.count_rows())

    def reopen(self) -> None:
        """Go to the newest version.

        Raises:
            StoreError: It cannot be read.
        """
        self.dataset = open_dataset(self.path)

    def catch_up(self) -> None:
        """Go to the newest version, where a commit of this object was interrupted before its method returned."""
        with writing(self.path):
            newest = self.dataset.latest_version
        if newest != self.dataset.version:
            self.reopen()

    def append(self, rows: pa.Table) -> None:
        """Commit rows at the end of the table, and ``compact`` where there are many small files.

        Raises:
            StoreError: They cannot be written; the table is as it was.
        """
        import lance

        with writing(self.path):
            fragments = lance.fragment.write_fragments(rows, self.dataset)
        self._commit(lance.LanceOperation.Append(fragments))
        if sum(each.physical_rows < ROWS_A_FILE for each in self.dataset.get_fragments()) >= SMALL_FILES:
            self.compact()

    def merge(self, change: Callable[[Any], Any], rows: pa.Table) -> None:
        """Commit a change of rows that are there already.

        Args:
            change: Given the dataset, returns Lance's merge-insert builder.
            rows: What the builder is to merge.

        Raises:
            StoreError: They cannot be written; the table is as it was.
        """
        with writing(self.path):
            transaction, _ = change(self.dataset).execute_uncommitted(rows)
        self._commit(transaction)

    def compact(self) -> None:
        """Merge small files, then delete what nothing needs: merged files, old versions, leftovers of killed processes.

        Rows keep their numbers. Killed meanwhile, the table holds what it held, and some files that the next call
        deletes.

        Raises:
            StoreError: The disk is full or may not be written to.
        """
        if self._merge_files():
            self.reopen()
        # There is one writer, so that a file which no version names is a leftover however new it is.
        with writing(self.path):
            if not self._versions_held:
                self.dataset.cleanup_old_versions(older_than=timedelta(0), delete_unverified=True)
                return
            versions = [each["version"] for each in self.dataset.versions()]
            with lock_unread(self.path, versions[:-1]) as unread:
                self.dataset.cleanup_old_versions(retain_versions=len(versions) - unread, delete_unverified=True)

    def _merge_files(self) -> bool:
        from lance.optimize import Compaction

        with writing(self.path):
            options: Any = {
                "target_rows_per_fragment": ROWS_A_FILE,
                "compaction_mode": "try_binary_copy",
                "batch_size": 64,
            }
            rewrites = [task.execute(self.dataset) for task in Compaction.plan(self.dataset, options).tasks]
            if rewrites:
                self._sync("data")
                Compaction.commit(self.dataset, rewrites)
                self._sync("_transactions", "_versions")
        return bool(rewrites)

    def _commit(self, change: Any) -> None:
        import lance

        with writing(self.path):
            self._sync("data", "_deletions")
            committed = lance.LanceDataset.commit(self.dataset, change, read_version=self.dataset.version)
            self._sync("_transactions", "_versions")
        self.dataset = committed

    def _sync(self, *folders: str) -> None:
        """Bring the new files of these folders to the disk, then the folders; Lance never changes a written file."""
        for folder in (self.path / name for name in folders):
            if not folder.is_dir():
                continue
            for file in folder.iterdir():
                if file not in self._synced:
                    sync(file)
                    self._synced.add(file)
            sync(folder)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make a ``StoreError`` of what the system or Lance raises while something writes to a table at ``path``."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({reason_of(error)}); make room or choose another disk; "
            "what was committed is kept"
        ) from None


def reason_of(error: Exception) -> str:
    """An error of the system or of Lance in a few words, without places in Lance's source."""
    number = re.search(r"\(os error (\d+)\)", str(error))
    strerror = os.strerror(int(number[1])) if number and os.name == "posix" else getattr(error, "strerror", None)
    return strerror or str(error).split(", /")[0]


def is_table(path: Path) -> bool:
    """Whether a folder holds a committed version of a Lance table."""
    return any((path / "_versions").glob("*.manifest"))


def manifest_path(table: Path, version: int) -> Path:
    """The file of a version of a table. Names count down from 2^64 - 1, so that the newest comes first."""
    return table / "_versions" / f"{2**64 - 1 - version:020}.manifest"


def open_dataset(path: Path, *, version: int | None = None) -> Any:
    """A version of the Lance table at ``path``, by default the newest.

    Raises:
        StoreError: It cannot be read. Where the newest version is torn, as a power cut can leave it, the message names
            the file to delete.
    """
    import lance

    try:
        return lance.dataset(path, version=version)
    except (OSError, ValueError) as error:
        manifests = sorted((path / "_versions").glob("*.manifest"))
        mend = (
            f"if a power cut tore it, delete {manifests[0]} to go back to the version before it"
            if len(manifests) > 1
            else "make it anew"
        )
        raise StoreError(f"{path}: its newest version cannot be read ({reason_of(error)}); {mend}") from None


def metadata_of(dataset: Any) -> dict[str, str]:
    """What ``Table.create`` was given about a table; empty where another program made it."""
    metadata = {key.decode(): value.decode() for key, value in (dataset.schema.metadata or {}).items()}
    return {key.removeprefix(_PREFIX): value for key, value in metadata.items() if key.startswith(_PREFIX)}


def require_hard_links(folder: Path) -> None:
    """Check that Lance can commit in a folder: it does so by a hard link, which two writers cannot both make.

    Raises:
        StoreError: The file system has no hard links, as those of memory cards and some shares, or is full.
    """
    file, link = (folder / f".link-{end}.{os.getpid()}" for end in ("from", "to"))
    try:
        with writing(folder):
            file.touch()
        os.link(file, link)
    except OSError as error:
        raise StoreError(
            f"{folder}: nothing can be committed there: its file system makes no hard links ({error.strerror}); "
            "choose a folder on another one, such as a disk of this machine"
        ) from None
    finally:
        link.unlink(missing_ok=True)
        file.unlink(missing_ok=True)
