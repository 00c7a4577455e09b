"""File locks between processes. The operating system releases them when a process ends, however it ends.

A folder has one writer, which holds ``writer.lock`` exclusively. Readers of a table hold the version that they read:
each version has a lock file, which a reader holds shared and a writer takes exclusively before it deletes the version.
Locks are portalocker's: flock on Linux and macOS, LockFileEx and msvcrt on Windows.

Object storage has no locks: a writer has a ``Lease``, and readers hold nothing, as old versions are kept for a while.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from han_retrieval.errors import StoreError
from han_retrieval.objects import is_remote
from han_retrieval.storage.closing import Closing
from han_retrieval.storage.lease import Lease

LOCK_NAME = "writer.lock"
READERS_NAME = "readers"


class WriterLock(Closing):
    """The exclusive right to write to a folder, or below a prefix of object storage.

    Raises:
        StoreError: Another process, or another object of this one, has it, or nothing can be written there.
    """

    def __init__(self, folder: Path) -> None:
        self._held = Lease(folder, LOCK_NAME) if is_remote(folder) else _locked_file(folder)

    def close(self) -> None:
        """Release the lock. The file stays: another process may be about to lock it."""
        self._held.close()


def _locked_file(folder: Path) -> IO[bytes]:
    import portalocker

    try:
        file = (folder / LOCK_NAME).open("ab+", buffering=0)
    except OSError as error:
        raise StoreError(f"{folder}: nothing can be written there ({error.strerror})") from None
    try:
        portalocker.lock(file, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
    except portalocker.AlreadyLocked:
        writer = _writer(file)
        file.close()
        raise StoreError(f"{folder}: {writer} is writing to it; wait until it ends, or stop it") from None
    except portalocker.LockException as error:
        file.close()
        raise StoreError(f"{folder}: its file system has no locks ({error}); choose a folder elsewhere") from None
    with suppress(OSError):  # a full disk: the lock is held all the same
        file.truncate(0)
        file.write(str(os.getpid()).encode())
    return file


def _writer(file: IO[bytes]) -> str:
    try:
        file.seek(0)
        number = file.read().decode(errors="replace").strip()
    except OSError:  # Windows lets nobody read what is locked
        number = ""
    return f"process {number}" if number else "another process"


def hold_version(table: Path, version: int) -> IO[str] | None:
    """Keep a version of a table from being deleted until the returned file is closed.

    The version may have been deleted just before, so the caller must open it after this call.

    Returns:
        None where nothing can be written, as on a read-only share, and on object storage; the version is not held
        then.
    """
    if is_remote(table):
        return None
    import portalocker

    try:
        path = _lock_path(table, version)
        path.parent.mkdir(exist_ok=True)
        file = path.open("a+")  # NFS refuses a shared lock on what is open for writing alone
    except OSError:
        return None
    try:
        portalocker.lock(file, portalocker.LockFlags.SHARED)
    except portalocker.LockException:
        file.close()
        return None
    return file


@contextmanager
def lock_unread(table: Path, versions: Sequence[int]) -> Iterator[int]:
    """Lock the versions that the block may delete: those older than any that is being read.

    Yields:
        How many of the given versions these are, oldest first.
    """
    import portalocker

    locks: list[tuple[Path, IO[str]]] = []
    deleted = False
    try:
        for version in sorted(versions):
            path = _lock_path(table, version)
            path.parent.mkdir(exist_ok=True)
            file = path.open("a+")
            try:
                portalocker.lock(file, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
            except portalocker.LockException:
                file.close()
                break
            locks.append((path, file))
        yield len(locks)
        deleted = True
    finally:
        for path, held in locks:
            held.close()  # before it is deleted: Windows deletes no open file
            if deleted:
                with suppress(OSError):  # a reader has just opened it
                    path.unlink()


def locked_versions(table: Path) -> list[int]:
    """The versions of a table that have a lock file; ``lock_unread`` finds out which of them are being read."""
    numbers = (file.name.rpartition("-")[2] for file in _lock_path(table, 0).parent.glob(f"{table.name}-*"))
    return [int(number) for number in numbers if number.isdecimal()]


def forget_readers(table: Path, versions: Collection[int] = ()) -> None:
    """Delete the lock files that a killed process left of versions that are gone; ``versions`` are there."""
    with lock_unread(table, [number for number in locked_versions(table) if number not in versions]):
        pass


def _lock_path(table: Path, version: int) -> Path:
    # Beside the table, not in it: Windows renames no folder with an open file in it.
    return table.parent / READERS_NAME / f"{table.name}-{version}"
