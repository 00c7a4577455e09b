"""A tiny random model, photos for it, and runs of indexing that are killed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import lance
import numpy as np
import torch
from killing import kill_at
from PIL import Image

from han_retrieval.matchers import HAN, HANConfig
from han_retrieval.regions import Regions
from han_retrieval.search import Index, IndexReport, index_photos
from han_retrieval.search.table import PhotoTable
from han_retrieval.storage import table as table_module
from han_retrieval.text import Vocabulary
from han_retrieval.text.vocabulary import SPECIAL_WORDS

SIZE = 12
FINGERPRINT = "fake:1"
SENTENCE = "a red dog"


class FakeDetector:
    """One to four regions, noise that only depends on the photo's pixels; remembers how many photos it was given."""

    feature_size = SIZE

    def __init__(self, fingerprint: str = FINGERPRINT) -> None:
        self.fingerprint = fingerprint
        self.seen = 0

    def detect(self, photos):
        self.seen += len(photos)
        return [self.regions(photo) for photo in photos]

    def regions(self, photo) -> Regions:
        noise = np.random.default_rng(int(np.asarray(photo).astype(np.int64).sum()))
        m = int(noise.integers(1, 5))
        return Regions(
            features=noise.standard_normal((m, SIZE)).astype(np.float16),
            boxes=np.array([[0, 0, i + 1, 8] for i in range(m)], dtype=np.float32),
            width=photo.width,
            height=photo.height,
            labels=tuple(f"thing {i}" for i in range(m)),
        )


def make_model(folder: Path, *, seed: int = 0, fingerprint: str | None = FINGERPRINT) -> Path:
    torch.manual_seed(seed)
    vocabulary = Vocabulary((*SPECIAL_WORDS, "a", "red", "blue", "dog", "cat"))
    config = HANConfig(
        region_size=SIZE,
        vocabulary_size=len(vocabulary),
        word_size=8,
        joint_size=16,
        detector_fingerprint=fingerprint,
    )
    HAN(config, vocabulary=vocabulary).save_pretrained(folder)
    return folder


def make_photo(path: Path, seed: int, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (16, 24, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, **options)
    return path


def make_photos(folder: Path, count: int, *, first: int = 0) -> Path:
    for i in range(first, first + count):
        make_photo(folder / f"{i:03}.png", i)
    return folder


def change_photos(folder: Path, *, new: int) -> None:
    """Change at least six photos in every way, and add some: one goes, others move, are copied, redrawn, and broken."""
    (folder / "000.png").unlink()
    (folder / "001.png").rename(folder / "moved.png")
    shutil.copy(folder / "002.png", folder / "copy.png")
    make_photo(folder / "003.png", 50)
    (folder / "broken.png").write_text("broken")
    make_photos(folder, new, first=20)


def update(photos: Path | list[Path] | None, out: Path, model: Path | None = None, **options: object) -> IndexReport:
    roots = photos if isinstance(photos, list) else [photos] if photos else []
    options.setdefault("detector", FakeDetector())
    return index_photos(roots, out, model=model, **options)


def files(out: Path) -> dict[str, list[str]]:
    """The paths below their root of each photo, by its first."""
    with Index.open(out) as index:
        return {
            path: [path, *(copy["path"] for copy in copies or ())]
            for path, copies in zip(index.photos["path"].to_pylist(), index.photos["copies"].to_pylist(), strict=True)
        }


def set_small_commits() -> None:
    sys.modules["han_retrieval.search.additions"]._ROWS_A_COMMIT = 4
    table_module.SMALL_FILES = 4
    table_module.ROWS_A_FILE = 16


def run(photos: Path, out: Path, model: Path, started=None) -> None:
    """A run with commits of 4 photos and frequent merging, for a process of its own."""
    torch.set_num_threads(1)
    set_small_commits()
    if started is not None:
        started.set()
    update(photos, out, model, batch_size=2)


def run_killed_at(photos: Path, out: Path, model: Path, call: str, times: int) -> None:
    """As ``run``, killed at the beginning of the n-th call of one of the steps that touch the disk."""
    owner, name = {
        "sync": (table_module.Table, "_sync"),
        "commit": (lance.LanceDataset, "commit"),
        "clean": (lance.LanceDataset, "cleanup_old_versions"),
        "write": (lance.fragment, "write_fragments"),
        "move": (PhotoTable, "move"),
        "delete": (PhotoTable, "delete"),
    }[call]
    kill_at(owner, name, times)
    run(photos, out, model)
