"""What the commands that train have in common: their options, the ranks that torchrun starts, and how they stop."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from han_retrieval.cli.devices import find_device
from han_retrieval.cli.options import FOLDER, Decorator, together
from han_retrieval.data import refuse_missing
from han_retrieval.regions.store import require_store

if TYPE_CHECKING:
    import torch

    from han_retrieval.ranks import Ranks


def run_options(*, example: str) -> Decorator:
    """The options --out, --config, --set, --resume and --show-config, with an example of a field to --set."""
    return together(
        click.option("--out", type=FOLDER, required=True, help="The folder to make."),
        click.option("--config", type=click.Path(path_type=Path), help="A TOML file with the fields to change."),
        click.option(
            "--set", "overrides", multiple=True, metavar="KEY=VALUE", help=f"Change one field, such as {example}."
        ),
        click.option("--resume", is_flag=True, help="Go on with the interrupted training in OUT."),
        click.option("--show-config", is_flag=True, help="Print the configuration as JSON and stop."),
    )


def require_files(*files: Path | None, stores: Sequence[Path] = ()) -> None:
    """Check that datasets and files (None for one that is not given) and region stores are there.

    It is called before torch is imported. Of the processes that torchrun starts, one reports what is missing, which
    takes torch.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        return
    for file in files:
        if file is not None:
            refuse_missing(file)
    for store in stores:
        require_store(store)


@contextmanager
def training(out: Path, device: str = "cpu") -> Iterator[tuple[Ranks, torch.device]]:
    """The ranks that train together and this one's device; one that is alone where torchrun has started no others.

    When the training is stopped, it is said how to go on, and the exit is that of an interrupted command.
    """
    from han_retrieval.training.distributed import join_ranks, launched

    place = launched()
    found = find_device(device, local_rank=place.local_rank if place.count > 1 else None)
    try:
        with join_ranks(found) as ranks:
            yield ranks, found
    except KeyboardInterrupt:
        if place.rank == 0:
            click.echo(
                f"\nhan: stopped; the same command with --resume goes on from the last checkpoint in {out}", err=True
            )
        sys.exit(130)
