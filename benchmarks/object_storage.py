"""What reading an index or a region store costs in object storage, beside the same in a folder.

    python benchmarks/object_storage.py search INDEX URL QUERIES    opening, searching and looking for changes
    python benchmarks/object_storage.py features FEATURES URL       random batches, and batches in order

URL is a copy, which is made first where nothing is there; `aws s3 sync` does the same. Medians after a warm-up.
"""

from __future__ import annotations

import itertools
import os
import platform
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import click

from han_retrieval.process import tune_process

tune_process()  # before torch is imported

from han_retrieval.data import read_sentences  # noqa: E402
from han_retrieval.objects import to_path  # noqa: E402
from han_retrieval.regions import RegionStore  # noqa: E402
from han_retrieval.search import Index  # noqa: E402

_SKIPPED = {"writer.lock", "readers", "_hashes"}


@click.group()
def main() -> None:
    """What reading from object storage costs."""


@main.command(name="search")
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.argument("url")
@click.argument("queries", type=click.Path(exists=True, path_type=Path))
@click.option("--model", help="The index's model, if it was moved.")
def time_search(folder: Path, url: str, queries: Path, model: str | None) -> None:
    """Seconds of opening an index, of a search and of looking for changes."""
    _begin(folder, url)
    sentences = read_sentences(queries)[:60]
    for place in (str(folder), url):
        opened = _seconds(lambda place=place: Index.open(place).close(), 5)
        with Index.open(place, model=model) as index:
            for sentence in sentences[:10]:
                index.search(sentence)
            found = [index.search(sentence).seconds for sentence in sentences[10:]]
            searches = sorted(sum(each.values()) for each in found)
            refreshed = _seconds(index.refresh, 20)
            fetched = statistics.median(each["fetch"] for each in found)
            slow = searches[int(0.95 * len(searches))]
            click.echo(
                f"{place}: {len(index):,} photos; opened in {opened:.2f} s, search p50 "
                f"{1000 * statistics.median(searches):.0f} ms, p95 {1000 * slow:.0f} ms, "
                f"of which tokens are fetched in {1000 * fetched:.0f} ms, "
                f"a look for changes {1000 * refreshed:.1f} ms"
            )


@main.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.argument("url")
@click.option("--batch", default=128, show_default=True)
def features(folder: Path, url: str, batch: int) -> None:
    """Photos a second that a training can read at random, and an evaluation in order."""
    _begin(folder, url)
    for place in (str(folder), url):
        store = RegionStore.open(place)
        ids = store.ids
        draw = random.Random(0)
        shuffled = _seconds(lambda store=store, ids=ids, draw=draw: store.batch(draw.sample(ids, batch)), 20)
        starts = itertools.cycle(range(0, len(ids) - batch, batch))
        ordered = _seconds(lambda store=store, ids=ids, starts=starts: store.batch(_from(ids, next(starts), batch)), 20)
        click.echo(
            f"{place}: {len(store):,} photos; {batch / shuffled:,.0f} photos/s at random, "
            f"{batch / ordered:,.0f} in order"
        )


def _from(ids: list[str], start: int, count: int) -> list[str]:
    return ids[start : start + count]


def _begin(folder: Path, url: str) -> None:
    click.echo(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    if not to_path(url).exists():
        began, size = time.perf_counter(), 0
        for file in sorted(folder.rglob("*")):
            if file.is_file() and not _SKIPPED & set(file.relative_to(folder).parts):
                content = file.read_bytes()
                (to_path(url) / file.relative_to(folder).as_posix()).write_bytes(content)
                size += len(content)
        click.echo(f"copied {size / 1e6:,.0f} MB in {time.perf_counter() - began:.1f} s")


def _once(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _seconds(call: Callable[[], object], times: int) -> float:
    call()
    return statistics.median(_once(call) for _ in range(times))


if __name__ == "__main__":
    main()
