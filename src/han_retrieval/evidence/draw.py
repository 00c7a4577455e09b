"""Evidence as a picture: the photo with its aligned regions, and the words below in the regions' colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from han_retrieval.evidence.boxes import (
    PAPER,
    SCALE,
    Box,
    Font,
    draw_box,
    draw_tag,
    fitted,
    line_height,
    load_font,
    shortened,
)
from han_retrieval.evidence.colours import NEUTRAL, ink_on, mixed, region_colours
from han_retrieval.evidence.evidence import Evidence

_FAINT = (110, 114, 120)


def draw_evidence(
    photo: Image.Image,
    evidence: Evidence,
    *,
    width: int = 720,
    regions: int = 6,
    font: str | Path | None = None,
) -> Image.Image:
    """The photo with the boxes of its aligned regions, and below it a coloured chip for each word.

    A chip has the colour of the word's region, the stronger the greater its alignment weight, and shows the word's
    match; words that the model does not know are crossed out, without a colour.

    Args:
        photo: The upright photo, of any size and of the evidence's proportions.
        evidence: Of this photo and a sentence.
        width: Width of the result in pixels; the photo is scaled to fit.
        regions: How many regions are drawn at most; the words of other regions have grey chips.
        font: A TrueType file, for words that Pillow's own font (Latin letters) does not have.

    Raises:
        DataError: The font cannot be read.
    """
    colours = region_colours(evidence, regions=regions)
    unit = width * SCALE / 720
    fonts = [load_font(font, size * unit) for size in (20, 14)]
    shown = fitted(photo, width * SCALE)
    left = (width * SCALE - shown.width) // 2
    chips, tall = _layout(evidence, fonts, width * SCALE, unit)
    sheet = Image.new("RGB", (width * SCALE, shown.height + tall), PAPER)
    _draw_regions(shown, evidence, colours, fonts[1], unit)
    sheet.paste(shown, (left, 0))
    _draw_chips(sheet, evidence, colours, chips, fonts, top=shown.height, unit=unit)
    return sheet.resize((width, round(sheet.height / SCALE)), Image.Resampling.LANCZOS)


def _draw_regions(photo: Image.Image, evidence: Evidence, colours: dict[int, str], font: Font, unit: float) -> None:
    """Draw the boxes of regions, each with a tag that names its words."""
    across, down = photo.width / evidence.width, photo.height / evidence.height
    weights = dict.fromkeys(colours, 0.0)
    names: dict[int, list[str]] = {region: [] for region in colours}
    for phrase in evidence.phrases():
        if phrase.region in colours:
            weights[phrase.region] = max(weights[phrase.region], phrase.weight)
            places = range(phrase.start, phrase.end)
            names[phrase.region].append(" ".join(evidence.words[i] for i in places if evidence.known[i]))
    scale, inset = np.array([across, down] * 2), 5 * unit
    edges = np.clip(evidence.boxes * scale, inset, np.array(photo.size * 2) - inset)
    boxes: dict[int, Box] = {region: tuple(edges[region].tolist()) for region in colours}
    areas = (evidence.boxes[:, 2:] - evidence.boxes[:, :2]).prod(1)
    for region in sorted(colours, key=lambda region: -areas[region]):  # small boxes on top of large ones
        draw_box(photo, boxes[region], colours[region], weights[region], unit)
    taken: list[Box] = []
    for region in colours:
        draw_tag(photo, boxes[region], " / ".join(filter(None, names[region])), colours[region], font, taken, unit)


def _layout(evidence: Evidence, fonts: list[Font], width: int, unit: float) -> tuple[list[Box], int]:
    """The box of each word's chip, in as many lines as needed, and the height of all lines with the note below."""
    margin, pad, tall = 14 * unit, 9 * unit, line_height(fonts[0]) + line_height(fonts[1]) + 12 * unit
    regions = evidence.word_regions
    chips: list[Box] = []
    x, y = margin, margin
    for i, word in enumerate(evidence.words):
        text = shortened(word, fonts[0], width - 2 * (margin + pad))
        wide = max(fonts[0].getlength(text), fonts[1].getlength("-0.00")) + 2 * pad
        if i:
            x += (2 if regions[i] == regions[i - 1] else 8) * unit
        if x + wide > width - margin and x > margin:
            x, y = margin, y + tall + 8 * unit
        chips.append((x, y, x + wide, y + tall))
        x += wide
    return chips, round(y + tall + line_height(fonts[1]) + 2 * margin)


def _draw_chips(
    sheet: Image.Image,
    evidence: Evidence,
    colours: dict[int, str],
    chips: list[Box],
    fonts: list[Font],
    *,
    top: int,
    unit: float,
) -> None:
    draw = ImageDraw.Draw(sheet)
    regions = evidence.word_regions
    for i, (x0, y0, x1, y1) in enumerate(chips):
        region, known = int(regions[i]), evidence.known[i]
        weight = float(evidence.alignment[i, region])
        ground = mixed(colours.get(region, NEUTRAL), PAPER, 0.25 + 0.75 * weight if region in colours else 0.4)
        y0, y1 = y0 + top, y1 + top
        if known:
            draw.rounded_rectangle((x0, y0, x1, y1), 6 * unit, fill=ground)
        ink, middle = ink_on(ground) if known else _FAINT, (x0 + x1) / 2
        word = shortened(evidence.words[i], fonts[0], x1 - x0)
        line = y0 + 4 * unit + line_height(fonts[0]) / 2
        draw.text((middle, line), word, font=fonts[0], fill=ink, anchor="mm")
        if not known:
            half = fonts[0].getlength(word) / 2
            draw.line((middle - half, line, middle + half, line), fill=ink, width=max(1, round(1.5 * unit)))
            continue
        below = f"{evidence.match[i]:.2f}"
        draw.text((middle, y1 - 5 * unit - line_height(fonts[1]) / 2), below, font=fonts[1], fill=ink, anchor="mm")
    unknown = evidence.unknown_words
    note = f"score {evidence.score:.3f}" + (f"; the model does not know {', '.join(unknown)}" if unknown else "")
    foot = (chips[0][0], sheet.height - 10 * unit)
    draw.text(foot, shortened(note, fonts[1], sheet.width - 2 * foot[0]), font=fonts[1], fill=_FAINT, anchor="ls")
