"""Files of photos, opened for reading: on this machine, and in object storage."""

from __future__ import annotations

import os
import stat
from io import BytesIO
from pathlib import Path
from typing import IO

from han_retrieval.errors import DataError, StoreError
from han_retrieval.objects import ObjectPath

MOST_BYTES = 2**31  # a photo of the most pixels takes less in any format, and hashing this much takes seconds


class UnreadablePhotoError(DataError):
    """A photo's file cannot be read now, which says nothing of its content: it may be readable another time."""


def open_stored(path: Path | ObjectPath) -> IO[bytes]:
    """Open a file without waiting for what is behind a pipe or a device; ``photos.open_file`` takes URLs, too.

    An object of object storage is copied into the cache of this machine first.

    Raises:
        UnreadablePhotoError: The file is missing, or the system does not let it be read.
        DataError: It is a folder, a pipe, a device or the like, empty, or larger than any photo.
    """
    if isinstance(path, ObjectPath):
        return _open_object(path)
    try:
        # Without O_NONBLOCK, opening a named pipe waits for a writer.
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))  # noqa: SIM115
    except FileNotFoundError:
        raise UnreadablePhotoError(f"{path}: no such photo") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder, not a photo") from None
    except (OSError, ValueError) as error:
        if Path(path).is_dir():  # which Windows has no permission to open
            raise DataError(f"{path}: is a folder, not a photo") from None
        raise UnreadablePhotoError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    status = os.fstat(file.fileno())
    fault = None
    if not stat.S_ISREG(status.st_mode):
        fault = "is no regular file"
    elif not status.st_size:  # files of /proc are too, and reading some of them never ends
        fault = "the file is empty"
    elif status.st_size > MOST_BYTES:
        fault = f"{status.st_size:,} bytes, more than a photo takes"
    if fault:
        file.close()
        raise DataError(f"{path}: {fault}")
    return file


def _open_object(path: ObjectPath) -> IO[bytes]:
    """As ``open_stored``."""
    from han_retrieval.objects.cache import local_copy

    try:
        size = path.stat().st_size
        if not size:
            raise DataError(f"{path}: the file is empty")
        if size > MOST_BYTES:
            raise DataError(f"{path}: {size:,} bytes, more than a photo takes")
        copy = local_copy(path)
        return BytesIO(copy) if isinstance(copy, bytes) else copy.open("rb")
    except FileNotFoundError:
        raise UnreadablePhotoError(f"{path}: no such photo") from None
    except OSError as error:
        raise UnreadablePhotoError(f"{path}: cannot be read ({error.strerror})") from None
    except StoreError as error:
        raise UnreadablePhotoError(str(error)) from None
