from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up import made_up
from PIL import Image

from han_retrieval.errors import HANError
from han_retrieval.evidence.colours import PALETTE, ink_on, rgb
from han_retrieval.evidence.draw import draw_evidence

GREY = (128, 128, 128)


def contrast(a: tuple[int, int, int], b: tuple[int, int, int]) -> float:
    """As WCAG 2 has it."""

    def luminance(colour: tuple[int, int, int]) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def share_near(picture: Image.Image, colour: tuple[int, int, int]) -> float:
    return float((np.abs(np.asarray(picture, np.float32) - colour).max(-1) < 40).mean())


@pytest.mark.parametrize("size", [(1, 1), (60, 45), (7, 900), (900, 7), (1500, 1100)])
@pytest.mark.parametrize("width", [240, 720])
def test_any_photo_fits(size: tuple[int, int], width: int) -> None:
    picture = draw_evidence(Image.new("RGB", size, GREY), made_up(size=size), width=width)
    assert picture.width == width
    assert picture.height < 2.2 * width


def test_aligned_regions_are_drawn_in_their_colours() -> None:
    evidence = made_up(regions=2)
    evidence = replace(evidence, boxes=np.array([[20, 20, 90, 130], [110, 30, 190, 120]], np.float32))
    picture = draw_evidence(Image.new("RGB", (200, 150), GREY), evidence, width=800)
    photo = picture.crop((0, 0, 800, 600))
    assert len(set(evidence.word_regions.tolist())) == 2
    for colour in PALETTE[:2]:
        assert share_near(photo, rgb(colour)) > 0.005
    assert share_near(photo, rgb(PALETTE[2])) == 0
    edge = picture.getpixel((80, 300))  # the middle of the first box's left side
    assert any(np.abs(np.subtract(edge, rgb(colour))).max() < 60 for colour in PALETTE[:2])
    assert picture.getpixel((200, 300)) == GREY  # inside the box the photo is as it was


def test_a_region_that_all_words_share_is_all_that_is_drawn() -> None:
    evidence = made_up(regions=5)
    alignment = np.zeros_like(evidence.alignment)
    alignment[:, 3] = 1
    picture = draw_evidence(Image.new("RGB", (200, 150), GREY), replace(evidence, alignment=alignment))
    assert share_near(picture, rgb(PALETTE[0])) > 0.005
    assert share_near(picture, rgb(PALETTE[1])) == 0


def test_long_sentences_and_long_words_go_on_in_new_lines() -> None:
    photo = Image.new("RGB", (200, 150), GREY)
    short, long = made_up("a red ball"), made_up(" ".join(["a red ball"] * 30))
    assert draw_evidence(photo, long).height > draw_evidence(photo, short).height + 100
    draw_evidence(photo, made_up("w" * 500 + " ball"), width=300)
    draw_evidence(photo, made_up("Ein großer Хунд 猫 कुत्ता"))


def test_it_is_the_same_every_time_and_leaves_the_photo_alone() -> None:
    photo = Image.new("RGB", (200, 150), GREY)
    assert draw_evidence(photo, made_up()).tobytes() == draw_evidence(photo, made_up()).tobytes()
    assert photo.getcolors() == [(200 * 150, GREY)]


def test_a_font_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "no.ttf").write_text("not a font")
    with pytest.raises(HANError, match=r"no\.ttf"):
        draw_evidence(Image.new("RGB", (20, 20)), made_up(), font=tmp_path / "no.ttf")


@pytest.mark.parametrize("colour", PALETTE)
def test_words_are_readable_on_their_colours(colour: str) -> None:
    assert contrast(rgb(colour), ink_on(rgb(colour))) > 4.5
