"""Search among up to a million photos: what candidates keep, latency and memory, exact and by a vector index.

    python benchmarks/million.py draw REAL OUT --photos 1000000    an index of made-up photos
    python benchmarks/million.py score REAL SCORES QUERIES         exact scores of the same photos
    python benchmarks/million.py vectors OUT RESULTS               give the index a vector index, and time that
    python benchmarks/million.py time OUT QUERIES RESULTS          latency and memory
    python benchmarks/million.py recall OUT QUERIES SCORES RESULTS what candidates keep of the exact ten
    python benchmarks/million.py plot RESULTS PICTURE

REAL is an index of real photos, which come first; QUERIES is a text file with a sentence a line, or a dataset. A
made-up photo mixes two real ones: each region's token lies between those of both at the same place, and where between
is drawn once a photo. `draw` and `score` can be interrupted and given again. RESULTS is a file of JSON lines, to which
the others add.
"""

from __future__ import annotations

import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from han_retrieval.process import tune_process

tune_process()  # before torch is imported

import torch  # noqa: E402
from torch.nn import functional  # noqa: E402

from han_retrieval.data import PhotoInfo, read_sentences  # noqa: E402
from han_retrieval.scoring import Tokens  # noqa: E402
from han_retrieval.scoring.kernels import finish_loading  # noqa: E402
from han_retrieval.search import CANDIDATES, Index, MeanPooling, search  # noqa: E402
from han_retrieval.search.recall import TOP, pool_sentences  # noqa: E402
from han_retrieval.search.rows import Encoded, PhotoFile, PhotoRow  # noqa: E402
from han_retrieval.search.settings import Settings, is_index  # noqa: E402
from han_retrieval.search.table import PhotoTable  # noqa: E402
from han_retrieval.search.tables import FIRST, make_folder  # noqa: E402
from han_retrieval.search.vectors import InMemory  # noqa: E402
from han_retrieval.storage.locks import WriterLock  # noqa: E402
from han_retrieval.storage.table import ROWS_A_FILE  # noqa: E402

FOLDER = click.Path(path_type=Path)
_AT_ONCE = 512
_SIZES = (1_000, 10_000, 30_000, 100_000, 300_000)
_WARM = 10  # searches before those that are timed
_MIXED_AT_ONCE = 64  # whose numbers fit into the cache


@click.group()
def main() -> None:
    """Search among up to a million photos."""


class Draw:
    """Draws photos block by block; a block is the same whatever was drawn before it."""

    def __init__(self, real: Index) -> None:
        self._made_by = real.made_by
        self._pooling = MeanPooling()
        self._tokens, self._mask = real.tokens(range(len(real)))

    def block(self, number: int, count: int) -> tuple[Tokens, torch.Tensor, np.ndarray]:
        """The first photos of a block: tokens (count, m, d) as they are stored, mask, pooled vectors (count, e)."""
        real, first = len(self._mask), number * ROWS_A_FILE
        random = np.random.default_rng((0, number))
        pairs, share = random.integers(real, size=(2, ROWS_A_FILE)), random.uniform(0, 1, ROWS_A_FILE)
        own = np.arange(first, first + ROWS_A_FILE)  # the real photos stand for themselves
        pairs, share = np.where(own < real, own, pairs), np.where(own < real, 0, share)
        parts = [
            self._mix(*pairs[:, i : i + _MIXED_AT_ONCE], share[i : i + _MIXED_AT_ONCE])
            for i in range(0, count, _MIXED_AT_ONCE)
        ]
        values, scales, masks, vectors = zip(*parts, strict=True)
        tokens = Tokens(torch.cat(values)[:count], torch.cat(scales)[:count])
        return tokens, torch.cat(masks)[:count], np.concatenate(vectors)[:count]

    def _mix(self, one: np.ndarray, other: np.ndarray, share: np.ndarray) -> tuple[Any, ...]:
        there = self._mask[one] & self._mask[other]
        weights = torch.from_numpy(share.astype(np.float32))[:, None, None]
        mixed = functional.normalize(torch.lerp(self._tokens[one], self._tokens[other], weights), dim=2)
        stored = Tokens.store(mixed * there[:, :, None], self._made_by.storage)
        return stored.values, stored.scale, there, self._pooling.images(mixed, there).numpy().astype(np.float16)


def rows_of(first: int, tokens: Tokens, mask: torch.Tensor, vectors: np.ndarray) -> list[PhotoRow]:
    """Rows of photos without files, taken one every five minutes from 2015 on."""
    days = np.datetime64("2015-01-01T00:00:00") + 300 * np.arange(first, first + len(mask))
    values, scales, there = tokens.values.numpy(), tokens.scale.numpy(), mask.numpy()
    rows = []
    for i, (real, day) in enumerate(zip(there, days.astype(str), strict=True)):
        boxes, name = np.zeros((int(real.sum()), 4), np.float32), f"{first + i:07}"
        encoded = Encoded(224, 224, boxes, None, values[i][real], scales[i][real], vectors[i])
        file = PhotoFile("/photos", f"{name[:4]}/{name}.jpg", 0)
        rows.append(PhotoRow(f"{first + i:032x}", (file,), 0, PhotoInfo(day.replace("T", " ")), encoded))
    return rows


@main.command()
@click.argument("real", type=FOLDER)
@click.argument("out", type=FOLDER)
@click.option("--photos", default=1_000_000, show_default=True)
def draw(real: Path, out: Path, photos: int) -> None:
    """Make an index of made-up photos, block by block; without a vector index."""
    with Index.open(real) as source:
        if not (out / FIRST).exists():
            make_folder(out)
            PhotoTable.create(out / FIRST, source.made_by)
        if not is_index(out):
            Settings(table=FIRST, model=source.settings.model, exact_up_to=photos).write(out)
        with WriterLock(out):
            table, drawn = PhotoTable(out / FIRST), Draw(source)
            started, before = time.perf_counter(), len(table)
            if before < photos and before % ROWS_A_FILE:
                raise click.ClickException(f"{out}: its {before:,} photos end within a block; name another folder")
            while len(table) < photos:
                number, first = len(table) // ROWS_A_FILE, len(table)
                table.append(rows_of(first, *drawn.block(number, min(ROWS_A_FILE, photos - first))))
                click.echo(f"{len(table):,} photos, {(len(table) - before) / (time.perf_counter() - started):.0f}/s")
            table.tidy(exact_up_to=photos)


@main.command()
@click.argument("real", type=FOLDER)
@click.argument("out", type=FOLDER)
@click.argument("queries", type=FOLDER)
@click.option("--photos", default=1_000_000, show_default=True)
@click.option("--sentences", default=24, show_default=True)
def score(real: Path, out: Path, queries: Path, photos: int, sentences: int) -> None:
    """Score all photos of such an index exactly, block by block, into files (photos, sentences) float32 in OUT."""
    out.mkdir(exist_ok=True)
    with Index.open(real) as source, torch.inference_mode():
        model, drawn = source.load_model(), Draw(source)
        words, word_mask = model.words(choose(queries, sentences))
        text = model.encode_texts(words, word_mask)
        for number in range(-(-photos // ROWS_A_FILE)):
            file = out / f"{number:05}.npy"
            if file.exists():
                continue
            tokens, mask, _ = drawn.block(number, min(ROWS_A_FILE, photos - number * ROWS_A_FILE))
            parts = zip(*(each.split(_AT_ONCE) for each in (tokens.values, tokens.scale, mask)), strict=True)
            scores = [
                model.score(Tokens(values, scale).load(), there, text, word_mask).float().numpy()
                for values, scale, there in parts
            ]
            np.save(out / "part.npy", np.concatenate(scores))
            (out / "part.npy").replace(file)


@main.command()
@click.argument("out", type=FOLDER)
@click.argument("results", type=FOLDER)
def vectors(out: Path, results: Path) -> None:
    """Give an index a vector index, and add what that took to RESULTS."""
    with WriterLock(out):
        table = PhotoTable(out / FIRST)
        wall, processor = time.perf_counter(), time.process_time()
        table.tidy(exact_up_to=0)
        took = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - processor}
    size = sum(file.stat().st_size for file in (out / FIRST / "_indices").glob("*/*"))
    note(results, {"what": "build", "photos": len(table), **took, "vector_index_bytes": size, "peak_mib": _peak()})


@main.command(name="time")
@click.argument("out", type=FOLDER)
@click.argument("queries", type=FOLDER)
@click.argument("results", type=FOLDER)
@click.option("--candidates", default=CANDIDATES, show_default=True)
@click.option("--searches", default=100, show_default=True)
@click.option("--exact", is_flag=True, help="Choose candidates exactly, in memory.")
def time_(out: Path, queries: Path, results: Path, candidates: int, searches: int, exact: bool) -> None:
    """Seconds and memory of warm searches, added to RESULTS, with the rate of a matrix product before and after."""
    sentences, rate = choose(queries, searches + _WARM), product_rate()
    started = time.perf_counter()
    with Index.open(out) as photos:
        model = photos.load_model()
        if exact:
            photos.vectors = InMemory(photos.pooled)
        opened = time.perf_counter() - started
        warm, stages, processor = [], [], []
        search(photos, model, sentences[0], candidates=candidates)
        finish_loading(seconds=600, compiling=True)  # until then, plain torch scores
        for place, sentence in enumerate(sentences):
            start, began = time.perf_counter(), time.process_time()
            answer = search(photos, model, sentence, candidates=candidates)
            if place >= _WARM:
                warm.append(time.perf_counter() - start)
                processor.append(time.process_time() - began)
                stages.append(answer.seconds)
        summary = photos.describe()
    p50, p95 = np.percentile(warm, [50, 95])
    note(
        results,
        {
            "what": "time",
            "photos": summary.photos,
            "way": "exact" if exact or not summary.vector_index else "vector index",
            "candidates": candidates,
            "p50_ms": 1000 * p50,
            "p95_ms": 1000 * p95,
            "cpu_p50_ms": 1000 * np.median(processor),
            "stages_p50_ms": {name: 1000 * np.median([each[name] for each in stages]) for name in stages[0]},
            "opened_s": opened,
            "bytes_a_photo": summary.bytes_a_photo,
            **_memory(),
            "gflops": [rate, product_rate()],
            "load": os.getloadavg()[0],
        },
    )


@main.command()
@click.argument("out", type=FOLDER)
@click.argument("queries", type=FOLDER)
@click.argument("scores", type=FOLDER)
@click.argument("results", type=FOLDER)
@click.option("--sentences", default=24, show_default=True, help="As `score` was given.")
@click.option("--numbers", default="100,200,400,800,1600,3200", show_default=True)
def recall(out: Path, queries: Path, scores: Path, results: Path, sentences: int, numbers: str) -> None:
    """What candidates keep of the exact ten, added to RESULTS: exact ones among the first photos, up to those scored.

    Where all photos are scored, also those of the vector index.
    """
    with Index.open(out) as photos:
        parts = [np.load(file) for file in sorted(scores.glob("[0-9]*.npy"))]
        exact = np.concatenate(parts)[: len(photos)].T  # (T, N)
        model, count = photos.load_model(), exact.shape[1]
        sentences_ = pool_sentences(model, choose(queries, sentences), photos.pooling)
        pooled, has_vectors = photos.vectors.take(np.arange(count)), photos.describe().vector_index
        ways = [("exact", size, InMemory(pooled[:size])) for size in sorted({*_SIZES, count}) if size <= count]
        if count == len(photos) and has_vectors:
            ways.append(("vector index", count, photos.vectors))
        for way, size, found in ways:
            best = np.argpartition(-exact[:, :size], TOP - 1, axis=1)[:, :TOP]
            for number in (int(each) for each in numbers.split(",") if int(each) < size):
                near = [found.nearest(query[None], number, rows=None, where=None)[0] for query in sentences_]
                kept = 100 * float(np.mean([np.isin(*each) for each in zip(best, near, strict=True)]))
                fact = {"what": "recall", "photos": size, "way": way, "candidates": number, "sentences": sentences}
                note(results, {**fact, "kept_percent": kept})


@main.command()
@click.argument("results", type=FOLDER)
@click.argument("picture", type=FOLDER)
@click.option("--recall-of", default=CANDIDATES, show_default=True, help="The number of candidates in the middle.")
def plot(results: Path, picture: Path, recall_of: int) -> None:
    """Latency, recall and memory by the number of photos."""
    import matplotlib.pyplot as plt

    facts = [json.loads(line) for line in results.read_text().splitlines()]
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), layout="constrained")
    panels = {
        "p50_ms": "search, p50, ms",
        "kept_percent": f"kept by {recall_of} candidates, %",
        "private_mib": "memory of its own, MiB",
    }
    for axis, (name, title) in zip(axes, panels.items(), strict=True):
        for way, style in (("exact", "o-"), ("vector index", "s--")):
            rows = [each for each in facts if each.get("way") == way and name in each]
            rows = [each for each in rows if each["candidates"] == recall_of]
            points = sorted({each["photos"]: each[name] for each in rows}.items())
            if points:  # two points are no curve
                axis.plot(*zip(*points, strict=True), style if len(points) > 2 else style[0], label=way, markersize=4)
        axis.set(xscale="log", title=title, xlabel="photos")
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(picture, dpi=110)


def note(results: Path, fact: dict[str, Any]) -> None:
    """Add a fact to a file of JSON lines, and print it."""
    line = json.dumps({key: round(value, 3) if isinstance(value, float) else value for key, value in fact.items()})
    with results.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    click.echo(line)


def product_rate() -> float:
    """GFLOP/s of a product of two matrices of 2048 x 2048 numbers, the best of five."""
    one, other = torch.randn(2, 2048, 2048)
    best = np.inf
    for _ in range(5):
        start = time.perf_counter()
        one @ other
        best = min(best, time.perf_counter() - start)
    return 2 * 2048**3 / best / 1e9


def _memory() -> dict[str, int]:
    """MiB that this process has now: all, and those that no other process or file shares."""
    lines = (line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    kib = {words[0].rstrip(":"): int(words[1]) for words in lines}
    private = kib["Private_Clean"] + kib["Private_Dirty"]
    return {"resident_mib": kib["Rss"] // 1024, "private_mib": private // 1024}


def _peak() -> int:
    """MiB that this process had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def choose(queries: Path, count: int) -> list[str]:
    """So many sentences, always the same."""
    return np.random.default_rng(0).permutation(read_sentences(queries))[:count].tolist()


if __name__ == "__main__":
    main()
