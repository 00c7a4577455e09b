"""Files that are never seen half written."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from han_retrieval.errors import HANError


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a run after a crash, finds the old content or the new one.

    Raises:
        HANError: The file cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise HANError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        with contextlib.suppress(OSError):  # it has the file's name by now, or never was
            temporary.unlink()


def sync(path: Path) -> None:
    """Bring a file's content, or a folder's list of names, to disk, so that it survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
