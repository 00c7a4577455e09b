"""What keeps a version of a table from being deleted while somebody reads it: a lock file a version.

A reader holds its version's file shared, a writer that deletes holds it alone. The system takes both back when a
process ends, however it ends.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

FOLDER = "readers"


def hold(table: Path, version: int) -> IO[str] | None:
    """Keep a version for as long as the file that is returned is open; None where nothing can be written.

    Whoever asks must then see that the version is still there: it may have been deleted just before.
    """
    try:
        (table / FOLDER).mkdir(exist_ok=True)
        file = (table / FOLDER / str(version)).open("a")
        fcntl.flock(file, fcntl.LOCK_SH)
    except OSError:
        return None
    return file


@contextmanager
def unread(table: Path, versions: Sequence[int]) -> Iterator[int]:
    """How many of some versions may be deleted inside of the block: those that are older than any that is read."""
    (table / FOLDER).mkdir(exist_ok=True)
    held: list[tuple[Path, IO[str]]] = []
    try:
        for version in sorted(versions):
            path = table / FOLDER / str(version)
            lock = path.open("a")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                break
            held.append((path, lock))
        yield len(held)
    finally:
        for path, file in held:
            path.unlink(missing_ok=True)
            file.close()
