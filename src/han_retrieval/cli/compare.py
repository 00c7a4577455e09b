"""``han compare``: the differences of two evaluations, and how certain they are."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from han_retrieval.cli.json_output import print_json
from han_retrieval.cli.options import FOLDER, json_option
from han_retrieval.data import refuse_missing
from han_retrieval.errors import one_line
from han_retrieval.parsing import shown


@click.command()
@click.argument("a", type=FOLDER)
@click.argument("b", type=FOLDER)
@json_option
def compare(a: Path, b: Path, as_json: bool) -> None:
    """Compare two files of `han evaluate --json`, A and B, on the same queries.

    Prints each metric's difference B - A with a 95 % bootstrap interval over images and the p-value of a paired
    randomisation test.
    """
    for file in (a, b):
        refuse_missing(file)  # before torch is imported
    from han_retrieval.evaluation import compare as compare_systems
    from han_retrieval.evaluation.report import difference_table, read_results

    (of_a, queries_a), (of_b, queries_b) = read_results(a), read_results(b)
    differences = compare_systems(queries_a, queries_b)
    if as_json:
        print_json([asdict(row) for row in differences], indent=2)
    else:
        names = _name(a, of_a), _name(b, of_b)
        click.echo(difference_table(differences, names=names))


def _name(file: Path, content: dict[str, Any]) -> str:
    model = content.get("model")
    return one_line(f"{file} ({model if isinstance(model, str) else shown(model)})")
