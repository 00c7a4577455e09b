from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from han_retrieval.errors import HANError
from han_retrieval.evidence import boxes as parts
from han_retrieval.evidence import preview
from han_retrieval.evidence.colours import PALETTE, rgb
from han_retrieval.evidence.preview import draw_regions
from han_retrieval.regions import Regions

GREY = (128, 128, 128)


def regions(boxes, *, size=(200, 150), labels=None, scores=None) -> Regions:
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    scores = None if scores is None else np.array(scores, np.float32)
    return Regions(np.zeros((len(boxes), 2), np.float16), boxes, *size, labels=labels, scores=scores)


def many(count: int, size: tuple[int, int], *, spread: float = 0.6) -> Regions:
    """The whole photo and ``count`` boxes in a part of it, with names of any length."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, spread, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.02, 0.4, (count, 2))], 1) * np.array(size * 2)
    names = ("photo", *("dog" if i % 2 else "a large and unusually named thing" for i in range(count)))
    return regions([[0, 0, *size], *boxes.tolist()], size=size, labels=names, scores=np.linspace(1, 0.1, count + 1))


def near(picture: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    return np.abs(np.asarray(picture, np.float32) - colour).max(-1) < 45


@pytest.fixture
def tags(monkeypatch):
    """Where tags were drawn, in pixels of the sheet, with its size."""
    drawn: list[tuple[tuple[float, ...], tuple[int, int]]] = []
    original = parts.draw_tag

    def recording(sheet, box, text, colour, font, taken, unit):
        original(sheet, box, text, colour, font, taken, unit)
        drawn.append((taken[-1], sheet.size))

    monkeypatch.setattr(preview, "draw_tag", recording)
    return drawn


@pytest.mark.parametrize("size", [(1, 1), (40, 30), (7, 900), (900, 7), (1500, 1100)])
def test_tags_are_within_the_picture_and_apart_on_any_photo(size, tags):
    picture = draw_regions(Image.new("RGB", size, GREY), many(30, size), width=480)
    assert max(picture.size) == 480
    assert min(picture.size) >= 144
    assert len(tags) == len(PALETTE)
    for (x0, y0, x1, y1), (width, height) in tags:
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
    for (a, _), (b, _) in combinations(tags, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_a_strip_of_a_photo_is_not_hidden_by_tags(tags):
    draw_regions(Image.new("RGB", (900, 20), GREY), many(30, (900, 20)), width=800)
    for (_, y0, _, y1), (_, height) in tags:
        assert y1 <= height / 2 - 15 or y0 >= height / 2 + 15


def test_tags_of_boxes_in_one_place_find_room_near_it(tags):
    draw_regions(Image.new("RGB", (400, 300)), regions([[180, 140, 200, 150]] * 8, size=(400, 300)), width=800)
    for (a, size), (b, _) in combinations(tags, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert np.hypot(*(np.array(a[:2]) - b[:2])) < 0.2 * size[0]


@pytest.mark.parametrize("ground", ["white", "black", "#808080", *PALETTE])
def test_boxes_show_on_any_ground(ground):
    """Around a line there is something darker and something lighter than the ground, or as far from it as can be."""
    picture = draw_regions(Image.new("RGB", (200, 150), ground), regions([[50, 40, 150, 110]]), width=800)
    across = np.asarray(picture.convert("L"), np.int64)[300, 180:220]  # from outside the left side to inside
    assert np.ptp(across) > 80


def test_the_best_are_coloured_in_their_order_and_the_others_grey():
    boxes = [[0, 0, 200, 150], *([20 * i, 20, 20 * i + 12, 130] for i in range(10))]
    picture = draw_regions(Image.new("RGB", (200, 150), "#203040"), regions(boxes), width=800)
    for rank, colour in enumerate(PALETTE):
        lines, tags = (near(picture, rgb(colour))[rows].any(0).nonzero()[0] for rows in (slice(120, 500), slice(0, 80)))
        assert abs(np.median(tags) - 80 * rank - 10) < 24
        assert rank > 3 or abs(np.median(lines) - 80 * rank - 24) < 36  # those of the last are thin
    for i in (8, 9):
        beside = near(picture, (176, 180, 186))[100:500, 80 * i : 80 * i + 60]
        assert beside.any()


def test_the_whole_photo_is_named_only_where_it_is_alone(tags):
    photo = Image.new("RGB", (200, 150), GREY)
    draw_regions(photo, regions([[0, 0, 200, 150], [20, 20, 60, 60]]), width=400)
    assert len(tags) == 1
    alone = draw_regions(photo, regions([[0, 0, 200, 150]]), width=400)
    assert len(tags) == 2
    assert near(alone, rgb(PALETTE[0])).any()


def test_of_boxes_around_one_thing_the_best_is_named(tags):
    size = (400, 300)
    child, around, head = [100, 50, 200, 250], [80, 40, 220, 260], [130, 50, 170, 100]
    other, dress = [250, 60, 330, 250], [105, 90, 195, 220]
    found = [("young girl", child), ("girl", around), ("person", head), ("little boy", other), ("pink dress", dress)]
    labels, boxes = zip(*found, strict=True)
    draw_regions(Image.new("RGB", size, GREY), regions(boxes, size=size, labels=labels), width=800)
    assert len(tags) == 4  # the head is much smaller: it may be a child before its mother
    tags.clear()
    copies = [*found, ("chair", [252, 60, 330, 250])]
    labels, boxes = zip(*copies, strict=True)
    draw_regions(Image.new("RGB", size, GREY), regions(boxes, size=size, labels=labels), width=800)
    assert len(tags) == 4
    tags.clear()
    draw_regions(Image.new("RGB", size, GREY), regions([child, around, other], size=size), width=800)  # without names
    assert len(tags) == 2


def test_a_region_is_called_by_what_is_known_of_it():
    box = [[0, 0, 9, 9]] * 2
    names = {"labels": ("photo", "red dog")}
    assert preview.region_name(regions(box), 1) == "1"
    assert preview.region_name(regions(box, scores=[1, 0.256]), 1) == "1 0.26"
    assert preview.region_name(regions(box, **names), 1) == "red dog"
    assert preview.region_name(regions(box, **names, scores=[1, 0.5]), 1) == "red dog 0.50"


def test_a_photo_of_another_size_than_its_regions_gets_the_same_picture():
    found = regions([[0, 0, 200, 150], [100, 75, 200, 150], [20, 20, 60, 60]], size=(200, 150))
    large, small = (Image.new("RGB", size, GREY) for size in ((200, 150), (100, 75)))
    assert draw_regions(small, found, width=400).tobytes() == draw_regions(large, found, width=400).tobytes()
    unsized = regions([[20, 20, 60, 60]] * 2, size=(0, 0))
    assert near(draw_regions(large, unsized, width=400), rgb(PALETTE[0])).any()


def test_it_is_the_same_every_time_and_leaves_the_photo_alone():
    photo = Image.new("RGB", (200, 150), GREY)
    found = many(12, (200, 150))
    assert draw_regions(photo, found).tobytes() == draw_regions(photo, found).tobytes()
    assert photo.getcolors() == [(200 * 150, GREY)]


def test_regions_without_boxes_and_fonts_that_are_none_are_said(tmp_path: Path):
    photo = Image.new("RGB", (20, 20))
    with pytest.raises(HANError, match="no boxes"):
        draw_regions(photo, Regions(np.zeros((3, 2), np.float16), None, 20, 20))
    (tmp_path / "no.ttf").write_text("not a font")
    with pytest.raises(HANError, match=r"no\.ttf"):
        draw_regions(photo, regions([[0, 0, 9, 9]]), font=tmp_path / "no.ttf")
