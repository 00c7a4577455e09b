"""What a search costs and what its candidates keep: bytes, memory, seconds by stage, recall.

    python benchmarks/search.py fill MODEL FEATURES INDEX                 an index of a region store's photos
    python benchmarks/search.py draw INDEX LARGER --photos 100000         one of made-up photos with tokens like those
    python benchmarks/search.py time INDEX QUERIES [--candidates 200]     latency by stage, cold and warm, and memory
    python benchmarks/search.py recall INDEX QUERIES                      what candidates keep of the exact best ten

QUERIES is a text file with a sentence a line, or a dataset. Indexes that are made here have no photo files: their paths
are the photos' ids. Cold is a new process that finds nothing of the index in the page cache.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np

from han_retrieval.process import tune_process

tune_process()  # before torch is imported

import torch  # noqa: E402
from torch.nn import functional  # noqa: E402

from han_retrieval.data import PhotoInfo, read_dataset, read_sentences  # noqa: E402
from han_retrieval.matchers import load_aligning_matcher, model_folder  # noqa: E402
from han_retrieval.matchers.saving import folder_hash  # noqa: E402
from han_retrieval.regions import RegionStore  # noqa: E402
from han_retrieval.scoring import Tokens  # noqa: E402
from han_retrieval.scoring.kernels import finish_loading  # noqa: E402
from han_retrieval.search import CANDIDATES, Index, MeanPooling, search  # noqa: E402
from han_retrieval.search.encode import encode_found  # noqa: E402
from han_retrieval.search.recall import candidate_recall  # noqa: E402
from han_retrieval.search.rows import Encoded, PhotoFile, PhotoRow  # noqa: E402
from han_retrieval.search.settings import Settings  # noqa: E402
from han_retrieval.search.table import MadeBy, PhotoTable  # noqa: E402
from han_retrieval.search.tables import FIRST, make_folder  # noqa: E402

FOLDER = click.Path(exists=True, path_type=Path)
_ROWS = 512
STAGES = ("encode", "filter", "candidates", "fetch", "rank")


@click.group()
def main() -> None:
    """What a search costs and what its candidates keep."""


def fill_index(model: Path, store: RegionStore, ids: Sequence[str], out: Path, *, storage: str = "int8") -> None:
    """An index of photos whose regions are in a store, without a look at the photos."""
    han = load_aligning_matcher(model)
    size = han.config.joint_size
    made_by = MadeBy(folder_hash(model), store.fingerprint, size, storage, MeanPooling.name, size)
    pooling = MeanPooling()
    make_folder(out)
    table = PhotoTable.create(out / FIRST, made_by)
    for first in range(0, len(ids), _ROWS):
        some = ids[first : first + _ROWS]
        found = encode_found(han, store.read(some), storage=storage, pooling=pooling)
        rows = zip(some, found, strict=True)
        table.append([row_of(name, each) for name, each in rows if isinstance(each, Encoded)])
    table.tidy()
    Settings(table=FIRST, model=str(model.absolute())).write(out)


def row_of(name: str, encoded: Encoded) -> PhotoRow:
    """The row of a photo that has no file."""
    return PhotoRow(name, (PhotoFile("/", name, 0),), 0, PhotoInfo(), encoded)


@main.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("features", type=FOLDER)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--dataset", type=FOLDER, help="With --split: only its photos.")
@click.option("--split")
@click.option("--storage", default="int8", show_default=True)
def fill(model: Path, features: Path, out: Path, dataset: Path | None, split: str | None, storage: str) -> None:
    """Make an index of the photos of a region store."""
    store = RegionStore.open(features)
    ids = store.ids
    if dataset is not None and split:
        wanted = {photo.id for photo in read_dataset(dataset).split(split).photos}
        ids = [photo_id for photo_id in ids if photo_id in wanted]
    started = time.perf_counter()
    fill_index(model_folder(model), store, ids, out, storage=storage)
    click.echo(f"{len(ids)} photos, {len(ids) / (time.perf_counter() - started):.0f}/s from regions to rows")
    click.echo(f"{Index.open(out).describe().bytes_a_photo:.0f} bytes a photo")


@main.command()
@click.argument("index", type=FOLDER)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--photos", default=100_000, show_default=True)
def draw(index: Path, out: Path, photos: int) -> None:
    """Make an index of made-up photos: each region's token lies between those of two photos at the same place.

    Where between is drawn once a photo, from the middle of the one to the middle of the other.
    """
    make_folder(out)
    with Index.open(index) as real:
        table = PhotoTable.create(out / FIRST, real.made_by)
        pooling = MeanPooling()
        random = np.random.default_rng(0)
        for first in range(0, photos, _ROWS):
            count = min(_ROWS, photos - first)
            (ones, one_mask), (others, other_mask) = (
                real.tokens(random.integers(len(real), size=count)) for _ in range(2)
            )
            m = min(ones.shape[1], others.shape[1])
            there = one_mask[:, :m] & other_mask[:, :m]
            share = torch.from_numpy(random.uniform(0, 1, (count, 1, 1)).astype(np.float32))
            mixed = functional.normalize((1 - share) * ones[:, :m] + share * others[:, :m], dim=2)  # (count, m, d)
            vectors = pooling.images(mixed, there).numpy().astype(np.float16)
            rows = []
            for i in range(count):
                stored = Tokens.store(mixed[i][there[i]], real.made_by.storage)
                scales = stored.scale.numpy() if real.made_by.storage == "int8" else None
                boxes = np.zeros((int(there[i].sum()), 4), np.float32)
                encoded = Encoded(224, 224, boxes, None, stored.values.numpy(), scales, vectors[i])
                rows.append(row_of(f"{first + i:07}", encoded))
            table.append(rows)
        table.tidy()
        Settings(table=FIRST, model=real.settings.model).write(out)
    click.echo(f"{photos} photos, {Index.open(out).describe().bytes_a_photo:.0f} bytes a photo")


@main.command(name="time")
@click.argument("index", type=FOLDER)
@click.argument("queries", type=FOLDER)
@click.option("--candidates", default=CANDIDATES, show_default=True)
@click.option("-k", default=10, show_default=True)
@click.option("--searches", default=100, show_default=True)
@click.option("--cold-searches", default=5, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def time_(
    index: Path, queries: Path, candidates: int, k: int, searches: int, cold_searches: int, json_file: Path | None
) -> None:
    """Seconds of searches by stage."""
    sentences = np.random.default_rng(0).permutation(read_sentences(queries))[: searches + 3].tolist()
    cold = [_cold(index, sentence, candidates, k) for sentence in sentences[:cold_searches]]
    before = _resident()
    started = time.perf_counter()
    with Index.open(index) as photos:
        model = photos.load_model()
        opened, held = time.perf_counter() - started, _resident() - before
        warm = []
        search(photos, model, sentences[0], k=k, candidates=candidates)
        finish_loading(seconds=600, compiling=True)  # until then, plain torch scores
        for place, sentence in enumerate(sentences):
            start = time.perf_counter()
            answer = search(photos, model, sentence, k=k, candidates=candidates)
            if place >= 3:
                warm.append(answer.seconds | {"all": time.perf_counter() - start})
        summary = photos.describe()
    click.echo(f"{_machine()}; load {os.getloadavg()[0]:.1f}")
    click.echo(f"{summary.photos} photos, {summary.bytes_a_photo:.0f} bytes each on disk, tokens {summary.tokens}")
    click.echo(f"opened with its model in {opened:.2f} s, {held / 2**20:.0f} MiB; {_resident() / 2**20:.0f} MiB in all")
    click.echo(
        f"k = {k}, {candidates} candidates, milliseconds   " + "".join(f"{name:>12}" for name in (*STAGES, "all"))
    )
    rows = {"warm p50": _at(warm, 50), "warm p95": _at(warm, 95), "cold p50": _at(cold, 50), "cold max": _at(cold, 100)}
    for name, row in rows.items():
        click.echo(f"{name:<36}" + "".join(f"{1000 * row[stage]:12.1f}" for stage in (*STAGES, "all")))
    click.echo("cold, with Python, torch and the model loaded: " + f"{_at(cold, 50)['process']:.1f} s")
    if json_file:
        facts = {"machine": _machine(), "index": asdict(summary), "candidates": candidates, "k": k, "seconds": rows}
        json_file.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


@main.command(hidden=True)
@click.argument("index", type=FOLDER)
@click.argument("sentence")
@click.argument("candidates", type=int)
@click.argument("k", type=int)
def once(index: Path, sentence: str, candidates: int, k: int) -> None:
    """One search of a new process, its seconds as JSON."""
    with Index.open(index) as photos:
        model = photos.load_model()
        start = time.perf_counter()
        answer = search(photos, model, sentence, k=k, candidates=candidates)
        click.echo(json.dumps(answer.seconds | {"all": time.perf_counter() - start}))


@main.command()
@click.argument("index", type=FOLDER)
@click.argument("queries", type=FOLDER)
@click.option("--searches", default=500, show_default=True)
@click.option("--model", type=FOLDER, help="The index's model, if it was moved.")
def recall(index: Path, queries: Path, searches: int, model: Path | None) -> None:
    """What candidates keep of the exact best ten, in percent by their number."""
    sentences = np.random.default_rng(0).permutation(read_sentences(queries))[:searches].tolist()
    numbers = (20, 50, 100, 150, 200, 300, 400, 800)
    with Index.open(index) as photos:
        han = photos.load_model(model)
        scored, shares = candidate_recall(photos, han, sentences, numbers=numbers, progress=True)
        click.echo(f"{scored} sentences, {len(photos)} photos")
    for number, kept in shares.items():
        click.echo(f"{number:5} candidates {kept:7.2f} %")


def _cold(index: Path, sentence: str, candidates: int, k: int) -> dict[str, float]:
    """The seconds of one search by a process that has read nothing yet."""
    for path in _files(index):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    start = time.perf_counter()
    command = [sys.executable, __file__, "once", str(index), sentence, str(candidates), str(k)]
    result = subprocess.run(command, capture_output=True, check=True, text=True)
    return {**json.loads(result.stdout), "process": time.perf_counter() - start}


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _at(rows: Sequence[dict[str, float]], percent: float) -> dict[str, float]:
    return {name: float(np.percentile([row[name] for row in rows], percent)) for name in rows[0]}


def _resident() -> int:
    """Bytes of memory that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _machine() -> str:
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
