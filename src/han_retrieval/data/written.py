"""What is written in a photo's file about it: a title, a caption, keywords, names of people, and where it was taken.

Programs that keep photos (Lightroom, darktable, digiKam, Photos) write them as XMP, older ones as IPTC; cameras and
phones write EXIF. All of it is written by anything and broken in any way: what cannot be read counts as missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from typing import Any

from PIL import Image

MOST_CHARACTERS = 10_000  # of a photo's text

_FAR = 50.0  # kilometres to the nearest place from which on a photo was taken in no place

# What cameras write into every photo's description.
_BOILERPLATE = ("olympus digital camera", "sony dsc", "samsung camera pictures", "kodak digital still camera", "dcim")

_DC = "{http://purl.org/dc/elements/1.1/}"
_PHOTOSHOP = "{http://ns.adobe.com/photoshop/1.0/}"
_IPTC_CORE = "{http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/}"
_REGION_NAME = "{http://www.metadataworkinggroup.com/schemas/regions/}Name"
_XMP = (
    f"{_DC}title", f"{_DC}description", f"{_DC}subject", _REGION_NAME, f"{_IPTC_CORE}Location", f"{_PHOTOSHOP}City",
    f"{_PHOTOSHOP}State", f"{_PHOTOSHOP}Country",
)  # fmt: skip

# Numbers of IPTC's second record: title, caption, keyword, city, province, country.
_IPTC = (5, 120, 25, 90, 95, 101)
_IPTC_BLOCK = 0x0404  # among Photoshop's blocks
DESCRIPTION, GPS_PART = 0x010E, 0x8825  # EXIF's numbers


def read_text(photo: Image.Image) -> str | None:
    """Title, caption, keywords, names and place names of a photo from ``open_photo``, a line each; None without any."""
    found: list[str] = []
    for source in (_xmp, _iptc, _exif):
        with suppress(Exception):
            found += [" ".join(each.replace("\0", " ").split()) for each in source(photo)]
    lines = dict.fromkeys(line for line in found if line and not line.lower().startswith(_BOILERPLATE))
    return "\n".join(lines)[:MOST_CHARACTERS] or None


def read_position(photo: Image.Image) -> tuple[float, float] | None:
    """Latitude and longitude in degrees, north and east positive, of a photo from ``open_photo``; None if unknown."""
    with suppress(Exception):
        gps = photo.getexif().get_ifd(GPS_PART)
        latitude = _degrees(gps[2], negative=str(gps[1]).upper().startswith("S"))
        longitude = _degrees(gps[4], negative=str(gps[3]).upper().startswith("W"))
        # Programs that remove the position write zeros.
        if abs(latitude) <= 90 and abs(longitude) <= 180 and (latitude or longitude):
            return latitude, longitude
    return None


def place_of(latitude: float, longitude: float) -> str | None:
    """The nearest town with its province and country, "Lisbon, Lisbon, Portugal"; None at sea, or without the extra.

    The towns are GeoNames' with at least 1,000 people, on this machine: ``pip install "han-retrieval[places]"``.
    """
    if not _has_places():
        return None
    found = _nearest(round(latitude, 2), round(longitude, 2))
    if _kilometres(latitude, longitude, found["latitude"], found["longitude"]) > _FAR:
        return None
    return ", ".join(dict.fromkeys(found[key] for key in ("city", "state", "country") if found.get(key)))


@cache
def _has_places() -> bool:
    return find_spec("reverse_geocode") is not None


@cache
def _nearest(latitude: float, longitude: float) -> dict[str, Any]:
    import reverse_geocode

    return dict(reverse_geocode.get((latitude, longitude)))


def _kilometres(latitude: float, longitude: float, to_latitude: float, to_longitude: float) -> float:
    """Between two positions that are not far apart."""
    east = ((to_longitude - longitude + 180) % 360 - 180) * math.cos(math.radians(latitude))
    return 111.2 * math.hypot(to_latitude - latitude, east)


def _degrees(value: Any, *, negative: bool) -> float:
    degrees, minutes, seconds = (float(each) for each in (*value, 0, 0)[:3])
    found = degrees + minutes / 60 + seconds / 3600
    if not math.isfinite(found):
        raise ValueError
    return round(-found if negative else found, 6)


def _xmp(photo: Image.Image) -> Iterator[str]:
    """Of elements, the texts inside; the same may stand in attributes."""
    from defusedxml.ElementTree import fromstring

    content = photo.info.get("xmp") or photo.info.get("XML:com.adobe.xmp") or b""
    content = content.encode() if isinstance(content, str) else content
    if not (content := content.strip(b"\0 \n")):
        return
    root = fromstring(content)
    for name in _XMP:
        for element in root.iter():
            if element.tag == name:
                yield from element.itertext()
            yield element.get(name, "")


def _iptc(photo: Image.Image) -> Iterator[str]:
    """Of datasets: a byte 0x1C, the numbers of the record and of the dataset, two bytes for the length, the text."""
    content = photo.info.get("photoshop", {}).get(_IPTC_BLOCK, b"")
    found: dict[int, list[str]] = {}
    at = 0
    while content[at : at + 1] == b"\x1c" and at + 5 <= len(content):
        record, dataset = content[at + 1], content[at + 2]
        size = int.from_bytes(content[at + 3 : at + 5], "big")
        if record == 2:
            text = content[at + 5 : at + 5 + size].decode("latin-1")
            found.setdefault(dataset, []).append(_utf8(text))
        at += 5 + size
    for dataset in _IPTC:
        yield from found.get(dataset, ())


def _exif(photo: Image.Image) -> Iterator[str]:
    """The description, ASCII by the standard and UTF-8 in practice, which Pillow reads as Latin-1."""
    yield _utf8(str(photo.getexif().get(DESCRIPTION, "")))


def _utf8(latin: str) -> str:
    """A text that was read as Latin-1, in UTF-8 if it can be."""
    try:
        return latin.encode("latin-1").decode()
    except UnicodeError:
        return latin
