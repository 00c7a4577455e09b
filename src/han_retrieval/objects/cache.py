"""Copies of photos of object storage on this machine: most are read more than once.

They are in the user's cache folder, at most ``HAN_CACHE_GB`` of them (10 by default); those that were not used for
longest leave first. A copy is of one state of an object, which its name says, so that a changed object is copied anew.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from han_retrieval.caches import cache_folder
from han_retrieval.errors import ConfigError
from han_retrieval.objects.path import ObjectPath, ObjectStatus

SETTING = "HAN_CACHE_GB"

_DEFAULT_GB = 10.0
_SWEEPS = 20  # in the time in which so many bytes are copied as there is room for
_lock = threading.Lock()
_copied = 0  # bytes, since the cache was swept


def most_bytes() -> int:
    """The most bytes that the copies take, by the setting.

    Raises:
        ConfigError: It is no number of gigabytes.
    """
    text = os.environ.get(SETTING, "")
    try:
        size = float(text) if text else _DEFAULT_GB
        return int(size * 1e9) if size >= 0 else int("")
    except (ValueError, OverflowError):
        raise ConfigError(f"{SETTING} is {text!r}; give the size of the cache in gigabytes, such as 10") from None


def folder() -> Path:
    """Where the copies are."""
    return cache_folder() / "objects"


def local_copy(path: ObjectPath) -> Path | bytes:
    """A file of this machine with the content of an object; the content itself where it cannot be kept.

    Raises:
        FileNotFoundError: There is no such object.
        StoreError: It cannot be read.
    """
    file = _file(path, path.stat())
    with suppress(OSError):
        os.utime(file)  # used now
        return file
    content, status = path.read()
    file = _file(path, status)
    return file if keep(file, content) else content


def keep(file: Path, content: bytes) -> bool:
    """Write a file into the cache; whether there was room for it."""
    most = most_bytes()
    if len(content) > most // 2:
        return False
    temporary = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary.write_bytes(content)
        temporary.replace(file)
    except OSError:  # a full disk, or one that may not be written to
        with suppress(OSError):
            temporary.unlink()
        return False
    _make_room(len(content), most)
    return True


def _file(path: ObjectPath, status: ObjectStatus) -> Path:
    state = f"{path}\0{status.e_tag}\0{status.version}\0{status.st_size}"
    name = blake2b(state.encode(errors="surrogatepass"), digest_size=16).hexdigest()
    return folder() / "photos" / name[:2] / (name + path.suffix.lower())


def _make_room(size: int, most: int) -> None:
    """Delete the copies that were not used for longest, now and then, so that no more bytes are kept than may be."""
    global _copied
    with _lock:
        first = not _copied
        _copied += size
        if not first and _copied < most // _SWEEPS:
            return
        _copied = 1
    kept = []
    for file in (folder() / "photos").rglob("*"):
        with suppress(OSError):
            if file.is_file():
                status = file.stat()
                kept.append((status.st_mtime, status.st_size, file))
    room = most - most // _SWEEPS
    for _, length, file in sorted(kept, reverse=True):
        room -= length
        if room < 0:
            with suppress(OSError):
                file.unlink()
