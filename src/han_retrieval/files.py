"""Files that are never seen half written."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from han_retrieval.errors import StoreError
from han_retrieval.objects import ObjectPath, is_remote, to_path

_WINDOWS = os.name == "nt"
_TRIES = 20  # on Windows, a twentieth of a second apart

BACKBONE_FOLDER = "backbone"
"""Where a model's folder holds the image backbone that was trained with it, if one was."""


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a run after a crash, finds the old content or the new one.

    What a link leads to is written, and the link stays. A device or a pipe, such as /dev/stdout, is written as it is.

    Raises:
        StoreError: The file cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    if is_remote(path):
        path.write_bytes(data)
        return
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        path = path.resolve() if path.is_symlink() else path
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise StoreError(f"{path}: cannot be written ({getattr(error, 'strerror', None) or error})") from None
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        move(temporary, path)
        sync(path.parent)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        with contextlib.suppress(OSError):  # it has the file's name by now, or never was
            temporary.unlink()


def leftovers(folder: Path) -> Iterator[Path]:
    """The files in a folder that processes which were killed had not finished: ``.NAME.PROCESS``.

    Whoever deletes them must be the one that writes there.
    """
    return (file for file in folder.glob(".*") if re.fullmatch(r"\..+\.\d+", file.name) and file.is_file())


def stamp(path: Path) -> tuple[int, int, int] | None:
    """Inode, size and time of a file, which change when it is replaced; None where there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal digits.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def from_home(path: str | Path | ObjectPath) -> Path:
    """``to_path`` with "~" as the home folder; as it is where there is no such user, as of a file named "~draft"."""
    if isinstance(path, ObjectPath):
        return to_path(path)
    return to_path(os.path.expanduser(path))  # noqa: PTH111, that of pathlib raises


def move(source: Path, target: Path) -> None:
    """Give a file or a folder another name, in place of a file that has it.

    Windows refuses this while another process has one of the two open; as most do so for a moment, try for a second.

    Raises:
        OSError: It cannot be moved.
    """
    for tries_left in reversed(range(_TRIES if _WINDOWS else 1)):
        try:
            source.replace(target)
            return
        except PermissionError:
            if not tries_left:
                raise
            time.sleep(0.05)


def sync(path: Path) -> None:
    """Bring a file's content, or a folder's list of names, to the disk, so that it survives a power cut.

    Windows cannot do this for a folder, and needs a file to be open for writing.
    """
    if _WINDOWS and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if _WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
