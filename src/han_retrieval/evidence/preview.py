"""The regions of a photo as a picture: boxes with their labels and scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from han_retrieval.data.boxes import iou, show_same
from han_retrieval.errors import StoreError
from han_retrieval.evidence.boxes import PAPER, SCALE, Box, draw_box, draw_tag, fitted, load_font
from han_retrieval.evidence.colours import NEUTRAL, PALETTE
from han_retrieval.regions import Regions

_LEAST_SIDE = 0.3  # of a sheet, of its longer one: a very long photo gets paper beside it, where tags have room
_THIN = 0.35  # of the usual lines
_WITHIN = 0.6  # of the smaller of two boxes, see ``show_same``
_COPY = 0.75  # intersection over union: whatever two such boxes are called, one is drawn on the other
_PEOPLE = {"baby", "boy", "child", "girl", "guy", "kid", "lady", "man", "people", "person", "toddler", "woman"}
_WHOLE = 0.98  # of the photo: such a box frames the picture and is drawn behind the others


def draw_regions(
    photo: Image.Image, regions: Regions, *, width: int = 960, named: int = 8, font: str | Path | None = None
) -> Image.Image:
    """The photo with its regions: the best in colours with label and score, the others as thin grey boxes.

    A box around the whole photo, which every detector gives, is drawn in colour only where it is the only one. Of boxes
    that seem to be of the same thing, as detectors find many around one child, only the best is.

    Args:
        photo: The upright photo, of any size and of the regions' proportions.
        regions: The photo's regions, best first.
        width: The longer side of the result in pixels; the photo is scaled to fit.
        named: How many regions are drawn in colours, at most eight.
        font: A TrueType file, for labels that Pillow's own font (Latin letters) does not have.

    Raises:
        StoreError: The regions have no boxes.
        DataError: The font cannot be read.
    """
    if regions.boxes is None:
        raise StoreError("these regions have no boxes to draw")
    unit = width * SCALE / 720
    letters = load_font(font, 14 * unit)
    shown = fitted(photo, width * SCALE)
    side = round(_LEAST_SIDE * width * SCALE)
    sheet = Image.new("RGB", (max(shown.width, side), max(shown.height, side)), PAPER)
    corner = (sheet.width - shown.width) // 2, (sheet.height - shown.height) // 2
    sheet.paste(shown, corner)
    size = regions.width or photo.width, regions.height or photo.height
    boxes = _on_sheet(regions.boxes, size, shown, corner, sheet, inset=5 * unit)
    shares = (regions.boxes[:, 2:] - regions.boxes[:, :2]).prod(1) / (size[0] * size[1])
    parts = [i for i, share in enumerate(shares) if share < _WHOLE or len(shares) == 1]
    best = _different(regions, parts)[: min(named, len(PALETTE))]
    for i in sorted(set(range(len(boxes))) - set(best), key=lambda i: -shares[i]):
        draw_box(sheet, boxes[i], NEUTRAL, 0.0, _THIN * unit)
    for rank, i in reversed(list(enumerate(best))):
        draw_box(sheet, boxes[i], PALETTE[rank], 0.9 - 0.6 * rank / len(best), _line(boxes[i], unit))
    # On a narrow strip of a photo tags would hide it: they go to the paper.
    is_strip = min(shown.size) < side / 2
    taken: list[Box] = [(*corner, corner[0] + shown.width, corner[1] + shown.height)] if is_strip else []
    for rank, i in enumerate(best):
        draw_tag(sheet, boxes[i], region_name(regions, i), PALETTE[rank], letters, taken, unit)
    result = round(sheet.width / SCALE), round(sheet.height / SCALE)
    return sheet.resize(result, Image.Resampling.LANCZOS)


def region_name(regions: Regions, i: int) -> str:
    """A region's label and score, such as "dog 0.93", or its number where the detector gives no labels."""
    label = str(i) if regions.labels is None else regions.labels[i]
    return label if regions.scores is None else f"{label} {regions.scores[i]:.2f}"


def _different(regions: Regions, order: list[int]) -> list[int]:
    """The regions that are of another thing than those before them."""
    assert regions.boxes is not None
    kinds = [_kind(label) for label in regions.labels or [""] * len(regions.boxes)]
    kept: list[int] = []
    for i in order:
        others, box = regions.boxes[kept], regions.boxes[i]
        same = show_same(others, box, within=_WITHIN)
        alike = np.array([kinds[other] == kinds[i] for other in kept], bool)
        if not ((same & alike) | (iou(others, box) >= _COPY)).any():
            kept.append(i)
    return kept


def _kind(label: str) -> str:
    """What a label is of: "dog" for "brown dog"; people are one kind, since detectors take a boy for a girl."""
    noun = label.split()[-1] if label.split() else ""
    return "person" if noun in _PEOPLE else noun


def _line(box: Box, unit: float) -> float:
    """The unit of a box's line width, smaller for small boxes, so that lines do not hide their content."""
    side = min(box[2] - box[0], box[3] - box[1])
    return unit * min(1.0, max(_THIN, side / (50 * unit)))


def _on_sheet(
    boxes: np.ndarray,
    size: tuple[int, int],
    shown: Image.Image,
    corner: tuple[int, int],
    sheet: Image.Image,
    *,
    inset: float,
) -> list[Box]:
    """Boxes in a photo of (w, h) ``size``, in pixels of the sheet, moved inside its edges so that lines show whole."""
    scale = np.array([shown.width / size[0], shown.height / size[1]] * 2)
    edges = np.clip(boxes * scale + np.array(corner * 2), inset, np.array(sheet.size * 2) - inset)
    return [(x0, y0, x1, y1) for x0, y0, x1, y1 in edges.tolist()]
