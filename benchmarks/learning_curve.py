"""How many captioned photos are enough: one recipe on growing parts of a dataset's training photos.

    python benchmarks/learning_curve.py DATASET --features STORE [--config TOML] [--photos 500 ...] [--seeds 1]

Each part is the first so many photos of one random order, so that smaller parts lie within larger ones. A tenth of the
training photos is held out; the epoch is chosen on it. Small parts train for more epochs: as many as the recipe has
times the square root of what all photos are to the part, four times as many at most. Every model is evaluated on the
whole dev split, once.

OUT/curve.md has the table, renewed after each run: rSum and mean recall (mR) as published protocols count, mR with ties
at random, and mR where captions that photos share count for each of them. The same command goes on after an interrupt;
with another recipe, dataset or features, it asks for another OUT. A backbone that is trained along describes the dev
photos itself.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np

from han_retrieval.process import tune_process

tune_process()  # before torch is imported
sys.path.insert(0, str(Path(__file__).parents[1]))

from han_retrieval.cli.splits import with_splits  # noqa: E402
from han_retrieval.config import load_config  # noqa: E402
from han_retrieval.data import CaptionedPhotos, read_dataset  # noqa: E402
from han_retrieval.errors import ConfigError, HANError  # noqa: E402
from han_retrieval.evaluation import evaluate  # noqa: E402
from han_retrieval.evaluation.metrics import expected_recalls, recall_sum  # noqa: E402
from han_retrieval.files import write_whole  # noqa: E402
from han_retrieval.matchers import load_matcher  # noqa: E402
from han_retrieval.regions import RegionStore  # noqa: E402
from han_retrieval.training import TrainingConfig, train  # noqa: E402
from han_retrieval.training.run_folder import content_hash  # noqa: E402
from research.study.runs import features_for, hold_out  # noqa: E402
from research.study.settings import HELD_OUT  # noqa: E402

_ORDER = 0  # seeds the order of the photos
_MOST_TIMES = 4  # as many epochs as the recipe has, for the smallest parts


def part_of(photos: CaptionedPhotos, count: int) -> CaptionedPhotos:
    """The first training photos of a random order, and all of the other splits."""
    ids = [photo.id for photo in photos.photos if photo.split == "train"]
    chosen = {ids[place] for place in np.random.default_rng(_ORDER).permutation(len(ids))[:count]}
    return photos.only(photo.id for photo in photos.photos if photo.split != "train" or photo.id in chosen)


def figures(folder: Path, photos: CaptionedPhotos, store: RegionStore) -> dict[str, Any]:
    """What a model reaches on the dev split."""
    model, dev = load_matcher(folder), photos.split("dev")
    store = features_for(model, folder, dev, store)
    found = evaluate(model, dev, store, progress=False)
    equal = evaluate(model, dev, store, equal_captions="relevant", progress=False)
    by_chance = recall_sum(expected_recalls(found.scores, found.relevance))
    return {"rsum": found.rsum, "ties_at_random": by_chance / 6, "equal_relevant": equal.rsum / 6}


def made_by(config: TrainingConfig, photos: CaptionedPhotos, store: RegionStore) -> dict[str, Any]:
    """What decides the figures of a model, as JSON."""
    return {
        "recipe": json.loads(config.model_dump_json()),
        "dataset": content_hash([photo.id, photo.split, photo.captions] for photo in photos.photos),
        "features": store.fingerprint,
    }


def figures_of(done: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """The figures of a model that is done, else None.

    Raises:
        ConfigError: What lies there is of another recipe, dataset or features.
    """
    if not done.exists():
        return None
    try:
        found = json.loads(done.read_text(encoding="utf-8"))
        made: dict[str, Any] = found["made_by"]
        others = [name for name, value in wanted.items() if made[name] != value]
        figures_found: dict[str, Any] = found["figures"]
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{done}: does not say what it was made of; choose another --out") from None
    if others:
        raise ConfigError(f"{done}: was made with another {', '.join(others)}; choose another --out")
    return figures_found


@click.command()
@click.argument("dataset", type=click.Path(exists=True, path_type=Path))
@click.option("--features", required=True, type=click.Path(exists=True, path_type=Path), help="A region store.")
@click.option("--config", type=click.Path(exists=True, path_type=Path), default=Path("examples/minilm.toml"))
@click.option("--photos", "counts", type=click.IntRange(min=2), multiple=True, default=(500, 1000, 2000, 4000, 10**9))
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/curve"), show_default=True)
def main(dataset: Path, features: Path, config: Path, counts: tuple[int, ...], seeds: int, out: Path) -> None:
    """Train on parts of DATASET, and write the table."""
    photos, store = hold_out(with_splits(read_dataset(dataset))), RegionStore.open(features)
    photos.split("dev")  # refused before the trainings, not after them
    available = sum(photo.split == "train" for photo in photos.photos)
    recipe, rows = load_config(TrainingConfig, config), []
    for count in sorted({min(count, available) for count in counts}):
        epochs = round(recipe.epochs * min(_MOST_TIMES, math.sqrt(available / count)))
        runs = []
        for seed in range(seeds):
            folder, done = out / f"{count}-{seed}", out / f"{count}-{seed}.json"
            changes = (f"seed={seed}", f"epochs={epochs}", f"dev_split={HELD_OUT}", "dev_photos=0")
            settings = load_config(TrainingConfig, config, overrides=changes)
            made = made_by(settings, photos, store)
            found = figures_of(done, made)
            if found is None:
                train(settings, part_of(photos, count), store, folder, resume=(folder / "training").exists())
                found = figures(folder, photos, store)
                write_whole(done, json.dumps({"made_by": made, "figures": found}))
            runs.append(found)
        mean = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
        rows.append(
            f"| {count:,} | {epochs} | {mean['rsum']:.1f} | {mean['rsum'] / 6:.1f} | {mean['ties_at_random']:.1f} "
            f"| {mean['equal_relevant']:.1f} |"
        )
        head = "| photos | epochs | rSum | mR | mR, ties at random | mR, equal captions relevant |\n" + "|---" * 6 + "|"
        write_whole(out / "curve.md", "\n".join([head, *rows, "", f"{seeds} seed(s), {config.name}."]) + "\n")
        click.echo(rows[-1], err=True)


if __name__ == "__main__":
    try:
        main()
    except HANError as error:
        sys.exit(f"learning_curve: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on")
