"""What is written in photos' files about them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from written_about import XMP, iptc

from han_retrieval.data import open_photo, read_info
from han_retrieval.data.written import MOST_CHARACTERS, place_of, read_position, read_text


def _photo(path: Path, *, app13: bytes | None = None, **options: object) -> Image.Image:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, path.suffix[1:].replace("jpg", "jpeg"), **options)
    content = file.getvalue()
    if app13 is not None:
        content = content[:2] + b"\xff\xed" + (len(app13) + 2).to_bytes(2, "big") + app13 + content[2:]
    path.write_bytes(content)
    return open_photo(path)


def _exif(**tags: object) -> Image.Exif:
    exif = Image.Exif()
    if "description" in tags:
        exif[0x010E] = tags["description"]
    if "gps" in tags:
        exif.get_ifd(0x8825).update(tags["gps"])  # type: ignore[call-overload]
    return exif


@pytest.mark.parametrize("kind", ["jpg", "webp", "png"])
def test_titles_keywords_names_and_places_of_xmp_are_read(tmp_path: Path, kind: str) -> None:
    options: dict[str, object] = {"xmp": XMP}
    if kind == "png":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP.decode())
        options = {"pnginfo": info}
    photo = _photo(tmp_path / f"a.{kind}", **options)
    assert read_text(photo) == "The old tram\ntravel\nStraßenbahn\nAnna\nLisboa"


def test_captions_of_iptc_are_read_in_either_encoding(tmp_path: Path) -> None:
    app13 = iptc((25, b"tram"), (120, "Übergabe".encode()), (5, "Tür".encode("latin-1")), (40, b"not asked for"))
    assert read_text(_photo(tmp_path / "a.jpg", app13=app13)) == "Tür\nÜbergabe\ntram"


def test_what_stands_twice_is_read_once_and_what_cameras_write_is_no_text(tmp_path: Path) -> None:
    twice = _photo(tmp_path / "a.jpg", app13=iptc((120, b"a tram")), exif=_exif(description="a tram"))
    assert read_text(twice) == "a tram"
    assert read_text(_photo(tmp_path / "b.jpg", exif=_exif(description="OLYMPUS DIGITAL CAMERA  "))) is None
    assert read_text(_photo(tmp_path / "c.jpg")) is None


def test_a_long_text_is_cut(tmp_path: Path) -> None:
    text = read_text(_photo(tmp_path / "a.png", exif=_exif(description="word " * MOST_CHARACTERS)))
    assert text is not None
    assert len(text) == MOST_CHARACTERS


LISBON = {1: "N", 2: (38.0, 43.0, 12.0), 3: "W", 4: (9.0, 8.0, 24.0)}


def test_the_position_and_its_town_are_read(tmp_path: Path) -> None:
    info = read_info(_photo(tmp_path / "a.jpg", exif=_exif(gps=LISBON)))
    assert (info.latitude, info.longitude) == (38.72, -9.14)
    pytest.importorskip("reverse_geocode")
    assert info.place is not None
    assert info.place.endswith("Portugal")


def test_a_photo_at_sea_was_taken_in_no_town() -> None:
    pytest.importorskip("reverse_geocode")
    assert place_of(-48.9, -123.4) is None
    assert place_of(0.0, 179.999) is None


@pytest.mark.parametrize(
    "gps",
    [
        {},
        {1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)},
        {**LISBON, 2: (400.0, 0.0, 0.0)},
        {2: (38.0, 43.0, 12.0)},
        {**LISBON, 4: (9.0, 8.0, 1e9)},
    ],
)
def test_a_position_that_is_none_counts_as_missing(tmp_path: Path, gps: dict[int, object]) -> None:
    assert read_position(_photo(tmp_path / "a.jpg", exif=_exif(gps=gps))) is None


@pytest.mark.parametrize(
    "xmp",
    [
        b"<x",
        b"\0\0",
        XMP[:200],
        b'<!DOCTYPE a [<!ENTITY b "cc"><!ENTITY d "&b;&b;">]><a xmlns:p="http://ns.adobe.com/photoshop/1.0/"'
        b' p:City="&d;"/>',
    ],
)
def test_broken_and_hostile_metadata_is_no_text(tmp_path: Path, xmp: bytes) -> None:
    assert read_text(_photo(tmp_path / "a.jpg", xmp=xmp)) is None
    assert read_text(_photo(tmp_path / "b.jpg", app13=iptc((120, b"abc"))[:-3])) in (None, "ab", "a")
