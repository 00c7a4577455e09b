"""Photos a second of ``han index``, with this source tree and an older one in turns, and the processor time by stage.

    python benchmarks/intake.py PHOTOS [--against GIT-REV] [--count 100] [--large 12] [--rounds 2] [--json FILE]

PHOTOS is a folder of small photos, such as flickr8k/images. They are taken as they are, and enlarged to 12
and to 48 megapixels with a camera's noise, saved at quality 92 with half the colours' resolution: some 4 and 13 MB, as
cameras make them. Each run is a process of its own on the same files; the time is that of an update of an index with
all of them, as a collection of any size sees it: four photos are indexed before, so that everything is loaded and warm.
Processor time is that of the process meanwhile.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import click

SIZES = {"small": 0, "12 MP": 12_000_000, "48 MP": 48_000_000}


def enlarge(source: Path, target: Path, pixels: int, seed: int) -> None:
    """A photo of about so many pixels, 4:3 or 3:4, with noise of a few values in patches of a few pixels."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(seed)
    with Image.open(source) as opened:
        photo = opened.convert("RGB")
    long, short = round((pixels * 4 / 3) ** 0.5), round((pixels * 3 / 4) ** 0.5)
    size = (long, short) if photo.width >= photo.height else (short, long)
    values = np.asarray(photo.resize(size, Image.Resampling.BICUBIC), np.int16)
    noise = random.normal(0, 6, (size[1] // 2 + 1, size[0] // 2 + 1, 3)).astype(np.int16)
    fine = random.integers(-5, 6, (size[1], size[0], 1), dtype=np.int16)
    grain = noise.repeat(2, 0).repeat(2, 1)[: size[1], : size[0]] + fine
    Image.fromarray(np.clip(values + grain, 0, 255).astype(np.uint8)).save(target, quality=92, subsampling="4:2:0")


def run_index(first: Path, photos: Path) -> None:
    """Index one folder and then, warm, another; print the seconds of the second and what it took."""
    from han_retrieval.process import tune_process

    tune_process()
    from han_retrieval.matchers import DEFAULT_MODEL, load_aligning_matcher, model_folder
    from han_retrieval.regions import detector_for
    from han_retrieval.search import index_photos

    folder = model_folder(DEFAULT_MODEL)
    model = load_aligning_matcher(folder)
    detector = detector_for(str(model.config.detector_fingerprint), model=folder)
    with tempfile.TemporaryDirectory() as out:
        options: dict[str, Any] = {"loaded": model, "detector": detector}
        index_photos([first], Path(out) / "index", **options)
        before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        report = index_photos([photos], Path(out) / "index", **options)
        seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    stages = {name: 1000 * each / report.added for name, each in getattr(report, "processor_seconds", {}).items()}
    print(
        json.dumps(
            {
                "photos_a_second": report.added / seconds,
                "processor_ms": 1000 * processor / report.added,
                "stages_ms": stages,
                "peak_gb": after.ru_maxrss / 2**20,
            }
        )
    )


@click.command()
@click.argument("photos", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--against", help="A revision of this repository to compare with.")
@click.option("--count", default=100, show_default=True, help="Small photos of a run.")
@click.option("--large", default=12, show_default=True, help="Large photos of a run.")
@click.option("--only", multiple=True, type=click.Choice(list(SIZES)), help="Only these sizes.")
@click.option("--rounds", default=2, show_default=True, help="Runs of each.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write all figures to this file.")
def main(
    photos: Path, against: str | None, count: int, large: int, only: tuple[str, ...], rounds: int, output: Path | None
) -> None:
    """Print the rates, and their ratio to those of the older source tree."""
    repository = Path(__file__).parents[1]
    figures: dict[str, dict[str, Any]] = {}
    sources = sorted(photos.glob("*.jpg"))
    with tempfile.TemporaryDirectory() as made:
        trees = {"now": repository / "src"}
        if against:
            trees[against] = Path(made) / "older" / "src"
            trees[against].parent.mkdir()
            archive = subprocess.run(
                ["git", "-C", str(repository), "archive", against, "src"], check=True, capture_output=True
            ).stdout
            subprocess.run(["tar", "-x", "-C", str(trees[against].parent)], input=archive, check=True)
        for name, pixels in SIZES.items():
            if only and name not in only:
                continue
            folders = [Path(made) / f"{name}-{part}" for part in ("first", "rest")]
            for place, folder in enumerate(folders):
                folder.mkdir()
                wanted = (4, large if pixels else count)[place]
                for number, source in enumerate(sources[place * 4 : place * 4 + wanted]):
                    if pixels:
                        enlarge(source, folder / source.name, pixels, number)
                    else:
                        (folder / source.name).write_bytes(source.read_bytes())
            runs: dict[str, list[dict[str, Any]]] = {tree: [] for tree in trees}
            for _ in range(rounds):
                for tree, path in trees.items():
                    done = subprocess.run(
                        [sys.executable, __file__, "--run", *map(str, folders)],
                        env={**os.environ, "PYTHONPATH": str(path)}, check=True, capture_output=True, text=True,
                    ).stdout  # fmt: skip
                    runs[tree].append(json.loads(done.splitlines()[-1]))
            size = median(file.stat().st_size for file in folders[1].iterdir())
            figures[name] = {"bytes": size, **{tree: _medians(each) for tree, each in runs.items()}}
            for tree in trees:
                each = figures[name][tree]
                print(
                    f"{name:<6} {size / 1e6:5.2f} MB  {tree:<10} {each['photos_a_second']:6.2f} photos/s  "
                    f"{each['processor_ms']:6.1f} ms of processor time  {each['peak_gb']:.2f} GB at most",
                    flush=True,
                )
            if against:
                rates = [figures[name][tree]["photos_a_second"] for tree in trees]
                print(f"{name:<6} ratio {rates[0] / rates[1]:.2f}", flush=True)
            stages = ", ".join(f"{stage} {ms:.1f}" for stage, ms in figures[name]["now"]["stages_ms"].items())
            print(f"{name:<6} {stages}", flush=True)
    if output:
        output.write_text(json.dumps(figures, indent=2) + "\n")


def _medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in runs[0]:
        if name == "stages_ms":
            found[name] = {stage: median(run[name].get(stage, 0.0) for run in runs) for stage in runs[0][name]}
        else:
            found[name] = median(run[name] for run in runs)
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        run_index(*map(Path, sys.argv[2:4]))
    else:
        main()
