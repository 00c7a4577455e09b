"""A detector that needs no network, photos for it, and runs of it that are killed."""

from __future__ import annotations

import time
from pathlib import Path

import lance
import numpy as np
from killing import kill_at
from PIL import Image

from han_retrieval.data import CaptionedPhoto, CaptionedPhotos
from han_retrieval.errors import HANError
from han_retrieval.regions import Regions, RegionStore, extract
from han_retrieval.storage import table as table_module

SIZE = 12


class FakeDetector:
    """One to four regions: a box around the red pixels and some noise that only depends on the photo's pixels."""

    feature_size = SIZE

    def __init__(self, fingerprint: str = "fake:1") -> None:
        self.fingerprint = fingerprint
        self.batches: list[int] = []

    def detect(self, photos):
        self.batches.append(len(photos))
        return [self.regions(np.asarray(photo).astype(np.int64)) for photo in photos]

    def regions(self, pixels: np.ndarray) -> Regions:
        height, width, _ = pixels.shape
        noise = np.random.default_rng(int(pixels.sum()))
        m = int(noise.integers(1, 5))
        red = (pixels[..., 0] > 128) & (pixels[..., 1] < 64)
        y, x = np.nonzero(red) if red.any() else np.indices((height, width)).reshape(2, -1)
        box = [x.min(), y.min(), x.max() + 1, y.max() + 1]
        return Regions(
            features=noise.standard_normal((m, SIZE)).astype(np.float16),
            boxes=np.array([box] * m, dtype=np.float32),
            width=width,
            height=height,
            labels=tuple(f"thing {i}" for i in range(m)),
            scores=np.linspace(1, 0.5, m, dtype=np.float32),
        )


def make_photos(folder: Path, count: int, *, size: tuple[int, int] = (24, 16)) -> CaptionedPhotos:
    folder.mkdir(parents=True, exist_ok=True)
    photos = []
    for i in range(count):
        path = folder / f"photo {i}.png"
        noise = np.random.default_rng(i).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        photos.append(CaptionedPhoto(path.name, path, ("a photo",)))
    return CaptionedPhotos("photos", folder, tuple(photos))


def set_small_commits() -> None:
    import sys

    sys.modules["han_retrieval.regions.extraction"]._ROWS_A_COMMIT = 4
    table_module.SMALL_FILES = 4
    table_module.ROWS_A_FILE = 16


def run(photos: CaptionedPhotos, out: Path, started=None) -> None:
    """A run with commits of 4 photos and frequent merging, for a process of its own."""
    set_small_commits()
    if started is not None:
        started.set()
    extract(photos, FakeDetector(), out, batch_size=2)


def run_killed_at(photos: CaptionedPhotos, out: Path, call: str, times: int) -> None:
    """As ``run``, killed at the beginning of the n-th call of one of the steps that touch the disk."""
    owner, name = {
        "sync": (table_module.Table, "_sync"),
        "commit": (lance.LanceDataset, "commit"),
        "clean": (lance.LanceDataset, "cleanup_old_versions"),
        "write": (lance.fragment, "write_fragments"),
    }[call]
    kill_at(owner, name, times)
    run(photos, out)


def hold(out: Path, ready) -> None:
    """Be the writer of a store until killed."""
    store = RegionStore.open(out)
    store.lock()
    ready.set()
    time.sleep(600)


def contents(out) -> list[tuple]:
    """What a store holds, photo by photo, each once."""
    store = RegionStore.open(out)
    assert len(set(store.ids)) == len(store.ids) == store._table.dataset.count_rows()
    return [
        (photo_id, regions.features.tobytes(), regions.boxes.tobytes(), regions.labels, regions.scores.tobytes())
        for photo_id, regions in zip(store.ids, store.read(store.ids), strict=True)
    ]


def count(out) -> int:
    """How many photos a store holds."""
    try:
        return len(RegionStore.open(out))
    except HANError:
        return 0  # killed before the store was there
