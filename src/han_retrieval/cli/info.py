"""``han info``: what a model, an index, a region store or a dataset holds."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(path: Path, as_json: bool) -> None:
    """Say what PATH is and what it holds: a model's folder, an index, a region store, or a dataset.

    "default" is the model that ships.
    """
    facts = _facts(path)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{name:<{width}}  {value}")


def _facts(path: Path) -> dict[str, Any]:
    from han_retrieval.matchers.saving import CONFIG, WEIGHTS, model_folder

    path = model_folder(path)
    if (path / CONFIG).is_file() or (path / WEIGHTS).is_file():
        from han_retrieval.matchers import load_matcher

        model = load_matcher(path)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        return {"kind": "model", "parameters": parameters, **model.config.model_dump()}
    from han_retrieval.index.settings import is_index

    if is_index(path):
        from han_retrieval.index import Index

        with Index.open(path) as index:
            return {"kind": "index", **asdict(index.describe())}
    from han_retrieval.regions import RegionStore
    from han_retrieval.regions.disk import is_lance

    if is_lance(path):
        return {"kind": "region store", **asdict(RegionStore.open(path).describe())}
    from han_retrieval.data import read_dataset

    dataset = read_dataset(path)
    return {
        "kind": "dataset",
        "format": dataset.format,
        "photos": len(dataset),
        "captions": dataset.caption_count,
        "splits": ", ".join(f"{name} ({count})" for name, count in dataset.splits.items()) or "none",
        "left out": ", ".join(f"{count} x {reason}" for reason, count in dataset.skipped.items()) or "nothing",
    }
