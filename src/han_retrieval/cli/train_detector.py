"""``han train-detector``: photos whose captions are linked to boxes, to a detector."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from pathlib import Path

import click

from han_retrieval.cli.devices import device_option
from han_retrieval.cli.json_output import print_json
from han_retrieval.cli.options import FOLDER, format_option, splits_option
from han_retrieval.cli.run_options import require_files, run_options, training
from han_retrieval.cli.splits import with_splits
from han_retrieval.config import load_config
from han_retrieval.data import read_dataset, read_entities


@click.command("train-detector")
@click.argument("dataset", type=FOLDER)
@click.option(
    "--entities",
    type=click.Path(path_type=Path),
    required=True,
    help="The boxes that phrases of the captions name: the folder of Flickr30k Entities, or its .jsonl form.",
)
@run_options(example="epochs=4")
@format_option
@splits_option
@device_option
def train_detector(
    dataset: Path,
    entities: Path,
    out: Path,
    config: Path | None,
    overrides: tuple[str, ...],
    resume: bool,
    show_config: bool,
    format_name: str | None,
    splits: Path | None,
    device: str,
) -> None:
    """Train a detector on the photos of DATASET: on their boxes, and the phrases of captions that name them.

    OUT is a usable detector after the first epoch: han extract --detector bottom-up:OUT. A training that was stopped
    goes on exactly with --resume.
    """
    require_files(config)
    if not show_config:
        require_files(dataset, splits, entities)
    from han_retrieval.training.detector import DetectorTrainingConfig
    from han_retrieval.training.detector import train_detector as train

    settings = load_config(DetectorTrainingConfig, config, overrides=overrides)
    if show_config:
        click.echo(settings.model_dump_json(indent=2))
        return
    with training(out, device) as (ranks, found_device):
        result = train(
            settings,
            with_splits(read_dataset(dataset, format=format_name), splits, note=ranks.first),
            read_entities(entities),
            out,
            annotation=str(entities),
            resume=resume,
            command=shlex.join(["han", *sys.argv[1:]]),
            device=found_device,
            ranks=ranks,
        )
    if not ranks.first:
        return
    found = {
        "detector": str(result.folder),
        "steps": result.steps,
        "dev": asdict(result.figures) if result.figures else None,
        "seconds": round(result.seconds, 1),
    }
    print_json(found)
