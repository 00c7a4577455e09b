"""``han info``: what a model, an index, a region store or a dataset holds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from han_retrieval.cli.json_output import print_json
from han_retrieval.cli.names import printable
from han_retrieval.errors import ConfigError, DataError
from han_retrieval.objects import is_remote, to_path


@click.command()
@click.argument("path", type=click.Path())
@click.option(
    "--recall", is_flag=True, help="For an index: the share of the exact best ten that are among the candidates."
)
@click.option(
    "--queries", type=click.Path(path_type=Path), help="With --recall: a file with one sentence per line, or a dataset."
)
@click.option("--model", type=click.Path(), help="With --recall: the index's model, if it was moved.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(path: str, recall: bool, queries: Path | None, model: str | None, as_json: bool) -> None:
    """Print what PATH is and what it holds: a model or a detector, an index, a region store, a dataset, or a photo.

    "default" is the model that ships. --recall scores every photo of an index for each query; without --queries it
    takes frequent words of the model.
    """
    if (queries or model) and not recall:
        raise ConfigError("--queries and --model go with --recall")
    if not path:
        raise ConfigError("PATH is empty; name a model, an index, a region store or a dataset")
    from han_retrieval.data.manifest import is_listing

    is_list = is_listing(path) or path.startswith("hf:")
    if not (is_list or to_path(path).exists() or path == "default" or "/" in path):  # said before torch is imported
        raise DataError(f"{path}: no such file or folder")
    facts = {"kind": "dataset", **_dataset(path)} if is_list else _facts(path)
    if recall:
        if facts["kind"] != "index":
            raise ConfigError(f"{path}: --recall is of an index, and this is a {facts['kind']}")
        facts |= _recall(to_path(path), queries, model)
    if as_json:
        print_json(facts, indent=2)
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{name:<{width}}  {printable(_text(value))}")


def _text(value: Any) -> str:
    """A fact as people read it."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _recall(path: Path, queries: Path | None, model: str | None) -> dict[str, Any]:
    from han_retrieval.data import read_sentences
    from han_retrieval.search import Index
    from han_retrieval.search.recall import TOP, candidate_recall, frequent_words

    with Index.open(path) as index:
        han = index.load_model(model)
        sentences = frequent_words(han) if queries is None else read_sentences(queries)
        scored, kept = candidate_recall(index, han, sentences, progress=True)
    shares = {f"percent_of_top_{TOP}_in_{number}": round(share, 2) for number, share in kept.items()}
    return {"queries": scored, **shares}


def _facts(name: str) -> dict[str, Any]:
    from han_retrieval.matchers.saving import CONFIG, WEIGHTS, model_folder
    from han_retrieval.search.settings import is_index
    from han_retrieval.storage.versions import is_table

    path = to_path(name) if is_remote(to_path(name)) else model_folder(name)
    if (path / CONFIG).is_file() or (path / WEIGHTS).is_file():
        from han_retrieval.checkup import is_detector

        return {"kind": "detector", **_detector(path)} if is_detector(path) else {"kind": "model", **_model(path)}
    if is_index(path):
        from han_retrieval.search import Index

        with Index.open(path) as index:
            return {"kind": "index", **asdict(index.describe())}
    if is_table(path):
        from han_retrieval.regions import RegionStore

        return {"kind": "region store", **asdict(RegionStore.open(path).describe())}
    if path.is_file() and (photo := _photo(path)):
        return {"kind": "photo", **photo}
    return {"kind": "dataset", **_dataset(path)}


def _model(path: Path) -> dict[str, Any]:
    from han_retrieval.matchers import load_matcher

    model = load_matcher(path)
    return {"parameters": sum(parameter.numel() for parameter in model.parameters()), **model.config.model_dump()}


def _detector(path: Path) -> dict[str, Any]:
    """What ``han train-detector`` wrote: how many words it knows of each kind, and its sizes."""
    from han_retrieval.regions.bottom_up.saving import load_config

    config = load_config(path)
    known = {"nouns": len(config.names.nouns), "attributes": len(config.names.attributes)}
    return {**known, **config.model_dump(exclude={"names"})}


def _photo(path: Path) -> dict[str, Any] | None:
    """What a photo is; None where a file is none by its name."""
    from han_retrieval.data import PHOTO_SUFFIXES, open_photo, read_info

    if path.suffix.lower() not in PHOTO_SUFFIXES:
        return None
    photo = open_photo(path)
    return {"width": photo.width, "height": photo.height, "bytes": path.stat().st_size, **read_info(photo)._asdict()}


def _dataset(path: str | Path) -> dict[str, Any]:
    from han_retrieval.data import read_dataset

    dataset = read_dataset(path)
    return {
        "format": dataset.format,
        "photos": len(dataset),
        "captions": dataset.caption_count,
        "splits": ", ".join(f"{name} ({count})" for name, count in dataset.splits.items()) or "none",
        "left_out": ", ".join(f"{count} x {reason}" for reason, count in dataset.skipped.items()) or "nothing",
    }
