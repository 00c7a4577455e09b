"""Opening photo files: upright RGB images, or an error that says why not."""

from __future__ import annotations

import errno
import math
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import PIL
from pi_heif import register_heif_opener
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from han_retrieval.data.jpegs import check_scans, decode_cut
from han_retrieval.data.packed import PhotoBytes
from han_retrieval.data.stored_files import UnreadablePhotoError, open_stored
from han_retrieval.data.url_path import UrlPath
from han_retrieval.data.urls import read_url
from han_retrieval.data.written import DESCRIPTION, GPS_PART, place_of, read_position, read_text
from han_retrieval.errors import ConfigError, DataError, HANError, one_line
from han_retrieval.objects import to_path

register_heif_opener()

PHOTO_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".avif", ".heic", ".heif"}
)
"""File name endings, in lower case, that are taken for photos when a folder is walked."""

# No other formats: Pillow goes by content, and starts other programs for some of them (EPS).
_FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "HEIF"]
if find_spec("PIL.AvifImagePlugin") is not None:  # Pillow 11.3 or newer
    _FORMATS.append("AVIF")

PHOTO_READER = f"2, Pillow {PIL.__version__}, HEIF"
"""Names what reads photos: what one version cannot read, another one may."""

_MOST_PIXELS = 178_956_970  # Pillow's own limit; most phones make photos of up to 108 megapixels


def most_pixels() -> int:
    """The most pixels of a photo that is opened: HAN_MOST_PIXELS in the environment, or Pillow's own limit.

    Raises:
        ConfigError: HAN_MOST_PIXELS is no number of pixels.
    """
    given = os.environ.get("HAN_MOST_PIXELS", "").strip()
    if not given:
        return _MOST_PIXELS
    if not given.isdecimal() or not 0 < int(given) < 2**40:
        raise ConfigError(f"HAN_MOST_PIXELS is the most pixels of a photo, such as 250000000, not {given!r}")
    if Image.MAX_IMAGE_PIXELS is not None:  # Pillow refuses more than twice as many
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, -(-int(given) // 2))
    return int(given)


MOST_PIXELS = most_pixels()
_SLOW_DECODERS = frozenset({"ppm_plain", "bmp_rle"})  # which Pillow has in Python, byte by byte
_MOST_SLOW_BYTES = 2**25
_PIXELS_A_BAND = 2**22
# Among what Pillow keeps with an image, and with its flipped copies.
_NAMES, _SIZE = "han-retrieval: names", "han-retrieval: full size"
# A photo is decoded at no less than so many times the size that is needed: its pixels are means of so many, as those
# of a photo resized from full size.
_MARGIN = 1.5

ShrinkTo = int | Callable[[int, int], tuple[int, int]]
"""The pixels that are needed of a photo on both sides, or what gives them for its upright width and height."""

# Pillow warns on stderr about what open_photo reports or refuses, and about odd metadata, which does no harm.
warnings.filterwarnings("ignore", module=r"PIL\.")


def reason_without(path: str | Path | UrlPath | PhotoBytes, error: HANError) -> str:
    """What an error says of a file, without the path before it."""
    return str(error).removeprefix(one_line(f"{path}:")).lstrip()


def open_file(path: str | Path | UrlPath) -> IO[bytes]:
    """Open the file of a photo for reading, without waiting for what is behind a pipe or a device.

    An object of object storage is copied into the cache of this machine first.

    Raises:
        UnreadablePhotoError: The file is missing, or the system does not let it be read.
        DataError: It is a folder, a pipe, a device or the like, empty, or larger than any photo.
    """
    if isinstance(path, UrlPath):
        return BytesIO(read_url(path.url))
    return open_stored(to_path(path))


def open_photo(
    path: str | Path | UrlPath | PhotoBytes, *, max_pixels: int = MOST_PIXELS, shrink_to: ShrinkTo | None = None
) -> Image.Image:
    """Open a photo as people see it: EXIF orientation applied, RGB, transparency over white, the first frame.

    The size is read from the header and checked before any pixel is decoded.

    Args:
        path: A file of JPEG, PNG, WebP, GIF, BMP, TIFF, PPM, AVIF or HEIF; or the content of one.
        max_pixels: The largest width x height that is decoded, by default ``most_pixels()``.
        shrink_to: The pixels that are needed on either side: a JPEG is then decoded at a smaller scale where that is
            faster, other files as they are. As a function of width and height, it gives width and height that are
            needed, and a much larger photo of any format but TIFF comes at a smaller scale; see ``full_size``.

    Raises:
        UnreadablePhotoError: The file is missing or cannot be read now, or memory is short.
        DataError: The file is empty, no image, broken or truncated, or larger than ``max_pixels``; the message holds
            its path and the reason.
    """
    path = path if isinstance(path, PhotoBytes | UrlPath) else to_path(path)
    with _opened(path, max_pixels) as (file, photo):
        is_jpeg = photo.format in ("JPEG", "MPO")
        if is_jpeg:
            check_scans(file)
        decoder = photo.tile[0][0] if isinstance(photo, ImageFile.ImageFile) and photo.tile else ""
        if decoder in _SLOW_DECODERS and (size := file.seek(0, os.SEEK_END)) > _MOST_SLOW_BYTES:
            raise DataError(f"{path}: {size:,} bytes of a kind that takes minutes to read; save it as PNG")
        if decoder == "ppm":
            return _named(_upright_rgb(_load_ppm(photo, file)), path)
        draft: tuple[int, int] | None = None
        full: tuple[int, int] | None = None
        if is_jpeg and shrink_to is not None:
            turned = _is_turned(photo)
            full = photo.size[::-1] if turned else photo.size
            width, height = _needed(full, shrink_to)
            draft = (height, width) if turned else (width, height)
            photo.draft(None, draft)
        try:
            photo.load()
        except OSError as error:
            cut = decode_cut(file, shrink_to=draft) if is_jpeg and error.errno is None else None
            if cut is None:
                raise
            photo = cut
        upright = _named(_upright_rgb(photo), path)
        if callable(shrink_to) and photo.format != "TIFF":  # whose metadata a smaller copy would lose
            full = full or upright.size
            upright = _reduced(upright, _needed(full, shrink_to))
            upright.info[_SIZE] = full
        return upright


def full_size(photo: Image.Image) -> tuple[int, int]:
    """Width and height of an upright photo in its file, where ``open_photo`` has made it smaller; else its own."""
    width, height = photo.info.get(_SIZE, photo.size)
    return width, height


def _needed(full: tuple[int, int], shrink_to: ShrinkTo) -> tuple[int, int]:
    """The least width and height at which a photo of an upright size is decoded."""
    if not callable(shrink_to):
        return shrink_to, shrink_to
    width, height = shrink_to(*full)
    return math.ceil(_MARGIN * width), math.ceil(_MARGIN * height)


def _reduced(photo: Image.Image, needed: tuple[int, int]) -> Image.Image:
    """The photo at a whole fraction of its scale, where it then still has the pixels that are needed."""
    factor = min(side // least for side, least in zip(photo.size, needed, strict=True))
    if factor < 2:
        return photo
    return photo.reduce(factor)


def _is_turned(photo: Image.Image) -> bool:
    """Whether its upright width is its height in the file."""
    with suppress(Exception):
        return 5 <= int(photo.getexif().get(_ORIENTATION, 1)) <= 8
    return False


def names_of(photo: Image.Image) -> tuple[str, ...]:
    """What a photo is known by, the likeliest name first: its id in a dataset, its path; () where it is not known."""
    names = photo.info.get(_NAMES)
    return names if isinstance(names, tuple) else ()


def add_name(photo: Image.Image, name: str) -> None:
    """Let a photo be known by one more name, likelier than the others."""
    photo.info[_NAMES] = (name, *names_of(photo))


def _named(photo: Image.Image, path: Path | UrlPath | PhotoBytes) -> Image.Image:
    photo.info[_NAMES] = (str(path),)
    return photo


def count_pixels(path: str | Path | PhotoBytes, *, max_pixels: int = MOST_PIXELS) -> int:
    """Width x height of a photo, from its header; errors are those of ``open_photo``."""
    with _opened(path if isinstance(path, PhotoBytes) else to_path(path), max_pixels) as (_, photo):
        return photo.width * photo.height


def _open(photo: Path | UrlPath | PhotoBytes) -> IO[bytes]:
    if not isinstance(photo, PhotoBytes):
        return open_file(photo)
    if not photo.content:
        raise DataError(f"{photo}: its content is empty")
    return BytesIO(photo.content)


@contextmanager
def _opened(path: Path | UrlPath | PhotoBytes, max_pixels: int) -> Iterator[tuple[IO[bytes], Image.Image]]:
    """A photo of which only the header was read, and clear errors of what is done with it."""
    try:
        # Opened here, since Pillow would map some files into memory, and the process die where such a file is cut.
        with _open(path) as file, Image.open(file, formats=_FORMATS) as photo:
            width, height = photo.size
            if width * height > max_pixels:
                raise DataError(f"{path}: {width:,} x {height:,} pixels, more than the limit of {max_pixels:,}")
            yield file, photo
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image that can be read") from None
    except Image.DecompressionBombError:
        raise DataError(f"{path}: more pixels than the limit of {max_pixels:,}") from None
    except UnreadablePhotoError:
        raise
    except DataError as error:
        raise DataError(f"{path}: {reason_without(path, error)}") from None
    except MemoryError:
        raise UnreadablePhotoError(f"{path}: there is not enough memory to decode it") from None
    except Exception as error:  # on broken files, each of Pillow's codecs raises as it likes
        # The system's errors have a number; content that is broken leads to seeks that are invalid.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise UnreadablePhotoError(f"{path}: cannot be read ({error.strerror})") from None
        raise DataError(f"{path}: the image is broken or cannot be read ({error})") from None


class PhotoInfo(NamedTuple):
    """What a photo's file says of it; None where unknown.

    Attributes:
        date: When it was taken: '2024-01-31 12:00:00'.
        camera: With which camera: 'Canon EOS R'.
        text: Its title, caption, keywords and names, a line each.
        latitude, longitude: Where it was taken, in degrees, north and east positive.
        place: The nearest town with its province and country, where the extra ``places`` is installed.
    """

    date: str | None = None
    camera: str | None = None
    text: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    place: str | None = None


def read_info(photo: Image.Image) -> PhotoInfo:
    """What the EXIF, XMP and IPTC of a photo from ``open_photo`` say; broken entries count as missing."""
    date = camera = None
    with suppress(Exception):  # EXIF is written by anything, and broken in any way
        exif = photo.getexif()
        taken = exif.get_ifd(_EXIF_PART).get(_TAKEN) or exif.get(_CHANGED)
        maker, model = (_words(exif.get(tag)) for tag in (_MAKER, _MODEL))
        camera = (model if model.lower().startswith(maker.lower()) else f"{maker} {model}".strip()) or None
        date = str(datetime.strptime(_words(taken)[:19], "%Y:%m:%d %H:%M:%S"))
    position = read_position(photo)
    latitude, longitude = position or (None, None)
    return PhotoInfo(date, camera, read_text(photo), latitude, longitude, place_of(*position) if position else None)


# EXIF's numbers of what is read.
_EXIF_PART, _TAKEN, _CHANGED, _MAKER, _MODEL, _ORIENTATION = 0x8769, 0x9003, 0x0132, 0x010F, 0x0110, 0x0112


def _words(value: Any) -> str:
    return " ".join(str(value or "").replace("\0", " ").split())


def _load_ppm(photo: Any, file: IO[bytes]) -> Image.Image:
    """A PPM file whose largest value is none of bytes or words; Pillow does the same, value by value, in minutes."""
    _, _, place, (_, largest) = photo.tile[0]
    values: np.dtype[Any] = np.dtype(np.uint8 if largest < 256 else ">u2")
    shape = (photo.height, photo.width, len(photo.getbands()))
    file.seek(place)
    data = file.read(values.itemsize * math.prod(shape))
    if len(data) < values.itemsize * math.prod(shape):
        raise ValueError("not enough image data")
    full, kind = (65535, np.int32) if photo.mode == "I" else (255, np.uint8)
    scaled = np.minimum(full, np.round(np.arange(2 ** (8 * values.itemsize)) / largest * full)).astype(kind)
    return Image.fromarray(scaled[np.frombuffer(data, values)].reshape(shape if shape[2] > 1 else shape[:2]))


def upright_rgb(photo: Image.Image) -> Image.Image:
    """An image as people see it, and a new one: EXIF orientation applied, RGB, transparency over white."""
    upright = _upright_rgb(photo)
    return photo.copy() if upright is photo else upright


def _upright_rgb(photo: Image.Image) -> Image.Image:
    """As ``upright_rgb``; the image itself where it is so already, since a copy of a large one takes much memory."""
    with suppress(Exception):  # broken EXIF in a sound photo
        if photo.getexif().get(_ORIENTATION, 1) != 1:
            photo = ImageOps.exif_transpose(photo)
    if photo.mode == "RGB" and not photo.has_transparency_data:
        return photo
    if photo.mode in ("I", "F") or photo.mode.startswith("I;16"):
        found = _grey_as_rgb(photo)
    else:
        found = _over_white(photo) if photo.has_transparency_data else photo.convert("RGB")
    _keep_what_is_written(photo, found)
    return found


def _keep_what_is_written(photo: Image.Image, converted: Image.Image) -> None:
    """Take over EXIF, XMP and IPTC, which a new image lacks, and one converted from a TIFF, too."""
    for name in ("exif", "xmp", "XML:com.adobe.xmp", "photoshop"):
        if name in photo.info:
            converted.info.setdefault(name, photo.info[name])
    if "exif" not in converted.info:
        with suppress(Exception):  # broken EXIF in a sound photo
            found, exif = photo.getexif(), Image.Exif()
            # Of a TIFF, found has all tags, which may be large, and reads from the file, which is closed later.
            exif.update({tag: found[tag] for tag in (_CHANGED, _MAKER, _MODEL, DESCRIPTION) if tag in found})
            if taken := found.get_ifd(_EXIF_PART).get(_TAKEN):
                exif[_EXIF_PART] = {_TAKEN: taken}
            if position := found.get_ifd(GPS_PART):
                exif[GPS_PART] = position
            if exif:
                converted.info["exif"] = exif.tobytes()


def _bands(photo: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    """Boxes from top to bottom: what is done in bands takes little memory beside the photo."""
    rows = max(1, _PIXELS_A_BAND // photo.width)
    for top in range(0, photo.height, rows):
        yield 0, top, photo.width, min(top + rows, photo.height)


def _over_white(photo: Image.Image) -> Image.Image:
    whole = Image.new("RGB", photo.size)
    for box in _bands(photo):
        band = photo.crop(box).convert("RGBA")
        whole.paste(Image.alpha_composite(Image.new("RGBA", band.size, "white"), band).convert("RGB"), box)
    return whole


def _grey_as_rgb(photo: Image.Image) -> Image.Image:
    """16-bit, 32-bit and floating greys, which Pillow's own conversion would clip at 255."""

    def grey(box: tuple[int, int, int, int]) -> np.ndarray:
        return np.nan_to_num(np.asarray(photo.crop(box), dtype=np.float64), posinf=0.0, neginf=0.0)

    # 16-bit files hold 0..65535 and floating ones 0..1 or 0..255; a 32-bit file beyond 16 bits fills its own range.
    largest = max(float(grey(box).max(initial=0.0)) for box in _bands(photo))
    full = next(end for end in ((1.0, 255.0, largest) if photo.mode == "F" else (65535.0, largest)) if largest <= end)
    whole = Image.new("RGB", photo.size)
    for box in _bands(photo):
        band = np.clip(grey(box) / full * 255.0 + 0.5, 0, 255).astype(np.uint8)
        whole.paste(Image.fromarray(band).convert("RGB"), box)
    return whole
