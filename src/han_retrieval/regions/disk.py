"""What Lance leaves to its user: one writer at a time, files that are on the disk, errors that a person can read."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa

from han_retrieval.errors import HANError
from han_retrieval.files import sync

LOCK_NAME = "writer.lock"


class WriterLock:
    """The right to write to a folder; the system takes it back when the process ends, however it ends.

    Raises:
        HANError: Someone else has it.
    """

    def __init__(self, folder: Path) -> None:
        self._file = (folder / LOCK_NAME).open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            writer = self._file.read().strip() or "unknown"
            self._file.close()
            raise HANError(f"{folder}: process {writer} is writing to it; wait for its end, or stop it") from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        """Let others write; the file stays, as deleting it could take it from under one who waits for it."""
        self._file.close()


class Syncing:
    """Brings new files of a folder tree to the disk; each file once, as Lance never changes one that it has written."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._done: set[Path] = set()

    def sync(self, *folders: str) -> None:
        """Sync the files that these folders of the root got since the last call, then the folders."""
        for folder in folders:
            for file in (self._root / folder).iterdir():
                if file not in self._done:
                    sync(file)
                    self._done.add(file)
            sync(self._root / folder)


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
        newest, *older = sorted((path / "_versions").glob("*.manifest"))
        mend = (
            f"if a power cut tore it, delete {newest} to have the version before it back" if older else "make it anew"
        )
        raise HANError(f"{path}: its newest version cannot be read ({str(error).split(', /')[0]}); {mend}") from None


def write_empty(path: Path, schema: pa.Schema) -> None:
    """Make an empty Lance table at ``path``, in place of an empty one if there is one."""
    # Version 2.1 of the file format is read by every pylance that this project allows.
    mode = "overwrite" if is_lance(path) else "create"
    lance.write_dataset(schema.empty_table(), path, mode=mode, data_storage_version="2.1")
    Syncing(path).sync("_transactions", "_versions", "")
