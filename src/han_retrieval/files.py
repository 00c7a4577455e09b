"""Writing files in one step, and bringing them to disk."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from han_retrieval.errors import HANError

_WINDOWS = os.name == "nt"


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, also after a crash, finds either the old content or the new one.

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
        with contextlib.suppress(OSError):  # it was renamed, or never created
            temporary.unlink()


def sync(path: Path) -> None:
    """Bring a file's content, or a folder's list of names, to disk, so that it survives a power cut.

    Windows cannot do this for a folder, and needs a file to be open for writing.
    """
    if _WINDOWS and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if _WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
