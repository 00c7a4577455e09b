"""What Lance leaves to its user: one writer at a time, files that are on the disk, errors that a person can read."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
from lance.fragment import write_fragments
from lance.optimize import Compaction

from han_retrieval.errors import HANError
from han_retrieval.files import sync

LOCK_NAME = "writer.lock"


class WriterLock:
    """The right to write to a folder; the system takes it back when the process ends, however it ends.

    Raises:
        HANError: Someone else has it, or nothing can be written there.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self._file = (folder / LOCK_NAME).open("ab+", buffering=0)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            writer = self._file.read().decode(errors="replace").strip() or "unknown"
            self._file.close()
            raise HANError(f"{folder}: process {writer} is writing to it; wait for its end, or stop it") from None
        except OSError as error:
            raise HANError(f"{folder}: nothing can be written there ({error.strerror})") from None
        with suppress(OSError):  # on a full disk the lock holds all the same
            self._file.truncate(0)
            self._file.write(str(os.getpid()).encode())

    def release(self) -> None:
        """Let others write; the file stays, as deleting it could take it from under one who waits for it."""
        self._file.close()


class Syncing:
    """Brings new files of a folder tree to the disk; each file once, as Lance never changes one that it has written.

    Attributes:
        root: The folder at the top.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._done: set[Path] = set()

    def sync(self, *folders: str) -> None:
        """Sync the files that these folders of the root got since the last call, then the folders."""
        for folder in folders:
            if not (self.root / folder).is_dir():
                continue
            for file in (self.root / folder).iterdir():
                if file not in self._done:
                    sync(file)
                    self._done.add(file)
            sync(self.root / folder)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around what writes to a table at ``path``: what the system or Lance has against it becomes one line.

    Raises:
        HANError: The disk is full, may not be written to, or the like.
    """
    try:
        yield
    except OSError as error:
        raise HANError(
            f"{path}: cannot be written ({reason_of(error)}); make room or choose another disk; "
            "what was committed is kept"
        ) from None


def reason_of(error: Exception) -> str:
    """What an error of the system or of Lance says, in a few words, without places in Lance's source."""
    number = re.search(r"\(os error (\d+)\)", str(error))
    strerror = os.strerror(int(number[1])) if number else getattr(error, "strerror", None)
    return strerror or str(error).split(", /")[0]


def is_lance(path: Path) -> bool:
    """Whether a folder holds a committed version of a Lance table."""
    return any((path / "_versions").glob("*.manifest"))


def open_lance(path: Path) -> Any:
    """The newest version of the Lance table at ``path``.

    Raises:
        HANError: It cannot be read; the message names the file to delete where the last commit is torn, as a power
            cut can leave it.
    """
    try:
        return lance.dataset(path)
    except (OSError, ValueError) as error:
        # Manifests are named by 2^64 - 1 - version, so the newest comes first.
        manifests = sorted((path / "_versions").glob("*.manifest"))
        mend = (
            f"if a power cut tore it, delete {manifests[0]} to have the version before it back"
            if len(manifests) > 1
            else "make it anew"
        )
        raise HANError(f"{path}: its newest version cannot be read ({reason_of(error)}); {mend}") from None


def write_empty(path: Path, schema: pa.Schema, *, stable_row_ids: bool = False) -> None:
    """Make an empty Lance table at ``path``, in place of an empty one if there is one.

    Raises:
        HANError: The file system has no hard links, or nothing can be written there.
    """
    require_hard_links(path)
    # Version 2.1 of the file format is read by every pylance that this project allows.
    mode = "overwrite" if is_lance(path) else "create"
    with writing(path):
        lance.write_dataset(
            schema.empty_table(), path, mode=mode, data_storage_version="2.1", enable_stable_row_ids=stable_row_ids
        )
        Syncing(path).sync("_transactions", "_versions", "")


def require_hard_links(folder: Path) -> None:
    """See that Lance can commit in a folder, which it does by a hard link: the one step that cannot happen twice.

    Raises:
        HANError: The file system has no hard links, as those of memory cards and some shares, or is full.
    """
    file, link = (folder / f".link-{end}.{os.getpid()}" for end in ("from", "to"))
    try:
        with writing(folder):
            file.touch()
        os.link(file, link)
    except OSError as error:
        raise HANError(
            f"{folder}: nothing can be committed there: its file system makes no hard links ({error.strerror}); "
            "choose a folder on another one, such as a disk of this machine"
        ) from None
    finally:
        link.unlink(missing_ok=True)
        file.unlink(missing_ok=True)


def append(dataset: Any, rows: pa.Table, disk: Syncing) -> Any:
    """Commit rows to the end of a table; they are on the disk before the manifest that names them is written.

    Raises:
        HANError: They cannot be written; the table is as it was.
    """
    with writing(disk.root):
        fragments = write_fragments(rows, dataset)
    return commit(dataset, lance.LanceOperation.Append(fragments), disk)


def commit(dataset: Any, change: Any, disk: Syncing) -> Any:
    """Commit an operation, or a transaction, whose files are written; both are on the disk when it returns.

    Raises:
        HANError: It cannot be written.
    """
    with writing(disk.root):
        disk.sync("data", "_deletions")
        committed = lance.LanceDataset.commit(dataset, change, read_version=dataset.version)
        disk.sync("_transactions", "_versions")
    return committed


def merge_files(dataset: Any, disk: Syncing, *, rows_a_file: int) -> bool:
    """Commit a table's small files as larger ones, if that makes fewer.

    Returns:
        Whether there is a new version.

    Raises:
        HANError: They cannot be written; the table is as it was.
    """
    with writing(disk.root):
        plan = Compaction.plan(
            dataset, {"target_rows_per_fragment": rows_a_file, "compaction_mode": "try_binary_copy", "batch_size": 64}
        )
        rewrites = [task.execute(dataset) for task in plan.tasks]
        if rewrites:
            disk.sync("data")
            Compaction.commit(dataset, rewrites)
            disk.sync("_transactions", "_versions")
    return bool(rewrites)
