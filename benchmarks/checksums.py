"""What checksums cost, as ratios against tables without them: python benchmarks/checksums.py [FOLDER].

Tables of made-up photos are written to FOLDER (by default a temporary one; 1.3 GB), once as they are and once without
checksums, hashes of files, and reading back what was written. All is in the page cache. What Lance itself reads and
writes is the same in both.
"""

from __future__ import annotations

import contextlib
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import click
import numpy as np
import torch

from han_retrieval.data import PhotoInfo
from han_retrieval.matchers import DEFAULT_MODEL
from han_retrieval.regions import Regions, RegionStore
from han_retrieval.regions.rows import RegionRow
from han_retrieval.search import Index
from han_retrieval.search.rows import Encoded, PhotoFile, PhotoRow
from han_retrieval.search.settings import Settings
from han_retrieval.search.table import MadeBy, PhotoTable
from han_retrieval.search.tables import FIRST, make_folder

_ROUNDS = 15
_PHOTOS = 2048  # of a region store, with 36 regions of 2048 numbers
_COMMIT = 256
_LARGE, _SMALL = 100_000, 4096  # photos of an index with little each, and of one with 36 tokens of 1024 numbers


def _without() -> contextlib.AbstractContextManager[object]:
    """A block in which tables have no checksums, and nothing of them is checked."""
    block = contextlib.ExitStack()
    for module in ("regions.rows", "regions.store", "search.rows", "search.table", "search.reader"):
        block.enter_context(mock.patch(f"han_retrieval.{module}.CHECKSUMS", {}))
    for name, result in (("_read_back", set()), ("_record", None)):
        block.enter_context(mock.patch(f"han_retrieval.storage.table.Table.{name}", lambda *_, result=result: result))
    return block


def _regions(count: int, noise: np.random.Generator) -> Iterator[RegionRow]:
    features = noise.standard_normal((36, 2048)).astype(np.float16)
    boxes = np.tile(np.float32([0, 0, 8, 8]), (36, 1))
    for i in range(count):
        features[0, 0] = i % 1000
        yield RegionRow(f"{i:08}.jpg", None, Regions(features.copy(), boxes, 640, 480, labels=("thing",) * 36))


def _photos(count: int, m: int, d: int, e: int, noise: np.random.Generator) -> Iterator[list[PhotoRow]]:
    boxes = np.tile(np.float32([0, 0, 8, 8]), (m, 1))
    for first in range(0, count, 4096):
        tokens = noise.integers(-127, 127, (4096, m, d)).astype(np.int8)
        pooled = noise.standard_normal((4096, e)).astype(np.float16)
        scales = noise.random((4096, m)).astype(np.float32)
        yield [
            PhotoRow(
                id=f"{first + i:032x}",
                files=(PhotoFile("/photos", f"trips/2024/IMG_{first + i}.jpg", first + i),),
                size=100_000 + i,
                info=PhotoInfo("2024-05-06 07:08:09", "Maker Model"),
                encoded=Encoded(640, 480, boxes, ("thing",) * m, tokens[i], scales[i], pooled[i]),
            )
            for i in range(min(4096, count - first))
        ]


def _make_store(path: Path) -> None:
    rows = list(_regions(_PHOTOS, np.random.default_rng(0)))
    with RegionStore.create(path, fingerprint="made up", feature_size=2048) as store:
        for first in range(0, _PHOTOS, _COMMIT):
            store.append(rows[first : first + _COMMIT])
        store.compact()


def _make_index(path: Path, count: int, m: int, d: int, e: int) -> None:
    make_folder(path)
    table = PhotoTable.create(path / FIRST, MadeBy("made up", "made up", d, "int8", "mean", e))
    for rows in _photos(count, m, d, e, np.random.default_rng(0)):
        table.append(rows)
    table.tidy()
    Settings(table=FIRST, model=DEFAULT_MODEL).write(path)


def _uses(folder: Path) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    noise = np.random.default_rng(1)
    store, small = RegionStore.open(folder / "features"), Index.open(folder / "small")
    rows = list(_regions(_COMMIT, noise))

    def append() -> None:
        shutil.rmtree(folder / "appended", ignore_errors=True)
        with RegionStore.create(folder / "appended", fingerprint="made up", feature_size=2048) as new:
            new.append(rows)

    return {
        f"open a region store of {_PHOTOS:,} photos": lambda: RegionStore.open(folder / "features"),
        "read a training batch of 128 photos": lambda: store.batch([*noise.choice(store.ids, 128)]),
        f"create a store and append {_COMMIT} photos": append,
        f"open an index of {_LARGE:,} photos": lambda: Index.open(folder / "large").close(),
        "fetch the tokens of 200 candidates": lambda: small.stored_tokens(noise.choice(len(small), 200)),
        "read boxes and names of 10 hits": lambda: small.regions(noise.choice(len(small), 10)),
    }


@click.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path))
def main(folder: Path | None) -> None:
    """Write tables to FOLDER, which must be new, and print what checksums cost."""
    torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        folder = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        variants = {"with": contextlib.nullcontext, "without": _without}
        uses: dict[str, dict[str, Callable[[], object]]] = {}
        for name, block in variants.items():
            with block():
                _make_store(folder / name / "features")
                _make_index(folder / name / "large", _LARGE, 2, 128, 1024)
                _make_index(folder / name / "small", _SMALL, 36, 1024, 1024)
                uses[name] = _uses(folder / name)
        print(f"Python {platform.python_version()}, {platform.machine()}, median of {_ROUNDS}")
        for what in uses["with"]:
            seconds: dict[str, list[float]] = {name: [] for name in variants}
            for _ in range(_ROUNDS + 1):
                for name, block in variants.items():
                    with block():
                        start = time.perf_counter()
                        uses[name][what]()
                        seconds[name].append(time.perf_counter() - start)
            checked, plain = (1000 * statistics.median(seconds[name][1:]) for name in variants)
            print(f"{what:<46} {checked:7.1f} ms with, {plain:7.1f} without: {checked / plain:4.2f} x")
        sizes = {name: sum(f.stat().st_size for f in (folder / name).rglob("*") if f.is_file()) for name in variants}
        print(f"bytes on the disk: {sizes['with'] / sizes['without']:.4f} x")


if __name__ == "__main__":
    main()
