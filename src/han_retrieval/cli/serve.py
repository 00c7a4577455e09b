"""``han serve``: the page and the HTTP API of an index."""

from __future__ import annotations

from pathlib import Path

import click

from han_retrieval.cli.devices import find_device
from han_retrieval.errors import HANError


@click.command()
@click.argument("index", type=click.Path(path_type=Path))
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Listen here; elsewhere than loopback needs --token."
)
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
@click.option("--token", envvar="HAN_TOKEN", help="What whoever asks must show [or in the environment: HAN_TOKEN].")
@click.option("--model", type=click.Path(), help="Where the index's model is, if it was moved.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1; auto takes a GPU if there is one.")
def serve(index: Path, host: str, port: int, token: str | None, model: str | None, device: str) -> None:
    """Show INDEX as a page to search it, at http://127.0.0.1:8080/, with an HTTP API beside it.

    Changes of the index are taken in as they come. Ctrl-C stops.
    """
    try:
        from han_retrieval.serve import Engine, check_access, listen
        from han_retrieval.serve import serve as run
    except ModuleNotFoundError as error:
        raise HANError(f"{error.name} is missing: pip install 'han-retrieval[serve]'") from None
    check_access(host, token)
    with listen(host, port) as listener:  # what is wrong with the address is said before the model is loaded
        engine = Engine(index, model=model, device=find_device(device))
        engine.warm_up()
        photos = len(engine.catalogue)

        def started(address: str) -> None:
            click.echo(f"{index}: {photos:,} photos at {address}" + (" (with ?token=)" if token else ""))
            click.echo("Ctrl-C stops", err=True)

        run(engine, listener, host=host, token=token, started=started)
    click.echo("stopped", err=True)
