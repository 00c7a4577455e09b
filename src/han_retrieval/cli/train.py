"""``han train``: captioned photos and their regions to a model."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from han_retrieval.cli.devices import device_option
from han_retrieval.cli.json_output import print_json
from han_retrieval.cli.names import printable
from han_retrieval.cli.options import FOLDER, features_option, format_option, splits_option
from han_retrieval.cli.run_options import require_files, run_options, training
from han_retrieval.cli.splits import with_splits
from han_retrieval.config import load_config
from han_retrieval.data import read_dataset, read_entities
from han_retrieval.errors import ConfigError
from han_retrieval.regions.store import RegionStore


@click.command()
@click.argument("dataset", type=FOLDER)
@features_option
@click.option("--matcher", help="The matcher to train: han, unless CONFIG names another; see `han plugins`.")
@run_options(example="model.blocks=2")
@click.option(
    "--augmented",
    type=FOLDER,
    multiple=True,
    metavar="STORE",
    help="A further region store of the training photos, such as from `han extract --horizontal-flip`. Each time a "
    "photo is used, one of its stores is drawn at random.",
)
@click.option(
    "--entities",
    type=click.Path(path_type=Path),
    help="Entities annotations of the training photos: words learn to attend to the boxes of their phrase. Needs "
    "alignment_weight.",
)
@click.option(
    "--train-backbone",
    is_flag=True,
    help="Train the image backbone along: features come from the photos at each step, at the boxes in "
    "FEATURES. Same as --set backbone.trained=true.",
)
@format_option
@splits_option
@device_option
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard events as well.")
def train(
    dataset: Path,
    features: Path,
    matcher: str | None,
    out: Path,
    config: Path | None,
    overrides: tuple[str, ...],
    resume: bool,
    show_config: bool,
    augmented: tuple[Path, ...],
    entities: Path | None,
    train_backbone: bool,
    format_name: str | None,
    splits: Path | None,
    device: str,
    tensorboard: bool,
) -> None:
    """Train a matcher on the captioned photos of DATASET, with their regions from FEATURES.

    OUT is a usable model after the first epoch. A training that was stopped goes on exactly with --resume. On several
    GPUs or machines: torchrun --nproc-per-node N -m han_retrieval train ...
    """
    require_files(config)
    if not show_config:
        require_files(dataset, splits, entities, stores=(features, *augmented))
    from han_retrieval.training import TrainingConfig
    from han_retrieval.training import train as train_model

    named = (f"model.matcher={matcher}",) if matcher else ()
    along = ("backbone.trained=true",) if train_backbone else ()
    settings = load_config(TrainingConfig, config, overrides=(*named, *along, *overrides))
    if train_backbone and not settings.backbone.trained:
        raise ConfigError("--train-backbone and --set backbone.trained=false contradict each other; give one of them")
    if matcher and settings.model.matcher != matcher:
        raise ConfigError(f"--matcher {matcher} and --set model.matcher contradict each other; give one of them")
    if show_config:
        click.echo(settings.model_dump_json(indent=2))
        return
    with training(out, device) as (ranks, found_device):
        photos = with_splits(read_dataset(dataset, format=format_name), splits, note=ranks.first)
        store = RegionStore.open(features, copy=True)
        if ranks.first:
            click.echo(f"{len(photos)} photos, {photos.caption_count} captions ({photos.format}); {store!r}", err=True)
            for reason, count in photos.skipped.items():
                click.echo(f"left out: {count} x {printable(reason)}", err=True)
        result = train_model(
            settings,
            photos,
            store,
            out,
            augmentations=[RegionStore.open(path, copy=True) for path in augmented],
            annotations=None if entities is None else read_entities(entities),
            resume=resume,
            command=shlex.join(["han", *sys.argv[1:]]),
            device=found_device,
            tensorboard=tensorboard,
            ranks=ranks,
        )
    if not ranks.first:
        return
    found = {
        "model": str(result.folder),
        "steps": result.steps,
        "kept_epoch": result.best_epoch,
        "watched_rsum": result.rsum,
        "seconds": round(result.seconds, 1),
    }
    print_json(found)
