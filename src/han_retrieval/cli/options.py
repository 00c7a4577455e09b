"""Options and arguments that several verbs share."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from han_retrieval.cluster import Cluster
from han_retrieval.data.url_path import is_url
from han_retrieval.errors import ConfigError
from han_retrieval.files import from_home
from han_retrieval.matchers.saving import DEFAULT_MODEL

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class _Place(click.Path):
    """A path of this machine, or a URL of object storage such as s3://bucket/prefix."""

    def coerce_path_result(self, value: str | os.PathLike[str]) -> Any:
        """The path, or the ``ObjectPath``."""
        return from_home(os.fspath(value))


FOLDER = _Place()


class _Source(click.ParamType[Any]):
    """A path, or the URL of what is read."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, or the URL as it is: a path has no double slashes."""
        return value if is_url(value) else from_home(value)


SOURCE = _Source()


def together(*decorators: Decorator) -> Decorator:
    """Several options as one decorator; they appear in the help in this order."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


model_option = click.option(
    "--model",
    type=click.Path(),
    default=DEFAULT_MODEL,
    show_default=True,
    help="The model's folder, or user/name[@REVISION] on the Hub; default is the model that ships.",
)
moved_model_option = click.option(
    "--model", type=click.Path(), help="The folder of the index's model, if it was moved."
)
detector_options = together(
    click.option("--detector", help="The detector, if the model does not name one or its weights are your own."),
    click.option(
        "--regions",
        type=click.IntRange(min=1),
        default=36,
        show_default=True,
        help="Regions per photo, if the model does not say how many.",
    ),
)
cpu_option = click.option(
    "--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1; auto takes a GPU if there is one."
)
k_option = click.option("-k", type=click.IntRange(min=1), default=10, show_default=True, help="The number of results.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
reading_options = together(
    click.option(
        "--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Photos detected at once."
    ),
    click.option(
        "--threads", type=click.IntRange(min=1), default=2, show_default=True, help="Threads that decode photos."
    ),
)
"""How photo files are read and handed to a detector."""


_ENGINE = (
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="ray: on the machines of a Ray cluster.",
    ),
    click.option(
        "--address",
        metavar="HOST:PORT",
        help="Of the Ray cluster; auto is that of this machine [default: RAY_ADDRESS in the environment, else Ray is "
        "started here].",
    ),
)
_WORKERS = click.option(
    "--workers", type=click.IntRange(min=1), help="Ray's workers [default: as many as there is room for]."
)
_CPUS = click.option(
    "--cpus-per-worker",
    type=click.FloatRange(min=0, min_open=True),
    help="CPUs of a worker of Ray [default: 1].",
)
_GPUS = click.option(
    "--gpus-per-worker",
    type=click.FloatRange(min=0, min_open=True),
    help="GPUs of a worker of Ray [default: none].",
)


def engine_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Where the work is done, as the argument ``cluster``: a ``Cluster`` of Ray, or None for this machine."""
    return together(*_ENGINE, _WORKERS, _CPUS, _GPUS)(_with_cluster(function))


def shard_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """As ``engine_options``, of shards, whose number is an option of its own and which score on CPUs."""
    return together(*_ENGINE, _CPUS)(_with_cluster(function))


def _with_cluster(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def with_cluster(
        *args: Any,
        engine: str,
        address: str | None,
        cpus_per_worker: float | None,
        workers: int | None = None,
        gpus_per_worker: float | None = None,
        **others: Any,
    ) -> Any:
        given = {
            "--address": address,
            "--workers": workers,
            "--cpus-per-worker": cpus_per_worker,
            "--gpus-per-worker": gpus_per_worker,
        }
        if engine == "ray":
            cluster = Cluster(address, workers, cpus_per_worker or 1.0, gpus_per_worker or 0.0)
            return function(*args, cluster=cluster, **others)
        for name, value in given.items():
            if value is not None:
                raise ConfigError(f"{name} is for a Ray cluster: add --engine ray, or leave it out")
        return function(*args, cluster=None, **others)

    return with_cluster


format_option = click.option("--format", "format_name", help="The dataset's format, if it is not recognised.")
splits_option = click.option(
    "--splits",
    type=FOLDER,
    metavar="LIST",
    help="Take the splits of this dataset, such as dataset_flickr30k.json, joined by the photos' ids.",
)
features_option = click.option(
    "--features", type=FOLDER, required=True, help="The region store that `han extract` wrote."
)
scored_dataset_options = together(
    click.argument("model", type=click.Path()),
    click.argument("dataset", type=FOLDER),
    features_option,
    format_option,
    splits_option,
)
"""A model, and a dataset that it scores."""
allow_missing_option = click.option(
    "--allow-missing", is_flag=True, help="Leave out photos without features, however many."
)


def index_options(*, candidates: int) -> Decorator:
    """An index, and how it is searched; ``candidates`` is the default of --candidates."""
    return together(
        click.argument("index", type=FOLDER),
        k_option,
        click.option(
            "--where", metavar="SQL", help="Only photos that meet this: \"date >= '2024' and width > height\"."
        ),
        click.option("--exact", is_flag=True, help="Score every photo, not only the candidates."),
        click.option(
            "--candidates",
            type=click.IntRange(min=1),
            default=candidates,
            show_default=True,
            help="The number of photos that are scored exactly.",
        ),
        moved_model_option,
        cpu_option,
        click.option("--paths", is_flag=True, help="Print only paths, one per line; with line breaks, as JSON."),
        click.option("-0", "--null", is_flag=True, help="Print only paths, each with a NUL after it, for xargs -0."),
    )
