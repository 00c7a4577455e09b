"""What each kind of work keeps of its speed beside another busy process with as many threads.

    python benchmarks/neighbour.py [--only NAME ...] [--seconds 4] [--rounds 3] [--json FILE]

Each work runs in a process of its own, set as the command line sets it (``han_retrieval.process``). It is timed alone
and beside a neighbour in turns, a few times, and the medians are printed with their ratio. The neighbour's threads
multiply matrices in numpy without end and wait for nothing. Where both get a fair share of the cores, a work keeps
half of its speed; less than 0.4 is marked. Photos are drawn at random, models have random weights unless they ship.

Settings of the environment win: OMP_WAIT_POLICY=active GOMP_SPINCOUNT=200000 shows what spinning threads cost.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import click

from han_retrieval.process import tune_process

LEAST = 0.4
Step = Callable[[], float]  # does some work and tells how much


def draw_photos(folder: Path, count: int) -> None:
    """Photos of 500 x 375 pixels with shapes and noise."""
    import numpy as np
    from PIL import Image, ImageDraw

    random = np.random.default_rng(0)
    for number in range(count):
        photo = Image.fromarray(random.integers(90, 160, (375, 500, 3), dtype=np.uint8))
        draw = ImageDraw.Draw(photo)
        for _ in range(12):
            x, y, size = random.integers(0, 400), random.integers(0, 300), random.integers(20, 120)
            draw.ellipse((x, y, x + size, y + size), fill=tuple(random.integers(0, 255, 3).tolist()))
        photo.save(folder / f"{number:03}.jpg", quality=90)


def extract(detector: str, photos: int) -> Step:
    """Photos through ``han extract``: decoded, their regions found and stored."""
    from han_retrieval.cli.main import main as han

    folder = Path(tempfile.mkdtemp())
    (folder / "photos").mkdir()
    draw_photos(folder / "photos", photos)
    runs: Iterator[int] = iter(range(1 << 30))

    def step() -> float:  # of a whole command, which loads its detector
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            options = ["--out", str(folder / f"features-{next(runs)}"), "--detector", detector, "--json"]
            han(["extract", str(folder / "photos"), *options])
        return photos

    return step


def random_setting(images: int, texts: int, *, d: int) -> tuple[Any, ...]:
    """A HAN, and random regions and words for it with their masks."""
    import torch

    from han_retrieval.matchers import HAN, HANConfig

    torch.manual_seed(0)
    model = HAN(HANConfig(region_size=1024, vocabulary_size=5000, joint_size=d))
    words = torch.randint(1, 5000, (texts, 20))
    word_mask = torch.arange(20) < torch.randint(5, 20, (texts,)).unsqueeze(1)
    return model, torch.randn(images, 36, 1024), torch.ones(images, 36, dtype=torch.bool), words, word_mask


def train() -> Step:
    """Steps of training a HAN, d = 256, on 128 images of 36 regions with a caption each."""
    import torch

    from han_retrieval.losses import soft_max_triplet_loss

    model, *items = random_setting(128, 128, d=256)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step() -> float:
        optimizer.zero_grad()
        soft_max_triplet_loss(model.similarity(*items), margin=0.2, power=4).backward()
        optimizer.step()
        return 1

    return step


def score() -> Step:
    """All pairs of 256 images of 36 regions and 512 sentences, d = 256."""
    import torch

    model, regions, region_mask, words, word_mask = random_setting(256, 512, d=256)
    with torch.no_grad():
        images, texts = model.encode_images(regions, region_mask), model.encode_texts(words, word_mask)

    @torch.no_grad()
    def step() -> float:
        model.score(images, region_mask, texts, word_mask)
        return len(images) * len(texts)

    return step


def search() -> Step:
    """A sentence encoded and scored with 1,000 stored photos, d = 1024."""
    import torch

    model, regions, region_mask, words, word_mask = random_setting(1000, 50, d=1024)
    queries = iter(range(1 << 30))
    with torch.no_grad():
        photos = model.store_images(model.encode_images(regions, region_mask), region_mask)

    @torch.no_grad()
    def step() -> float:
        t = next(queries) % len(words)
        some = words[t : t + 1, : int(word_mask[t].sum())]
        photos.scores(model.encode_texts(some, torch.ones_like(some, dtype=torch.bool))[0]).topk(10)
        return 1

    return step


WORKS: dict[str, tuple[str, Callable[[], Step]]] = {
    "extract-grid": ("photos/s", lambda: extract("grid", 24)),
    "extract-bottom-up": ("photos/s", lambda: extract("bottom-up", 2)),
    "train": ("steps/s", train),
    "score": ("pairs/s", score),
    "search": ("queries/s", search),
}


def serve_work(name: str) -> None:
    """In a process of its own: for each number of seconds on stdin, work so long and print the rate."""
    answers = sys.stdout
    step = WORKS[name][1]()
    step()
    step()
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        done, start = 0.0, time.perf_counter()
        while (spent := time.perf_counter() - start) < float(line):
            done += step()
        print(done / spent, file=answers, flush=True)


def keep_busy() -> None:
    """In a process of its own: as many threads as there are cores, all at work without end."""
    import threading

    import numpy as np

    def multiply() -> None:
        left = np.random.default_rng(0).standard_normal((256, 256), dtype=np.float32)
        right, out = left.T.copy(), np.empty_like(left)
        while True:
            np.matmul(left, right, out=out)

    threads = [threading.Thread(target=multiply, daemon=True) for _ in range(cores())]
    for thread in threads:
        thread.start()
    print("busy", flush=True)
    threads[0].join()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def neighbour() -> Iterator[None]:
    """A busy process beside this one."""
    one = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    busy = subprocess.Popen([sys.executable, __file__, "--busy"], env={**os.environ, **one}, stdout=subprocess.PIPE)
    try:
        assert busy.stdout is not None
        busy.stdout.readline()
        yield
    finally:
        busy.kill()
        busy.wait()


def measure(name: str, *, length: float, rounds: int) -> tuple[list[float], list[float]]:
    """Rates of a work alone and beside a neighbour, in turns."""
    work = subprocess.Popen(
        [sys.executable, __file__, "--work", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert work.stdin is not None
    assert work.stdout is not None
    tell, hear = work.stdin, work.stdout

    def rate() -> float:
        print(length, file=tell, flush=True)
        return float(hear.readline())

    alone, beside = [], []
    try:
        if hear.readline().strip() != "ready":
            raise click.ClickException(f"{name}: the work did not start")
        for _ in range(rounds):
            alone.append(rate())
            with neighbour():
                beside.append(rate())
    finally:
        work.kill()
        work.wait()
    return alone, beside


@click.command()
@click.option("--only", type=click.Choice(list(WORKS)), multiple=True, help="Measure these alone.")
@click.option("--seconds", "length", default=4.0, show_default=True, help="Of each measurement.")
@click.option("--rounds", default=3, show_default=True, help="Measurements alone and beside the neighbour.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write all numbers there.")
@click.option("--work", type=click.Choice(list(WORKS)), hidden=True)
@click.option("--busy", is_flag=True, hidden=True)
def main(
    only: tuple[str, ...], length: float, rounds: int, json_file: Path | None, work: str | None, busy: bool
) -> None:
    """Print the speed of each work alone and beside a busy process, and the ratio of both."""
    if busy:
        keep_busy()
        return
    tune_process()
    if work:
        serve_work(work)
        return
    settings = {name: value for name, value in os.environ.items() if name.startswith(("OMP_", "GOMP_", "KMP_"))}
    versions = {"python": platform.python_version()}
    import numpy
    import torch

    versions |= {"torch": torch.__version__, "numpy": numpy.__version__}
    print(f"{platform.machine()}, {cores()} cores, {versions}, {settings}")
    print(f"{'work':18} {'unit':>10} {'alone':>10} {'beside':>10} {'ratio':>6}")
    report: dict[str, Any] = {"cores": cores(), "versions": versions, "settings": settings, "works": {}}
    for name in only or WORKS:
        unit, _ = WORKS[name]
        alone, beside = measure(name, length=length, rounds=rounds)
        ratio = median(beside) / median(alone)
        report["works"][name] = {"unit": unit, "alone": alone, "beside": beside, "ratio": ratio}
        mark = "" if ratio >= LEAST else f"  below {LEAST}"
        print(f"{name:18} {unit:>10} {median(alone):10.4g} {median(beside):10.4g} {ratio:6.2f}{mark}", flush=True)
    if json_file:
        json_file.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
