"""Opening photo files: upright RGB images, or an error that says why not."""

from __future__ import annotations

import errno
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib.util import find_spec
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
from PIL import Image, ImageOps, UnidentifiedImageError

from han_retrieval.errors import DataError

try:
    from pillow_heif import register_heif_opener
except ImportError:
    register_heif_opener = None

HEIF_SUFFIXES = frozenset({".heic", ".heif"})
"""Endings of HEIF files, which Pillow reads where pillow-heif is installed."""

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".avif"})
if register_heif_opener is not None:
    register_heif_opener()
    PHOTO_SUFFIXES |= HEIF_SUFFIXES
"""File name endings, in lower case, that are taken for photos when a folder is walked."""

# No other formats: Pillow goes by content, and starts other programs for some of them (EPS).
_FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"]
if find_spec("PIL.AvifImagePlugin") is not None:  # Pillow 11.3 or newer
    _FORMATS.append("AVIF")
if register_heif_opener is not None:
    _FORMATS.append("HEIF")

PHOTO_READER = f"2, Pillow {PIL.__version__}{'' if register_heif_opener is None else ', HEIF'}"
"""Names what reads photos: what one version cannot read, another one may."""

MOST_PIXELS = 100_000_000
_MOST_BYTES = 2**31  # a photo of the most pixels takes less in any format, and hashing this much takes seconds

# Pillow warns on stderr about what open_photo reports or refuses, and about odd metadata, which does no harm.
warnings.filterwarnings("ignore", module=r"PIL\.")


class UnreadablePhotoError(DataError):
    """A photo's file cannot be read now, which says nothing of its content: it may be readable another time."""


def open_file(path: str | Path) -> BufferedReader:
    """Open the file of a photo for reading, without waiting for what is behind a pipe or a device.

    Raises:
        UnreadablePhotoError: The file is missing, or the system does not let it be read.
        DataError: It is a folder, a pipe, a device or the like, empty, or larger than any photo.
    """
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
    elif status.st_size > _MOST_BYTES:
        fault = f"{status.st_size:,} bytes, more than a photo takes"
    if fault:
        file.close()
        raise DataError(f"{path}: {fault}")
    return file


def open_photo(path: str | Path, *, max_pixels: int = MOST_PIXELS, shrink_to: int | None = None) -> Image.Image:
    """Open a photo as people see it: EXIF orientation applied, RGB, transparency over white, the first frame.

    The size is read from the header and checked before any pixel is decoded.

    Args:
        path: A file of JPEG, PNG, WebP, GIF, BMP, TIFF, PPM or AVIF, or HEIF where pillow-heif is installed.
        max_pixels: The largest width x height that is decoded; Pillow's own limit, 178,956,970, holds too.
        shrink_to: The pixels that are needed on either side: a JPEG is then decoded at a smaller scale where that is
            faster, other files as they are.

    Raises:
        UnreadablePhotoError: The file is missing or cannot be read now, or memory is short.
        DataError: The file is empty, no image, broken or truncated, or larger than ``max_pixels``; the message holds
            its path and the reason.
    """
    with _opened(Path(path), max_pixels) as photo:
        if shrink_to is not None:
            photo.draft(None, (shrink_to, shrink_to))
        photo.load()
        return upright_rgb(photo)


def count_pixels(path: str | Path, *, max_pixels: int = MOST_PIXELS) -> int:
    """Width x height of a photo, from its header; errors are those of ``open_photo``."""
    with _opened(Path(path), max_pixels) as photo:
        return photo.width * photo.height


@contextmanager
def _opened(path: Path, max_pixels: int) -> Iterator[Image.Image]:
    """A photo of which only the header was read, and clear errors of what is done with it."""
    try:
        # Opened here, since Pillow would map some files into memory, and the process die where such a file is cut.
        with open_file(path) as file, Image.open(file, formats=_FORMATS) as photo:
            width, height = photo.size
            if width * height > max_pixels:
                raise DataError(f"{path}: {width:,} x {height:,} pixels, more than the limit of {max_pixels:,}")
            yield photo
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image that can be read") from None
    except Image.DecompressionBombError:
        raise DataError(f"{path}: more pixels than the limit of {max_pixels:,}") from None
    except DataError:
        raise
    except MemoryError:
        raise UnreadablePhotoError(f"{path}: there is not enough memory to decode it") from None
    except Exception as error:  # on broken files, each of Pillow's codecs raises as it likes
        # The system's errors have a number; content that is broken leads to seeks that are invalid.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise UnreadablePhotoError(f"{path}: cannot be read ({error.strerror})") from None
        raise DataError(f"{path}: the image is broken or cannot be read ({error})") from None


class ExifInfo(NamedTuple):
    """When a photo was taken and with which camera: '2024-01-31 12:00:00', 'Canon EOS R'; None where unknown."""

    date: str | None
    camera: str | None


def read_exif(photo: Image.Image) -> ExifInfo:
    """The date and camera in the EXIF of a photo from ``open_photo``; broken entries count as missing."""
    date = camera = None
    with suppress(Exception):  # EXIF is written by anything, and broken in any way
        exif = photo.getexif()
        taken = exif.get_ifd(_EXIF_PART).get(_TAKEN) or exif.get(_CHANGED)
        maker, model = (_words(exif.get(tag)) for tag in (_MAKER, _MODEL))
        camera = (model if model.lower().startswith(maker.lower()) else f"{maker} {model}".strip()) or None
        date = str(datetime.strptime(_words(taken)[:19], "%Y:%m:%d %H:%M:%S"))
    return ExifInfo(date, camera)


# EXIF's numbers of what is read.
_EXIF_PART, _TAKEN, _CHANGED, _MAKER, _MODEL = 0x8769, 0x9003, 0x0132, 0x010F, 0x0110


def _words(value: Any) -> str:
    return " ".join(str(value or "").replace("\0", " ").split())


def upright_rgb(photo: Image.Image) -> Image.Image:
    """An image as people see it: EXIF orientation applied, RGB, transparency over white."""
    with suppress(Exception):  # broken EXIF in a sound photo
        photo = ImageOps.exif_transpose(photo)
    if photo.mode in ("I", "F") or photo.mode.startswith("I;16"):
        return _grey_as_rgb(photo)
    if photo.has_transparency_data:
        photo = photo.convert("RGBA")
        photo = Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo)
    return photo.convert("RGB")


def _grey_as_rgb(photo: Image.Image) -> Image.Image:
    """16-bit, 32-bit and floating greys, which Pillow's own conversion would clip at 255."""
    grey = np.nan_to_num(np.asarray(photo, dtype=np.float64), posinf=0.0, neginf=0.0)
    # 16-bit files hold 0..65535 and floating ones 0..1 or 0..255; a 32-bit file beyond 16 bits fills its own range.
    largest = float(grey.max(initial=0.0))
    full = next(end for end in ((1.0, 255.0, largest) if photo.mode == "F" else (65535.0, largest)) if largest <= end)
    return Image.fromarray(np.clip(grey / full * 255.0 + 0.5, 0, 255).astype(np.uint8)).convert("RGB")
