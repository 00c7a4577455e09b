"""``han serve``: a page to search an index in, and an HTTP API."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

import click

from han_retrieval.cli.options import FOLDER, cpu_option, moved_model_option, shard_options
from han_retrieval.cluster import Cluster
from han_retrieval.errors import ConfigError
from han_retrieval.search.settings import Settings


@click.command()
@click.argument("index", type=FOLDER)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; any but this machine's needs --token."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="0 takes a free port.",
)
@click.option("--token", envvar="HAN_TOKEN", help="Token that requests must send [or in the environment: HAN_TOKEN].")
@moved_model_option
@cpu_option
@shard_options
@click.option("--shards", type=click.IntRange(min=1), help="Parts of the index, each on a worker of Ray [default: 2].")
def serve(
    index: Path,
    host: str,
    port: int,
    token: str | None,
    model: str | None,
    device: str,
    cluster: Cluster | None,
    shards: int | None,
) -> None:
    """Serve a page that searches INDEX, at http://127.0.0.1:8080/, and an HTTP API.

    Changes of the index show within seconds. Ctrl-C stops the server.
    """
    if shards and cluster is None:
        raise ConfigError("--shards is for a Ray cluster: add --engine ray, or leave it out")
    if cluster is not None and device != "cpu":
        raise ConfigError(f"--device {device} is for one machine: shards score on CPUs, leave it out")
    Settings.read(index)  # before torch is imported
    try:
        from han_retrieval.serve import SearchService, check_access, listen
        from han_retrieval.serve import serve as run
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is missing: pip install 'han-retrieval[serve]'") from None
    check_access(host, token)
    from han_retrieval.cli.devices import find_device

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # shards on Ray that are being loaded end, too
    with ExitStack() as stack:
        listener = stack.enter_context(listen(host, port))  # before the model, so that a wrong address is told at once
        parts = None
        if cluster is not None:
            from han_retrieval.serve.shards_on_ray import shards_on_ray

            parts = stack.enter_context(shards_on_ray(index, shards=shards or 2, model=model, cluster=cluster))
        service = SearchService(index, model=model, device=find_device(device), shards=parts)
        service.warm_up()
        photos = len(service.catalogue)

        def started(address: str) -> None:
            on = f" in {parts.count} shards" if parts else ""
            click.echo(f"{index}: {photos:,} photos{on} at {address}" + ("?token=TOKEN" if token else ""))
            click.echo("press Ctrl-C to stop", err=True)

        run(service, listener, host=host, token=token, started=started, cut_off=parts.close if parts else None)
    click.echo("stopped", err=True)
