"""What the commands that train have in common: their options, and how they stop."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from han_retrieval.cli.options import FOLDER, Decorator, together


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


@contextmanager
def stopping(out: Path) -> Iterator[None]:
    """Say how to go on when the training is stopped, and exit as an interrupted command does."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(
            f"\nhan: stopped; the same command with --resume goes on from the last checkpoint in {out}", err=True
        )
        sys.exit(130)
