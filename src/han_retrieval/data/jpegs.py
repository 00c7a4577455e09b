"""JPEG files that lack their end, and those with more scans than any photo has."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import IO

from PIL import Image, ImageChops

from han_retrieval.errors import DataError
from han_retrieval.parsing import read_at_most

_MOST_SCANS = 100  # a progressive photo has about ten, and each takes as long as the photo is large
_MOST_BYTES = 2**28  # of files that are looked at in detail
_CHUNK = 2**20

# What may be missing of a photo: this share, or one block of 16 x 16 pixels.
_MOST_MISSING = 0.04
_BLOCK = 16

_START_OF_SCAN, _END = 0xDA, 0xD9
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
# What a decoder takes for a picture other than what it makes of missing data, also where it awaits a restart marker.
_NOISE = b"".join(bytes(range(1, 129)) + bytes([0xFF, restart]) for restart in range(0xD0, 0xD8)) + bytes(range(1, 129))


def check_scans(file: IO[bytes]) -> None:
    """Check that a JPEG does not take minutes to decode.

    Raises:
        DataError: It has more scans than any photo.
    """
    # Quick, and never too few: these two bytes stand nowhere in a scan, and by chance in what is behind the photo.
    file.seek(0)
    count, last = 0, b""
    while chunk := file.read(_CHUNK):
        count += (last + chunk).count(b"\xff\xda")
        last = chunk[-1:]
    if count > _MOST_SCANS:
        count = sum(kind == _START_OF_SCAN for kind, _ in _segments(_content(file)))
    if count > _MOST_SCANS:
        raise DataError(f"{count:,} scans, more than any photo has")


def decode_cut(file: IO[bytes], *, shrink_to: tuple[int, int] | None) -> Image.Image | None:
    """The photo of a JPEG file that lacks its last bytes, decoded; None where the file is complete.

    With ``shrink_to``, it is decoded at the smallest scale that has so many pixels.

    What is missing shows by decoding it twice, with nothing and with noise in its place.

    Raises:
        DataError: More is missing than one would overlook.
        OSError, SyntaxError: It cannot be decoded.
    """
    data = _content(file).rstrip(b"\xff")  # half a marker
    segments = list(_segments(data))
    if any(kind == _END for kind, _ in segments):
        return None
    if not _has_all_scans(segments):
        raise DataError("the file is cut off: parts of all of the photo are missing")
    photo, noisy = (_decode(data + end + b"\xff\xd9", shrink_to) for end in (b"", _NOISE))
    missing = _count_missing(ImageChops.difference(photo, noisy))
    if missing > max(_MOST_MISSING * photo.width * photo.height, _BLOCK**2):
        raise DataError(f"the file is cut off: {missing / (photo.width * photo.height):.0%} of the photo is missing")
    return photo


def _count_missing(difference: Image.Image) -> int:
    """The pixels from the first block on that differs; blocks come in rows of 8 or 16 pixels, from left to right."""
    differs = difference.getbbox()
    if differs is None:
        return 0
    width, height = difference.size
    top, missing = differs[1], 0
    for _ in range(2):
        bottom = min(top + _BLOCK // 2, height)
        first = difference.crop((0, top, width, bottom)).getbbox()
        missing += (bottom - top) * (width - (first[0] if first else 0))
        top = bottom
    return missing + (height - top) * width


def _decode(data: bytes, shrink_to: tuple[int, int] | None) -> Image.Image:
    photo = Image.open(io.BytesIO(data), formats=["JPEG"])
    if shrink_to is not None:
        photo.draft(None, shrink_to)
    photo.load()
    return photo


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    data = bytes(read_at_most(file, _MOST_BYTES + 1))
    if len(data) > _MOST_BYTES:
        raise DataError(f"a broken JPEG of more than {_MOST_BYTES:,} bytes")
    return data


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The kinds of a JPEG's segments and what they hold, up to its end; the data of scans are passed over."""
    place = 2
    while marker := _MARKER.search(data, place):
        kind, place = data[marker.start() + 1], marker.end()
        length = 0 if kind in (0x01, _END) else max(2, int.from_bytes(data[place : place + 2], "big"))
        yield kind, data[place + 2 : place + length]
        if kind == _END:
            return
        place += length


def _has_all_scans(segments: list[tuple[int, bytes]]) -> bool:
    """Whether the scans of a JPEG hold every coefficient of every colour to its last bit, as far as they go."""
    wanted: set[tuple[int, int]] = set()
    for kind, content in segments:
        if kind in _START_OF_FRAME:
            wanted = {(colour, place) for colour in content[6::3] for place in range(64)}
        elif kind == _START_OF_SCAN and content:
            colours = content[1 : 1 + 2 * content[0] : 2]
            first, last, bits = (*content[1 + 2 * content[0] :], 0, 0, 0)[:3]
            if not bits & 15:
                wanted -= {(colour, place) for colour in colours for place in range(first, last + 1)}
    return not wanted
