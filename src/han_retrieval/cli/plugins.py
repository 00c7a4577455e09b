"""``han plugins``: the matchers, detectors, text encoders and dataset formats that are installed."""

from __future__ import annotations

import click

from han_retrieval.cli.json_output import print_json
from han_retrieval.errors import ConfigError
from han_retrieval.plugins import GROUPS, Plugin, installed


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plugins(as_json: bool) -> None:
    """List the parts that are installed, by kind, and the package that each comes from.

    Other packages add parts through Python entry points. Their parts are imported here; where that fails, the error is
    printed beside the name.
    """
    rows = [
        {"kind": kind, "name": part.name, "package": part.package, "target": part.target, "error": _error(part)}
        for kind in GROUPS
        for part in installed(kind).values()
    ]
    if as_json:
        print_json(rows)
        return
    width = max((len(str(row["name"])) for row in rows), default=0)
    for kind in GROUPS:
        click.echo(f"{kind.replace('_', ' ')}:")
        for row in rows:
            if row["kind"] == kind:
                trouble = f"  cannot be imported: {row['error']}" if row["error"] else ""
                click.echo(f"  {row['name']:<{width}}  {row['package']}{trouble}")


def _error(part: Plugin) -> str | None:
    """Why a part of another package cannot be imported."""
    if part.is_ours:
        return None
    try:
        part.load()
    except ConfigError as error:
        cause = error.__cause__
        return " ".join(f"{type(cause).__name__}: {cause}".split())
    return None
