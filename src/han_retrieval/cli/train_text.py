"""``han train-text``: captions alone to a pre-trained text encoder."""

from __future__ import annotations

from pathlib import Path

import click

from han_retrieval.cli.run_options import require_files, run_options, training
from han_retrieval.cli.splits import with_splits
from han_retrieval.config import load_config
from han_retrieval.data import read_dataset


@click.command()
@click.argument("captions", type=click.Path(path_type=Path), nargs=-1, required=True)
@run_options(example="model.joint_size=256")
def train_text(
    captions: tuple[Path, ...],
    out: Path,
    config: Path | None,
    overrides: tuple[str, ...],
    resume: bool,
    show_config: bool,
) -> None:
    """Pre-train a text encoder on CAPTIONS, without photos; han train takes it with --set pretrained_text=OUT.

    CAPTIONS are datasets, of which the training split is used, or files that end in .jsonl with a line
    {"captions": ["...", "..."]} for each photo. The configuration has the fields of that of han train, of which those
    of photos, backbones and vocabulary_expansion have no effect here.
    """
    require_files(config)
    if not show_config:
        require_files(*captions)
    from han_retrieval.training import TrainingConfig
    from han_retrieval.training.pretraining import pretrain_text, read_captions

    settings = load_config(TrainingConfig, config, overrides=overrides)
    if show_config:
        click.echo(settings.model_dump_json(indent=2))
        return
    with training(out) as (ranks, _):
        photos: list[tuple[str, ...]] = []
        for path in captions:
            if path.suffix == ".jsonl":
                photos += read_captions(path)
            else:
                photos += [
                    photo.captions for photo in with_splits(read_dataset(path)).split(settings.train_split).photos
                ]
        if ranks.first:
            click.echo(f"{len(photos)} photos, {sum(map(len, photos))} captions", err=True)
        pretrain_text(settings, photos, out, resume=resume, ranks=ranks)
    if ranks.first:
        click.echo(out)
