"""``han train-detector``: photos whose captions are linked to boxes, to a detector."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

import click

from han_retrieval.cli.devices import device_option, find_device
from han_retrieval.cli.splits import with_splits
from han_retrieval.config import load_config
from han_retrieval.data import read_dataset, read_entities
from han_retrieval.training.detector import DetectorTrainingConfig
from han_retrieval.training.detector import train_detector as train


@click.command("train-detector")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option(
    "--entities",
    type=click.Path(path_type=Path),
    required=True,
    help="Which words speak of which boxes: Flickr30k Entities' folder, or its .jsonl form.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The detector's folder.")
@click.option("--config", type=click.Path(path_type=Path), help="A TOML file with the fields to change.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one field, such as epochs=4.")
@click.option("--resume", is_flag=True, help="Go on where an interrupted run in OUT stopped.")
@click.option("--format", "format_name", help="The dataset's format, where it is not recognised.")
@device_option
@click.option("--show-config", is_flag=True, help="Print the configuration as JSON and stop.")
def train_detector(
    dataset: Path,
    entities: Path,
    out: Path,
    config: Path | None,
    overrides: tuple[str, ...],
    resume: bool,
    format_name: str | None,
    device: str,
    show_config: bool,
) -> None:
    """Train a detector on the photos of DATASET: their boxes, and the phrases of captions that speak of them.

    OUT is a usable detector after the first epoch: han extract --detector bottom-up:OUT. A run that was stopped goes on
    exactly with --resume.
    """
    settings = load_config(DetectorTrainingConfig, config, overrides=overrides)
    if show_config:
        click.echo(settings.model_dump_json(indent=2))
        return
    photos = with_splits(read_dataset(dataset, format=format_name))
    annotated = read_entities(entities)
    try:
        result = train(
            settings,
            photos,
            annotated,
            out,
            annotation=str(entities),
            resume=resume,
            command=shlex.join(["han", *sys.argv[1:]]),
            device=find_device(device),
        )
    except KeyboardInterrupt:
        click.echo(
            f"\nhan: stopped; the same command with --resume goes on from the last checkpoint in {out}", err=True
        )
        sys.exit(130)
    figures = asdict(result.figures) if result.figures else None
    click.echo(
        json.dumps(
            {"detector": str(result.folder), "steps": result.steps, "dev": figures, "seconds": round(result.seconds, 1)}
        )
    )
