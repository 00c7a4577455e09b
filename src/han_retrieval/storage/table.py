"""A Lance table as a store needs it: one writer, commits that are on the disk, errors that a person can read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

from han_retrieval.errors import StoreError
from han_retrieval.files import sync
from han_retrieval.objects import is_remote
from han_retrieval.objects.connection import lance_options
from han_retrieval.storage import hashes
from han_retrieval.storage.checksums import Groups, add_checksums
from han_retrieval.storage.failures import writing
from han_retrieval.storage.lease import require_lease
from han_retrieval.storage.locks import forget_readers, lock_unread
from han_retrieval.storage.versions import (
    PREFIX,
    delete_leftovers,
    is_table,
    metadata_of,
    newest,
    open_dataset,
    open_version,
    require_unchanged,
    versions,
)
from han_retrieval.storage.written import require_written

if TYPE_CHECKING:
    import pyarrow as pa

# Files of at least this many rows are left as they are; smaller ones are merged once there are so many of them.
ROWS_A_FILE = 8192
SMALL_FILES = 64
# On object storage, where readers cannot be told from the files that they read.
KEPT = timedelta(days=1)


class Table:
    """A table to read and, by whoever holds the folder's ``WriterLock``, to write to.

    What a method has committed is on the disk when it returns: data files are synced and read back before the manifest
    that names them is written, and that before the method returns. A process that is killed loses the commit it was
    at, and nothing else.

    On object storage, Lance's own protocol holds: only the first of two writers can make a version. What is written
    there is whole, so that no files are read back, and old versions are kept for a day.

    Args:
        path: Its folder.
        checksums: The columns of checksums, and what they cover; a table that was made without them stays so.
        versions_held: Whether readers hold the version that they read (``hold_version``). Otherwise old versions are
            deleted whether or not somebody reads them, and readers must open the newest one where a file is gone.

        dataset: Its newest version, where that is open already.

    Attributes:
        dataset: The Lance dataset, at the version that was opened or committed last.

    Raises:
        StoreError: It cannot be read, or is not as it was written.
    """

    def __init__(
        self, path: Path, *, checksums: Groups, versions_held: bool = False, dataset: Any | None = None
    ) -> None:
        self.path = path
        self.dataset = open_dataset(path) if dataset is None else dataset
        self._checksums = checksums
        self._versions_held = versions_held
        self._synced: set[Path] = set()

    @classmethod
    def create(
        cls,
        path: Path,
        schema: pa.Schema,
        metadata: Mapping[str, object],
        *,
        checksums: Groups,
        versions_held: bool = False,
        stable_row_ids: bool = False,
    ) -> Self:
        """A new, empty table, in place of an empty one if there is one.

        Raises:
            StoreError: The file system has no hard links, or nothing can be written there.
        """
        import lance

        if not is_remote(path):
            require_hard_links(path)
        require_lease(path)
        empty = schema.with_metadata({PREFIX + name: str(value) for name, value in metadata.items()}).empty_table()
        mode = "overwrite" if is_table(path) else "create"
        with writing(path):
            if mode == "create" and not is_remote(path):  # what a power cut left
                shutil.rmtree(path / "_versions", ignore_errors=True)
            # Version 2.1 of the file format is read by every pylance that this project allows.
            lance.write_dataset(
                empty,
                str(path),
                mode=mode,
                data_storage_version="2.1",
                enable_stable_row_ids=stable_row_ids,
                storage_options=lance_options(path),
            )
        table = cls(path, checksums=checksums, versions_held=versions_held)
        with writing(path):
            table._sync("_transactions", "_versions", "")
        table.begin_writing()
        return table

    @property
    def metadata(self) -> dict[str, str]:
        """What ``create`` was given about the table."""
        return metadata_of(self.dataset)

    def __len__(self) -> int:
        return int(self.dataset.count_rows())

    def begin_writing(self) -> None:
        """Go to the newest version, and delete what killed processes and power cuts left.

        Raises:
            StoreError: It cannot be read, or nothing can be written there.
        """
        self.reopen()
        if is_remote(self.path):
            return
        with writing(self.path):
            for version in versions(self.path):
                if version > self.dataset.version:  # torn, as it was not opened
                    hashes.manifest_path(self.path, version).unlink()
            self._record(self.dataset, ())
            delete_leftovers(self.path)

    def reopen(self) -> None:
        """Go to the newest version.

        Raises:
            StoreError: It cannot be read.
        """
        self.dataset = open_dataset(self.path)

    def catch_up(self) -> None:
        """Go to the newest version, where a commit of this object was interrupted before its method returned."""
        if newest(self.path) != self.dataset.version:
            self.begin_writing()

    def append(self, rows: pa.Table) -> pa.Table:
        """Commit rows at the end of the table; ``compact`` where there are many small files.

        Returns:
            The rows with their checksums.

        Raises:
            StoreError: They cannot be written; the table is as it was.
        """
        import lance

        rows = add_checksums(rows, self._checksums, self.dataset.schema).cast(self.dataset.schema)
        with writing(self.path):
            fragments = lance.fragment.write_fragments(rows, self.dataset)
        self._commit(lance.LanceOperation.Append(fragments), fragments)
        if sum(each.physical_rows < ROWS_A_FILE for each in self.dataset.get_fragments()) >= SMALL_FILES:
            self.compact()
        return rows

    def merge(self, change: Callable[[Any], Any], rows: pa.Table) -> None:
        """Commit a change of rows that are there already.

        Args:
            change: Given the dataset, returns Lance's merge-insert builder.
            rows: What the builder is to merge, all columns that a checksum covers or none.

        Raises:
            StoreError: They cannot be written; the table is as it was.
        """
        given = {name: of for name, of in self._checksums.items() if set(of) <= set(rows.column_names)}
        rows = add_checksums(rows, given, self.dataset.schema)
        with writing(self.path):
            transaction, _ = change(self.dataset).execute_uncommitted(rows)
        operation = transaction.operation
        self._commit(transaction, [*operation.updated_fragments, *getattr(operation, "new_fragments", ())])

    def replace(self, fragments: Collection[int], batches: Iterator[pa.RecordBatch]) -> None:
        """Commit the table without some of its fragments, and with rows, with their checksums, in their place.

        Raises:
            StoreError: They cannot be written; the table is as it was.
        """
        import lance
        import pyarrow as pa

        with writing(self.path):
            rows = pa.RecordBatchReader.from_batches(self.dataset.schema, batches)
            written = lance.fragment.write_fragments(rows, self.dataset)
        change = lance.LanceOperation.Update(removed_fragment_ids=list(fragments), new_fragments=written)
        self._commit(change, written)

    def let_commit(self, change: Callable[[Any], Any]) -> None:
        """Let Lance commit a change that writes no row, such as a vector index.

        Args:
            change: Given the dataset, makes the change and commits it.

        Raises:
            StoreError: It cannot be written; the rows are as they were.
        """
        with writing(self.path):
            change(self.dataset)
            indices = self.path / "_indices"
            folders = [f"_indices/{each.name}" for each in indices.iterdir()] if indices.is_dir() else []
            self._sync(*folders, "_indices", "_transactions", "_versions")
            self._record(open_dataset(self.path), ())
        self.reopen()

    def compact(self) -> None:
        """Merge small files, then delete what nothing needs: merged files, old versions, leftovers of killed processes.

        Rows keep their numbers. Killed meanwhile, the table holds what it held, and some files that the next call
        deletes.

        Raises:
            StoreError: The disk is full or may not be written to.
        """
        if self._merge_files():
            self.reopen()
        if bool(is_remote(self.path)):
            with writing(self.path):
                self.dataset.cleanup_old_versions(older_than=KEPT)
            return
        # There is one writer, so that a file which no version names is a leftover however new it is.
        with writing(self.path):
            if not self._versions_held:
                self.dataset.cleanup_old_versions(older_than=timedelta(0), delete_unverified=True)
            else:
                older = versions(self.path)[1:]
                with lock_unread(self.path, older) as unread:
                    self.dataset.cleanup_old_versions(retain_versions=len(older) + 1 - unread, delete_unverified=True)
                forget_readers(self.path, versions(self.path))
            hashes.forget(self.path, versions(self.path))
            delete_leftovers(self.path)

    def _merge_files(self) -> bool:
        from lance.optimize import Compaction

        with writing(self.path):
            options: Any = {
                "target_rows_per_fragment": ROWS_A_FILE,
                "compaction_mode": "try_binary_copy",
                "batch_size": 64,
            }
            tasks = Compaction.plan(self.dataset, options).tasks
            if tasks:  # of small files, and of those with deleted rows
                files = [each.metadata for each in self.dataset.get_fragments()]
                files = [each for each in files if each.physical_rows < ROWS_A_FILE or each.deletion_file]
                require_unchanged(self.path, self.dataset.version, files)
            rewrites: list[Any] = [task.execute(self.dataset) for task in tasks]
            if rewrites:
                # Not rewrite.new_fragments, which pylance 4 cannot make where row ids are stable.
                done = [json.loads(each.json(), object_hook=lambda each: SimpleNamespace(**each)) for each in rewrites]
                written = [fragment for each in done for fragment in each.new_fragments]
                self._sync("data")
                names = self._read_back(written)
                require_lease(self.path)
                Compaction.commit(self.dataset, rewrites)
                self._sync("_transactions", "_versions")
                self._record(open_dataset(self.path), names)
        return bool(rewrites)

    def _commit(self, change: Any, written: Collection[Any]) -> None:
        """Commit a change whose fragments were written."""
        import lance

        with writing(self.path):
            self._sync("data", "_deletions")
            names = self._read_back(written)
            require_lease(self.path)
            version = lance.LanceDataset.commit(self.dataset, change, read_version=self.dataset.version).version
            self._sync("_transactions", "_versions")
            try:
                committed = open_version(self.path, version)
            except StoreError:  # nobody can have read it
                if not is_remote(self.path):
                    hashes.manifest_path(self.path, version).unlink()
                raise
            self._record(committed, names)
        if is_remote(self.path) and version != self.dataset.version + 1:
            self._refuse(change, committed, names)
        self.dataset = committed

    def _refuse(self, change: Any, committed: Any, written: set[str]) -> None:
        """Stop after a commit before which another writer made one; delete its rows, which the other may have too.

        Lance puts such a commit behind the other. It can only be where this process was suspended for so long that
        another one took over just before the commit.
        """
        import lance

        if isinstance(change, lance.LanceOperation.Append):
            added = [each for each in committed.get_fragments() if written & {*hashes.names_of(each.metadata)}]
            undo = lance.LanceOperation.Delete([], [each.fragment_id for each in added], "false")
            with writing(self.path):
                lance.LanceDataset.commit(committed, undo, read_version=committed.version)
        raise StoreError(f"{self.path}: another process writes to it; give the command again when it has ended")

    def _read_back(self, fragments: Collection[Any]) -> set[str]:
        """Check the files of fragments that are new, of which Lance's writer promises little; their names."""
        known = set(hashes.file_names(self.dataset))
        return require_written(self.path, fragments, known, self._checksums)

    def _record(self, dataset: Any, written: Collection[str]) -> None:
        """Write the hashes of a version that is on the disk, unless there are some."""
        if not is_remote(self.path) and not hashes.is_recorded(self.path, dataset.version):
            hashes.record(self.path, dataset.version, dataset, written, self.dataset.version)

    def _sync(self, *folders: str) -> None:
        """Bring the new files of these folders to the disk, then the folders; Lance never changes a written file."""
        if is_remote(self.path):
            return
        for folder in (self.path / name for name in folders):
            if not folder.is_dir():
                continue
            for file in folder.iterdir():
                if file not in self._synced and file.is_file():
                    sync(file)
                    self._synced.add(file)
            sync(folder)


def require_hard_links(folder: Path) -> None:
    """Check that Lance can commit in a folder: it does so by a hard link, which two writers cannot both make.

    Raises:
        StoreError: The file system has no hard links, as those of memory cards and some shares, or is full.
    """
    file, link = (folder / f".link-{end}.{os.getpid()}" for end in ("from", "to"))
    try:
        link.unlink(missing_ok=True)  # of a killed process that had the same number
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
