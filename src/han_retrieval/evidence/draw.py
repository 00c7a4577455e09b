"""Evidence as a picture: the photo with the regions that the words looked at, and the words below in their colours."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from han_retrieval.errors import HANError
from han_retrieval.evidence.colours import NEUTRAL, ink_on, mixed, region_colours, rgb
from han_retrieval.evidence.pair import PairEvidence

_SCALE = 2  # everything is drawn larger and made smaller at the end, for smooth edges
_PAPER, _INK, _FAINT = "#fafaf8", (28, 30, 34), (110, 114, 120)

Box = tuple[float, float, float, float]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_evidence(
    photo: Image.Image,
    evidence: PairEvidence,
    *,
    width: int = 720,
    most: int = 6,
    font: str | Path | None = None,
) -> Image.Image:
    """The photo with its regions, and a chip a word: coloured as its region, the stronger the more it gathered there.

    A chip shows its word's match below the word; a word that the model does not know has a question mark there.

    Args:
        photo: The upright photo, of any size and of the evidence's proportions.
        evidence: What to show.
        width: Of the result in pixels; the photo is made larger or smaller to fit.
        most: Regions shown at most; words of others have grey chips.
        font: A TrueType file, for words that Pillow's own font (Latin letters) does not have.

    Raises:
        HANError: The font cannot be read.
    """
    colours = region_colours(evidence, most=most)
    unit = width * _SCALE / 720
    fonts = [_font(font, size * unit) for size in (20, 14)]
    shown = _fitted(photo, width * _SCALE)
    left = (width * _SCALE - shown.width) // 2
    chips, tall = _layout(evidence, fonts, width * _SCALE, unit)
    sheet = Image.new("RGB", (width * _SCALE, shown.height + tall), _PAPER)
    _draw_regions(shown, evidence, colours, fonts[1], unit)
    sheet.paste(shown, (left, 0))
    _draw_chips(sheet, evidence, colours, chips, fonts, top=shown.height, unit=unit)
    return sheet.resize((width, round(sheet.height / _SCALE)), Image.Resampling.LANCZOS)


def _font(path: str | Path | None, size: float) -> Font:
    try:
        return ImageFont.truetype(str(path), size) if path else ImageFont.load_default(size)
    except OSError as error:
        raise HANError(f"{path}: not a font that can be read ({error})") from None


def _fitted(photo: Image.Image, side: int) -> Image.Image:
    """The photo as wide as the sheet, or as high as that if it is a tall one."""
    scale = side / max(photo.size)
    size = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    return photo.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def _draw_regions(photo: Image.Image, evidence: PairEvidence, colours: dict[int, str], font: Font, unit: float) -> None:
    """Boxes with a dark and a light edge, so that they show on any ground, each with a tag that says its words."""
    across, down = photo.width / evidence.width, photo.height / evidence.height
    weights = dict.fromkeys(colours, 0.0)
    names: dict[int, list[str]] = {region: [] for region in colours}
    for phrase in evidence.phrases():
        if phrase.region in colours:
            weights[phrase.region] = max(weights[phrase.region], phrase.weight)
            names[phrase.region].append(" ".join(evidence.words[phrase.start : phrase.end]))
    scale, inset = np.array([across, down] * 2), 5 * unit
    edges = np.clip(evidence.boxes * scale, inset, np.array(photo.size * 2) - inset)
    boxes: dict[int, Box] = {region: tuple(edges[region].tolist()) for region in colours}
    areas = (evidence.boxes[:, 2:] - evidence.boxes[:, :2]).prod(1)
    for region in sorted(colours, key=lambda region: -areas[region]):  # small boxes on top of large ones
        _draw_box(photo, boxes[region], colours[region], weights[region], unit)
    taken: list[Box] = []
    for region in colours:
        _draw_tag(photo, boxes[region], " / ".join(names[region]), colours[region], font, taken, unit)


def _draw_box(photo: Image.Image, box: Box, colour: str, weight: float, unit: float) -> None:
    layer = Image.new("RGBA", photo.size)
    draw = ImageDraw.Draw(layer)
    thick, opacity = (1.6 + 3.4 * weight) * unit, round(255 * (0.6 + 0.4 * weight))
    for extra, paint in ((2.6, (0, 0, 0, opacity // 2)), (1.2, (255, 255, 255, opacity)), (0, (*rgb(colour), opacity))):
        grown = extra * unit
        left, top = box[0] - grown, box[1] - grown
        edge = left, top, max(box[2] + grown, left), max(box[3] + grown, top)
        draw.rounded_rectangle(edge, 5 * unit, outline=paint, width=round(thick + 2 * grown))
    photo.paste(layer, (0, 0), layer)


def _draw_tag(photo: Image.Image, box: Box, text: str, colour: str, font: Font, taken: list[Box], unit: float) -> None:
    """The words on their box's edge, where there is room beside the tags that are there."""
    pad = 5 * unit
    text = _shortened(text, font, photo.width * 0.6)
    wide, tall = font.getlength(text) + 2 * pad, _line(font) + pad
    x0, y0, x1, y1 = box
    left, right = min(x0, photo.width - wide), max(0.0, x1 - wide)
    places = [(x, y) for y in (y0 - tall, y0, y1, y1 - tall) for x in (left, right)]
    fitting = [(x, y) for x, y in places if x >= 0 and 0 <= y <= photo.height - tall]
    free = [(x, y) for x, y in fitting if not any(_touch((x, y, x + wide, y + tall), other) for other in taken)]
    x, y = (free or fitting or [(max(left, 0.0), max(0.0, min(y0, photo.height - tall)))])[0]
    taken.append((x, y, x + wide, y + tall))
    draw = ImageDraw.Draw(photo)
    draw.rounded_rectangle((x - unit, y - unit, x + wide + unit, y + tall + unit), 5 * unit, fill=(20, 22, 26))
    draw.rounded_rectangle((x, y, x + wide, y + tall), 4 * unit, fill=rgb(colour))
    draw.text((x + pad, y + tall / 2), text, font=font, fill=ink_on(rgb(colour)), anchor="lm")


def _layout(evidence: PairEvidence, fonts: list[Font], width: int, unit: float) -> tuple[list[Box], int]:
    """A box for each word's chip, below the photo, in as many lines as needed, and the height of them all."""
    margin, pad, tall = 14 * unit, 9 * unit, _line(fonts[0]) + _line(fonts[1]) + 12 * unit
    regions = evidence.looked_at
    chips: list[Box] = []
    x, y = margin, margin
    for i, word in enumerate(evidence.words):
        text = _shortened(word, fonts[0], width - 2 * (margin + pad))
        wide = max(fonts[0].getlength(text), fonts[1].getlength("-0.00")) + 2 * pad
        if i:
            x += (2 if regions[i] == regions[i - 1] else 8) * unit
        if x + wide > width - margin and x > margin:
            x, y = margin, y + tall + 8 * unit
        chips.append((x, y, x + wide, y + tall))
        x += wide
    return chips, round(y + tall + _line(fonts[1]) + 2 * margin)


def _draw_chips(
    sheet: Image.Image,
    evidence: PairEvidence,
    colours: dict[int, str],
    chips: list[Box],
    fonts: list[Font],
    *,
    top: int,
    unit: float,
) -> None:
    draw = ImageDraw.Draw(sheet)
    regions = evidence.looked_at
    for i, (x0, y0, x1, y1) in enumerate(chips):
        region = int(regions[i])
        weight = float(evidence.alignment[i, region])
        ground = mixed(colours.get(region, NEUTRAL), _PAPER, 0.25 + 0.75 * weight if region in colours else 0.4)
        y0, y1 = y0 + top, y1 + top
        draw.rounded_rectangle((x0, y0, x1, y1), 6 * unit, fill=ground)
        ink, middle = ink_on(ground), (x0 + x1) / 2
        word = _shortened(evidence.words[i], fonts[0], x1 - x0)
        draw.text((middle, y0 + 4 * unit + _line(fonts[0]) / 2), word, font=fonts[0], fill=ink, anchor="mm")
        below = f"{evidence.match[i]:.2f}" if evidence.known[i] else "?"
        draw.text((middle, y1 - 5 * unit - _line(fonts[1]) / 2), below, font=fonts[1], fill=ink, anchor="mm")
    unknown = [word for word, known in zip(evidence.words, evidence.known, strict=True) if not known]
    note = f"score {evidence.score:.3f}" + (f"; not in the vocabulary: {', '.join(unknown)}" if unknown else "")
    foot = (chips[0][0], sheet.height - 10 * unit)
    draw.text(foot, _shortened(note, fonts[1], sheet.width - 2 * foot[0]), font=fonts[1], fill=_FAINT, anchor="ls")


def _shortened(text: str, font: Font, room: float) -> str:
    """The text, or as much of its beginning as there is room for."""
    if font.getlength(text) <= room:
        return text
    fits = bisect_right(range(len(text)), room, key=lambda end: font.getlength(text[:end] + "..."))
    return text[: max(fits - 1, 0)].rstrip() + "..."


def _line(font: Font) -> float:
    """The height of a line of text."""
    _, top, _, bottom = font.getbbox("Ågjpq")
    return float(bottom - top)


def _touch(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
