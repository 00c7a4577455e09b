"""``han train``: captioned photos and their regions to a model."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import click

from han_retrieval.cli.devices import device_option, find_device
from han_retrieval.cli.splits import with_splits
from han_retrieval.config import load_config
from han_retrieval.data import read_dataset, read_entities
from han_retrieval.regions import RegionStore
from han_retrieval.training import TrainingConfig
from han_retrieval.training import train as train_model


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--features", type=click.Path(path_type=Path), required=True, help="The region store of the photos.")
@click.option(
    "--view",
    "views",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A further region store of the training photos, of `han extract --mirror`: each time one is taken at random.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The model's folder.")
@click.option("--matcher", help="The matcher to train, by name (see han plugins); han, unless CONFIG says otherwise.")
@click.option("--config", type=click.Path(path_type=Path), help="A TOML file with the fields to change.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one field, such as model.blocks=2."
)
@click.option(
    "--entities",
    type=click.Path(path_type=Path),
    help="Entities annotations of the training photos: learn where phrases look (alignment_weight).",
)
@click.option("--resume", is_flag=True, help="Go on where an interrupted run in OUT stopped.")
@click.option("--format", "format_name", help="The dataset's format, where it is not recognised.")
@device_option
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard events as well.")
@click.option("--show-config", is_flag=True, help="Print the configuration as JSON and stop.")
def train(
    dataset: Path,
    features: Path,
    views: tuple[Path, ...],
    out: Path,
    matcher: str | None,
    config: Path | None,
    overrides: tuple[str, ...],
    entities: Path | None,
    resume: bool,
    format_name: str | None,
    device: str,
    tensorboard: bool,
    show_config: bool,
) -> None:
    """Train a matcher, a HAN or a peer, on the captioned photos of DATASET with their regions from FEATURES.

    OUT is a usable model after the first epoch. A run that was stopped goes on exactly with --resume.
    """
    named = (f"model.matcher={matcher}",) if matcher else ()
    settings = load_config(TrainingConfig, config, overrides=(*named, *overrides))
    if show_config:
        click.echo(settings.model_dump_json(indent=2))
        return
    photos = with_splits(read_dataset(dataset, format=format_name))
    store = RegionStore.open(features)
    click.echo(f"{len(photos)} photos, {photos.caption_count} captions ({photos.format}); {store!r}", err=True)
    for reason, count in photos.skipped.items():
        click.echo(f"left out: {count} x {reason}", err=True)
    try:
        result = train_model(
            settings,
            photos,
            store,
            out,
            views=[RegionStore.open(view) for view in views],
            truth=None if entities is None else read_entities(entities),
            resume=resume,
            command=shlex.join(["han", *sys.argv[1:]]),
            device=find_device(device),
            tensorboard=tensorboard,
        )
    except KeyboardInterrupt:
        click.echo(
            f"\nhan: stopped; the same command with --resume goes on from the last checkpoint in {out}", err=True
        )
        sys.exit(130)
    click.echo(
        json.dumps(
            {
                "model": str(result.folder),
                "steps": result.steps,
                "kept_epoch": result.best_epoch,
                "watched_rsum": result.rsum,
                "seconds": round(result.seconds, 1),
            }
        )
    )
