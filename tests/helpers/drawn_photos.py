"""Photos of one to three coloured shapes with captions and boxes, and a detector that finds shapes by their colours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from han_retrieval.regions import Regions

COLOURS = {"red": (210, 40, 40), "green": (40, 160, 60), "blue": (50, 70, 210), "yellow": (230, 210, 50)}
SHAPES = ("ball", "box", "tent")
SIZE = (128, 96)


def write_drawn_photos(folder: Path, *, train: int, dev: int) -> None:
    """Write a dataset: photos, ``metadata.jsonl`` with captions and splits, ``entities.jsonl`` with boxes."""
    rows, annotations = [], []
    for split, count in (("train", train), ("dev", dev)):
        (folder / split).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            name = f"{split}/{number:03d}.png"
            random = np.random.default_rng([split == "dev", number])
            photo, things = _draw(random)
            photo.save(folder / name)
            sentences = [_sentence(things), _sentence(things[::-1], "there is")]
            rows.append({"file_name": name, "captions": [" ".join(s["tokens"]) for s in sentences], "split": split})
            boxes = [{"box": box, "chains": [chain]} for chain, _, _, box in things]
            annotations.append(
                {
                    "file": name,
                    "width": SIZE[0],
                    "height": SIZE[1],
                    "boxes": boxes,
                    "unboxed": [],
                    "sentences": sentences,
                }
            )
    for file, lines in (("metadata.jsonl", rows), ("entities.jsonl", annotations)):
        (folder / file).write_text("".join(json.dumps(line) + "\n" for line in lines))


def _draw(random: np.random.Generator) -> tuple[Image.Image, list[tuple[str, str, str, list[int]]]]:
    """A photo, and chain, colour, shape and box of each thing in it; no two of a colour, none over another."""
    photo = Image.new("RGB", SIZE, tuple(random.integers(90, 130, 3).tolist()))
    pen, things = ImageDraw.Draw(photo), []
    for place, colour in enumerate(random.permutation(list(COLOURS))[: random.integers(1, 4)]):
        shape = SHAPES[random.integers(len(SHAPES))]
        width, height = (int(n) for n in random.integers(24, 40, 2))
        x0, y0 = place * 43 + int(random.integers(43 - width)), int(random.integers(SIZE[1] - height))
        x1, y1 = x0 + width, y0 + height
        if shape == "tent":
            pen.polygon([(x0, y1 - 1), (x1 - 1, y1 - 1), ((x0 + x1) // 2, y0)], COLOURS[colour])
        else:
            (pen.ellipse if shape == "ball" else pen.rectangle)((x0, y0, x1 - 1, y1 - 1), COLOURS[colour])
        things.append((str(place + 1), str(colour), shape, [x0, y0, x1, y1]))
    return photo, things


def _sentence(things: list[tuple[str, str, str, list[int]]], start: str = "") -> dict[str, object]:
    tokens, phrases = start.split(), []
    for chain, colour, shape, _ in things:
        tokens += ["and"] if phrases else []
        phrases.append({"start": len(tokens), "end": len(tokens) + 3, "chain": chain, "types": ["other"]})
        tokens += ["a", colour, shape]
    return {"tokens": tokens, "phrases": phrases}


class ColourDetector:
    """A region around each colour of ``COLOURS`` that a photo has, then one of the whole photo."""

    feature_size = len(COLOURS) + 5

    def __init__(self, *, regions: int = 4) -> None:
        self.regions = regions
        self.fingerprint = f"colours-1-{regions}"

    def detect(self, photos: list[Image.Image]) -> list[Regions]:
        """See ``Detector``."""
        return [self._regions(photo) for photo in photos]

    def _regions(self, photo: Image.Image) -> Regions:
        pixels = np.asarray(photo).astype(int)
        boxes, features = [], []
        for place, colour in enumerate(COLOURS.values()):
            mask = np.abs(pixels - colour).sum(2) < 30
            if mask.any():
                y, x = mask.nonzero()
                boxes.append([x.min(), y.min(), x.max() + 1, y.max() + 1])
                features.append([*np.eye(len(COLOURS))[place], *(boxes[-1] / np.array(photo.size * 2)), mask.mean()])
        boxes = [*boxes[: self.regions - 1], [0, 0, *photo.size]]
        features = [*features[: self.regions - 1], [*[0] * len(COLOURS), 0, 0, 1, 1, 1]]
        return Regions(np.array(features, np.float16), np.array(boxes, np.float32), *photo.size)
