"""``han push``: a model to the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from han_retrieval.data import refuse_missing
from han_retrieval.matchers.saving import matcher_name, model_folder
from han_retrieval.matchers.sharing import push_folder


@click.command()
@click.argument("model", type=click.Path())
@click.argument("name", metavar="USER/NAME")
@click.option("--private", is_flag=True, help="Make a private repository; one that is there stays as it is.")
@click.option("--message", help="The message of the commit.")
@click.option("--license", "licence", metavar="ID", help="The licence, by the Hub's name of it: cc-by-4.0, other, ...")
@click.option("--language", metavar="CODE", help="The language of the captions: en, de, ...")
@click.option(
    "--dataset", "datasets", multiple=True, metavar="USER/NAME", help="A set of the Hub that it was trained on."
)
@click.option(
    "--results",
    "files",
    type=click.Path(dir_okay=False, path_type=Path),
    multiple=True,
    help="A file of `han evaluate --json`: its recalls go into the card's metadata.",
)
def push(
    model: str,
    name: str,
    private: bool,
    message: str | None,
    licence: str | None,
    language: str | None,
    datasets: tuple[str, ...],
    files: tuple[Path, ...],
) -> None:
    """Upload the folder MODEL to the Hugging Face Hub as USER/NAME, in one commit.

    Only a model's own files are sent: configuration, weights, words, checksums, calibration, candidates' map and the
    card README.md, which gets metadata in the Hub's form. Log in first with `hf auth login`.
    """
    folder = model_folder(model)
    matcher_name(folder)  # refuses what is no model
    results = _results(files) if files else []
    address = push_folder(
        folder,
        name,
        private=private,
        message=message,
        license=licence,
        language=language,
        datasets=datasets,
        results=results,
    )
    if licence is None:
        click.echo("note: no --license given; the licence of the photos and captions binds the model too", err=True)
    click.echo(address)


def _results(files: Sequence[Path]) -> list[dict[str, Any]]:
    for file in files:
        refuse_missing(file)  # before torch is imported
    from han_retrieval.evaluation.report import read_results

    return [read_results(file)[0] for file in files]
