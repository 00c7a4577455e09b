"""The study: HAN, its peers and its parts, each trained in the same way; docs/study.md has what came of it.

    python -m research.study run DATASET --features STORE [--features STORE ...] [--out RUNS] [--only NAME ...]
    python -m research.study list --features STORE [--features STORE ...] [--out RUNS]     what is done, what is not
    python -m research.study write                       docs/study.md anew, from research/study/results.json alone

RUNS then has the runs, their results and their tables; with ``--results research/study/results.json --document
docs/study.md``, the tables of the documentation are renewed.

Settings train on DATASET's training photos but a tenth, on which their epoch is chosen; they are reported on dev, once
each. A queue that was stopped, at whatever moment, goes on with the same command, and the same command started twice
shares the queue out. Give the store that all settings are to use first; the group "features" compares it with the
others. groups.py says what is trained.
"""

from __future__ import annotations

import _thread
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import click

from han_retrieval.process import tune_process

tune_process()  # before torch is imported

from han_retrieval.cli.devices import device_option, find_device  # noqa: E402
from han_retrieval.data import read_dataset, read_entities  # noqa: E402
from han_retrieval.errors import HANError  # noqa: E402
from han_retrieval.regions import RegionStore  # noqa: E402
from research.study.queue import queue, work_off  # noqa: E402
from research.study.report import read_records, write_study  # noqa: E402
from research.study.runs import Study, find, hold_out, is_begun  # noqa: E402

HERE = Path(__file__).parent
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)

features_option = click.option("--features", type=FOLDER, multiple=True, required=True, help="Region stores.")
out_option = click.option("--out", type=click.Path(path_type=Path), default=Path("runs/study"), show_default=True)
only_option = click.option("--only", multiple=True, help="A group, or a setting by its label or name.")
seed_option = click.option("--seed", "seeds", type=int, multiple=True, help="Only runs with this seed.")


@click.group()
def main() -> None:
    """HAN, its peers and its parts, each trained in the same way."""


@main.command()
@click.argument("dataset", type=FOLDER)
@features_option
@out_option
@only_option
@seed_option
@click.option("--entities", type=FILE, help="Entities annotations; by default DATASET/entities.jsonl if it exists.")
@click.option("--budget-minutes", type=float, help="Stop after so long; what is begun goes on another time.")
@click.option("--results", type=FILE, help="Where results are kept.  [default: OUT/results.json]")
@click.option("--document", type=FILE, help="Where tables are written.  [default: OUT/study.md]")
@device_option
def run(
    dataset: Path,
    features: tuple[Path, ...],
    out: Path,
    only: tuple[str, ...],
    seeds: tuple[int, ...],
    entities: Path | None,
    budget_minutes: float | None,
    results: Path | None,
    document: Path | None,
    device: str,
) -> None:
    """Make all runs that are not done, and renew the tables after each."""
    results, document = results or out / "results.json", document or out / "study.md"
    annotations = entities or dataset / "entities.jsonl"
    stores = _open(features)
    if (known := read_records(results)[0]) and next(iter(stores)) != known[0]:
        raise HANError(
            f"--features {features[0]}: {results} is of a first store called {known[0]!r}; call yours so to go on with "
            "it, or write to other --results and another --document"
        )
    study = Study(
        dataset=hold_out(read_dataset(dataset)),
        stores=stores,
        annotations=read_entities(annotations) if entities or annotations.exists() else None,
        out=out,
        device=find_device(device),
    )
    runs = queue(list(study.stores), only=only, seeds=seeds)
    if budget_minutes is not None:
        timer = threading.Timer(60 * budget_minutes, _thread.interrupt_main)
        timer.daemon = True
        timer.start()
    begun = time.monotonic()
    try:
        failed = work_off(study, runs, results=results, document=document, progress=True)
    except KeyboardInterrupt:
        click.echo(f"\nstopped after {(time.monotonic() - begun) / 60:.0f} minutes; the same command goes on", err=True)
        sys.exit(130)
    sys.exit(1 if failed else 0)


@main.command(name="list")
@features_option
@out_option
@only_option
@seed_option
def list_(features: tuple[Path, ...], out: Path, only: tuple[str, ...], seeds: tuple[int, ...]) -> None:
    """What is done, begun and queued, and how long it took."""
    stores = _open(features)
    minutes, left = [], 0
    for group, run in queue(list(stores), only=only, seeds=seeds):
        found = find(run, out, detector=stores[run.store].fingerprint)
        if found:
            minutes.append(found["train_seconds"] / 60)
            state = f"done    {minutes[-1]:6.1f} min  rSum {found['rsum']:.1f}"
        else:
            left += 1
            state = "begun" if is_begun(run, out) else "queued"
        click.echo(f"{group:15} {run.setting.label:32} seed {run.seed}  {run.store:16} {state}")
    mean = f", {sum(minutes) / len(minutes):.1f} minutes of training each" if minutes else ""
    click.echo(f"{len(minutes)} done{mean}; {left} to do")


@main.command()
@click.option("--results", type=FILE, default=HERE / "results.json", show_default=True)
@click.option("--document", type=FILE, default=HERE.parents[1] / "docs/study.md", show_default=True)
def write(results: Path, document: Path) -> None:
    """Renew the document from the results alone."""
    stores, records = read_records(results)
    if not records:
        raise HANError(f"{results}: no results yet; `python -m research.study run` makes them")
    write_study(document, stores, records)


def _open(features: Sequence[Path]) -> dict[str, RegionStore]:
    """Stores by the names of their folders."""
    stores = {folder.resolve().name: RegionStore.open(folder) for folder in features}
    if len(stores) < len(features):
        raise HANError("--features: two stores have folders of the same name, by which results are kept; rename one")
    return stores


if __name__ == "__main__":
    try:
        main()
    except HANError as error:
        click.echo(f"study: error: {error}", err=True)
        sys.exit(2)
