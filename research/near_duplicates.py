"""Where "nearly the same photo" begins: changed copies of photos against the most alike of different photos.

    python -m research.near_duplicates MODEL DATASET --features STORE [--copies 50] [--picture FILE]

Copies are made anew, through the detector: smaller, saved as a poor JPEG, with 5 % cut off each side, brighter,
mirrored. Different photos are each photo's most alike among its 10 nearest by pooled tokens. The picture shows pairs of
these around the threshold, most alike first.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from han_retrieval.process import tune_process

tune_process()  # before torch is imported

import torch  # noqa: E402
from PIL import Image, ImageEnhance, ImageOps  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn.functional import normalize  # noqa: E402
from tqdm import tqdm  # noqa: E402

from han_retrieval.data import read_dataset  # noqa: E402
from han_retrieval.data.photos import open_photo  # noqa: E402
from han_retrieval.matchers import load_aligning_matcher, model_folder  # noqa: E402
from han_retrieval.regions import RegionStore, detector_for  # noqa: E402
from han_retrieval.search.encode import encode_regions  # noqa: E402
from han_retrieval.search.near_duplicates import NEAR_DUPLICATE, photo_similarity  # noqa: E402
from research.program import run  # noqa: E402

THRESHOLDS = (0.8, 0.85, 0.88, 0.9, 0.95)
_AT_ONCE = 250


def _smaller(photo: Image.Image) -> Image.Image:
    return photo.resize((photo.width * 2 // 3, photo.height * 2 // 3))


def _poor(photo: Image.Image) -> Image.Image:
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=30)
    return Image.open(file).convert("RGB")


def _cut(photo: Image.Image) -> Image.Image:
    x, y = photo.width // 20, photo.height // 20
    return photo.crop((x, y, photo.width - x, photo.height - y))


def _brighter(photo: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(photo).enhance(1.25)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "two thirds of the size": _smaller,
    "JPEG of quality 30": _poor,
    "5 % cut off each side": _cut,
    "a quarter brighter": _brighter,
    "mirrored": ImageOps.mirror,
}


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(exists=True, path_type=Path))
@click.option("--features", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--copies", type=click.IntRange(1), default=50, show_default=True)
@click.option("--picture", type=click.Path(path_type=Path))
def main(model: Path, dataset: Path, features: Path, copies: int, picture: Path | None) -> None:
    """Shares of changed copies and of different photos that pass each threshold."""
    han = load_aligning_matcher(model)
    store = RegionStore.open(features)
    photos = [photo for photo in read_dataset(dataset).photos if photo.id in store and photo.path is not None]
    tokens = []  # (m, d) of unit length, a photo
    for first in tqdm(range(0, len(photos), _AT_ONCE), desc="encoding"):
        found = store.read([photo.id for photo in photos[first : first + _AT_ONCE]])
        tokens += [normalize(its[there], dim=1) for its, there in zip(*encode_regions(han, found), strict=True)]
    shown = {}
    detector = detector_for(store.fingerprint, model=model_folder(model))
    chosen = np.random.default_rng(0).choice(len(photos), copies, replace=False)
    for name, change in CHANGES.items():
        found = []
        for place in tqdm(chosen, desc=name):
            path = photos[place].path
            assert path is not None
            regions = detector.detect([change(open_photo(path))])
            its, there = encode_regions(han, regions)
            found.append(photo_similarity(normalize(its[0][there[0]], dim=1), tokens[place]))
        shown[name] = _shares(found)
    most, nearest = _most_alike(tokens)
    shown["different photos"] = _shares(most)
    print(json.dumps({"photos": len(photos), "copies": copies, "shares in percent at": shown}, indent=2))
    if picture is not None:
        _draw(picture, most, nearest, [photo.path for photo in photos])


def _shares(found: list[float]) -> dict[str, float]:
    return {f"{at:g}": round(100 * float(np.mean([one >= at for one in found])), 2) for at in THRESHOLDS}


def _most_alike(tokens: list[Tensor]) -> tuple[list[float], list[int]]:
    """For each photo, how alike the most alike other is, and which it is."""
    pooled = normalize(torch.stack([its.mean(0) for its in tokens]), dim=1)
    most, which = [], []
    for place in tqdm(range(len(tokens)), desc="different photos"):
        cosines = pooled @ pooled[place]
        cosines[place] = -2
        near = cosines.topk(10).indices.tolist()
        alike = [photo_similarity(tokens[place], tokens[other]) for other in near]
        most.append(max(alike))
        which.append(near[int(np.argmax(alike))])
    return most, which


def _draw(file: Path, most: list[float], which: list[int], paths: list[Path | None]) -> None:
    """Pairs of different photos, eight of those that are nearest to each of four likenesses, a row each."""
    side = 140
    sheet = Image.new("RGB", (8 * (2 * side + 12), 4 * (side + 8)), "white")
    for row, at in enumerate((NEAR_DUPLICATE + 0.02, NEAR_DUPLICATE, NEAR_DUPLICATE - 0.05, NEAR_DUPLICATE - 0.1)):
        for column, place in enumerate(np.argsort(np.abs(np.array(most) - at))[:8]):
            for half, one in enumerate((place, which[place])):
                path = paths[one]
                assert path is not None
                photo = ImageOps.fit(open_photo(path), (side, side))
                sheet.paste(photo, (column * (2 * side + 12) + half * side, row * (side + 8)))
    sheet.save(file)


if __name__ == "__main__":
    run(main)
