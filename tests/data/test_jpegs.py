"""JPEG files that lack their end: what one would not miss opens, what is cut is refused, with the share missing."""

from __future__ import annotations

import io
import re
import time

import numpy as np
import pytest
from hostile_photos import encoded, jpeg_with_scans
from PIL import Image

from han_retrieval.data import open_photo
from han_retrieval.errors import DataError

KINDS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "full colour": {"subsampling": 0},
    "progressive, full colour": {"progressive": True, "subsampling": 0},
    "restarts": {"restart_marker_blocks": 3},
    "fine": {"quality": 97},
}


def smooth(size=(320, 240)):
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def pixels(photo):
    return np.asarray(photo.convert("RGB")).astype(int)


def open_bytes(folder, data):
    (folder / "a.jpg").write_bytes(data)
    return open_photo(folder / "a.jpg")


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_that_only_lacks_its_end_is_as_if_whole(tmp_path, kind, mode):
    whole = encoded(smooth().convert(mode), "JPEG", **KINDS[kind])
    for lacking in (1, 2):
        photo = open_bytes(tmp_path, whole[:-lacking])
        assert np.array_equal(pixels(photo), pixels(Image.open(io.BytesIO(whole))))


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_jpeg_that_is_cut_at_most_a_negligible_part_is_missing(tmp_path, kind):
    whole = encoded(smooth(), "JPEG", **KINDS[kind])
    wanted = pixels(Image.open(io.BytesIO(whole)))
    opened = refused = 0
    for lacking in [*range(3, 20), *(int(len(whole) * share) for share in np.linspace(0.01, 0.9, 20))]:
        try:
            photo = open_bytes(tmp_path, whole[:-lacking])
        except DataError as error:
            reason = str(error)
        else:
            opened += 1
            assert (np.abs(pixels(photo) - wanted).max(2) > 8).mean() < 0.05
            continue
        refused += 1
        share = re.search(
            r"a\.jpg: the file is cut off: (?:(\d+)% of the photo is|parts of all of .*) missing$", reason
        )
        assert share, reason
        if share[1] and "progressive" not in kind:
            assert abs(int(share[1]) / 100 - lacking / len(whole)) < 0.15
    assert opened >= 8
    assert refused >= 17


def test_a_progressive_jpeg_that_lacks_scans_is_refused(tmp_path):
    """Its last scans are missing whole, so that all of it is blurred."""
    whole = encoded(smooth(), "JPEG", progressive=True)
    starts = [each.start() for each in re.finditer(b"\xff\xda", whole)]
    assert len(starts) > 5
    for start in starts[1:]:
        tables = whole.rfind(b"\xff\xc4", 0, start)
        for end in {start, tables}:
            with pytest.raises(DataError, match="the file is cut off: parts of all of the photo are missing"):
                open_bytes(tmp_path, whole[:end])


def test_a_broken_jpeg_with_an_end_is_refused_as_before(tmp_path):
    whole = encoded(smooth(), "JPEG")
    with pytest.raises(DataError, match="broken"):
        open_bytes(tmp_path, whole[:300] + b"\xff\xd9")
    with pytest.raises(DataError, match="broken"):
        open_bytes(tmp_path, whole[: whole.find(b"\xff\xda") + 4])


def test_a_small_picture_of_a_cut_jpeg(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded(smooth((1280, 960)), "JPEG")[:-2])
    assert open_photo(tmp_path / "a.jpg", shrink_to=300).size == (640, 480)


def test_scans_without_end_are_refused_at_once(tmp_path):
    started = time.monotonic()
    with pytest.raises(DataError, match=r"a\.jpg: 3,\d\d\d scans, more than any photo has"):
        open_bytes(tmp_path, jpeg_with_scans(3000, 9000, 9000))
    assert time.monotonic() - started < 5
    behind = b"\xff\xda" * 3000
    assert open_bytes(tmp_path, encoded(smooth(), "JPEG") + behind).size == (320, 240)
