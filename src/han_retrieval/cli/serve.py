"""``han serve``: a page to search an index in, and an HTTP API."""

from __future__ import annotations

from pathlib import Path

import click

from han_retrieval.cli.devices import find_device
from han_retrieval.cli.options import FOLDER, cpu_option, moved_model_option
from han_retrieval.errors import ConfigError


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
def serve(index: Path, host: str, port: int, token: str | None, model: str | None, device: str) -> None:
    """Serve a page that searches INDEX, at http://127.0.0.1:8080/, and an HTTP API.

    Changes of the index show within seconds. Ctrl-C stops the server.
    """
    try:
        from han_retrieval.serve import SearchService, check_access, listen
        from han_retrieval.serve import serve as run
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is missing: pip install 'han-retrieval[serve]'") from None
    check_access(host, token)
    with listen(host, port) as listener:  # before the model is loaded, so that a wrong address is told at once
        service = SearchService(index, model=model, device=find_device(device))
        service.warm_up()
        photos = len(service.catalogue)

        def started(address: str) -> None:
            click.echo(f"{index}: {photos:,} photos at {address}" + ("?token=TOKEN" if token else ""))
            click.echo("press Ctrl-C to stop", err=True)

        run(service, listener, host=host, token=token, started=started)
    click.echo("stopped", err=True)
