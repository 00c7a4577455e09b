"""Boxes from a file as a source of boxes: ``--detector boxes:FILE+FEATURES``.

Legend: m regions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from han_retrieval.data.files import field
from han_retrieval.data.photos import names_of
from han_retrieval.errors import ConfigError, DataError, ModelError
from han_retrieval.files import from_home, sha256_of
from han_retrieval.parsing import read_json_lines, shown
from han_retrieval.regions.choose import PHOTO
from han_retrieval.regions.flip import FLIPPED
from han_retrieval.regions.regions import Regions

_LEAST_SIDE = 1.0  # of a box within the photo, in pixels
_LARGEST = 1e9  # of a number in the file


class PhotoBoxes(NamedTuple):
    """The boxes of a photo, best first.

    Attributes:
        boxes: (m, 4) float32, x0 y0 x1 y1 in pixels of the upright photo.
        labels: m names, or None.
        scores: (m,) float32, or None.
    """

    boxes: np.ndarray
    labels: tuple[str, ...] | None
    scores: np.ndarray | None


class FileBoxes:
    """Boxes of photos that are known by their id, their path or the name of their file.

    The whole photo comes first, as with every detector here. A photo that the file does not have gets no region, so
    that it is skipped and reported.

    Attributes:
        fingerprint: Names the file's content by its hash.
        feature_size: 0; a backbone describes the boxes.
    """

    feature_size = 0

    def __init__(self, path: Path, *, regions: int) -> None:
        """Read the file; see ``read_boxes``. At most ``regions`` - 1 boxes of a photo are taken."""
        self._boxes, self._regions = read_boxes(path), regions
        self.fingerprint = f"boxes-1-{regions}-{sha256_of(path)[:8]}"

    def detect(self, photos: Sequence[Image.Image]) -> list[Regions]:
        """See ``Detector.detect``; without features."""
        return [self._regions_of(photo) for photo in photos]

    def _regions_of(self, photo: Image.Image) -> Regions:
        names = [name for full in names_of(photo) for name in (full, Path(full).name)]
        found = next((self._boxes[name] for name in names if name in self._boxes), None)
        if found is None:
            return Regions(np.zeros((0, 0), np.float16), np.zeros((0, 4), np.float32), photo.width, photo.height)
        w, h = photo.size
        boxes = found.boxes.clip(0, [w, h, w, h])
        if photo.info.get(FLIPPED):
            boxes[:, [0, 2]] = w - boxes[:, [2, 0]]
        kept = ((boxes[:, 2:] - boxes[:, :2]) >= _LEAST_SIDE).all(1).nonzero()[0][: self._regions - 1]
        return Regions(
            features=np.zeros((1 + len(kept), 0), np.float16),
            boxes=np.concatenate([[[0, 0, w, h]], boxes[kept]]).astype(np.float32),
            width=w,
            height=h,
            labels=None if found.labels is None else (PHOTO, *(found.labels[i] for i in kept)),
            scores=None if found.scores is None else np.concatenate([[1], found.scores[kept]]).astype(np.float32),
        )


def read_boxes(path: Path) -> dict[str, PhotoBoxes]:
    """The boxes of photos in a JSON Lines file, by the photo's name there.

    A line is ``{"photo": "a.jpg", "boxes": [[x0, y0, x1, y1], ...]}``, with "labels" and "scores" if there are any.

    Raises:
        DataError: It cannot be read, or a line is not as it should be; the message has the line.
    """
    found: dict[str, PhotoBoxes] = {}
    for where, line in read_json_lines(path):
        photo, boxes = field(line, "photo", str, where), field(line, "boxes", list, where)
        if photo in found:
            raise DataError(f"{where}: the photo {photo!r} has a line already; put all its boxes into one")
        if not all(isinstance(box, list) and len(box) == 4 and all(map(_is_number, box)) for box in boxes):
            raise DataError(f'{where}: "boxes" is no list of boxes [x0, y0, x1, y1] in pixels ({shown(boxes)})')
        labels = _optional(line, "labels", where, count=len(boxes), fits=lambda value: isinstance(value, str))
        scores = _optional(line, "scores", where, count=len(boxes), fits=_is_number)
        found[photo] = PhotoBoxes(
            np.array(boxes, dtype=np.float32).reshape(-1, 4),
            None if labels is None else tuple(labels),
            None if scores is None else np.array(scores, dtype=np.float32),
        )
    if not found:
        raise DataError(f'{path}: empty; a line is {{"photo": "a.jpg", "boxes": [[x0, y0, x1, y1], ...]}}')
    return found


def _optional(
    line: dict[str, Any], name: str, where: str, *, count: int, fits: Callable[[Any], bool]
) -> list[Any] | None:
    """A list with a value for each box, or None where the line has none."""
    values = line.get(name)
    if values is None or (isinstance(values, list) and len(values) == count and all(map(fits, values))):
        return values
    raise DataError(f'{where}: "{name}" is no list with one for each of the {count} boxes ({shown(values)})')


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= _LARGEST  # which NaN is not


class _Factory:
    """Makes a source of boxes from a file; see ``DetectorFactory``."""

    def __call__(self, argument: str, /, *, regions: int) -> FileBoxes:
        if not argument:
            raise ConfigError("boxes are read from a file; name it: --detector boxes:FILE+timm:NAME")
        return FileBoxes(from_home(argument), regions=regions)

    def argument_for(self, fingerprint: str) -> str:
        """Nothing: the fingerprint has the hash of the file, not its place."""
        raise ModelError(
            f"the features were made by {fingerprint!r}, whose boxes are from a file: --detector boxes:FILE+NAME"
        )


make_detector = _Factory()
