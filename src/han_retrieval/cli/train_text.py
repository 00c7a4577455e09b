"""``han train-text``: captions alone to the start of a text encoder."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from han_retrieval.config import load_config
from han_retrieval.data import read_dataset
from han_retrieval.training import TrainingConfig
from han_retrieval.training.text_start import read_captions, train_text_start


@click.command()
@click.argument("captions", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder to make.")
@click.option("--config", type=click.Path(path_type=Path), help="A TOML file with the fields to change, as of train.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one field, such as model.joint_size=256."
)
@click.option("--resume", is_flag=True, help="Go on where an interrupted run in OUT stopped.")
def train_text(
    captions: tuple[Path, ...], out: Path, config: Path | None, overrides: tuple[str, ...], resume: bool
) -> None:
    """Train a text encoder on CAPTIONS, without photos; train starts from it with --set text_start=OUT.

    CAPTIONS are datasets, of which the training split is taken, or files that end in .jsonl with a line
    {"captions": ["...", "..."]} for each photo.
    """
    settings = load_config(TrainingConfig, config, overrides=overrides)
    photos: list[tuple[str, ...]] = []
    for path in captions:
        if path.suffix == ".jsonl":
            photos += read_captions(path)
        else:
            photos += [photo.captions for photo in read_dataset(path).split(settings.train_split).photos]
    click.echo(f"{len(photos)} photos, {sum(map(len, photos))} captions", err=True)
    try:
        train_text_start(settings, photos, out, resume=resume)
    except KeyboardInterrupt:
        click.echo(
            f"\nhan: stopped; the same command with --resume goes on from the last checkpoint in {out}", err=True
        )
        sys.exit(130)
    click.echo(out)
