"""The command ``han``: its verbs, each loaded when it is called."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

import han_retrieval.version
from han_retrieval.errors import HANError
from han_retrieval.process import tune_process

VERBS = {
    "extract": "Photos, or features that others made, to a region store.",
    "train": "Captioned photos and their regions to a model.",
    "train-text": "Captions alone to the start of a model's text encoder.",
    "train-detector": "Photos whose captions are linked to boxes, to a detector of regions.",
    "evaluate": "A model's recalls and grounding by the field's protocol.",
    "calibrate": "Probabilities to a model's scores, from photos that it was not trained on.",
    "distil": "What finds candidates for a model's scores in a search, learned from these.",
    "compare": "Two evaluations, with the certainty of their differences.",
    "explain": "Why a photo and a sentence match: which word looked at which region.",
    "index": "Folders of photos to an index; again, only what changed.",
    "search": "The photos of an index that fit a sentence.",
    "similar": "The photos of an index that are like a photo.",
    "caption": "The sentences that fit a photo.",
    "serve": "A page to search an index in, and an HTTP API.",
    "demo": "Index real photos, search them, and see the evidence.",
    "info": "What a model, an index, a region store or a dataset holds.",
    "plugins": "The matchers, detectors, text encoders and formats that are installed.",
    "doctor": "What this machine has, and whether the parts work together.",
}


class _Verbs(click.Group):
    """A group that imports a verb's module when it is wanted: most need torch, the help needs none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        module = name.replace("-", "_")
        command = getattr(importlib.import_module(f"han_retrieval.cli.{module}"), module)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], VERBS, n=1)
            hint = f"did you mean 'han {near[0]}'?" if near else f"there are: {', '.join(VERBS)}"
            raise click.UsageError(f"no verb is called {args[0]!r}; {hint}", ctx) from error


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(han_retrieval.version.__version__, prog_name="han")
def cli() -> None:
    """Match photos and sentences by their parts: the Heterogeneous Attention Network."""


def main(args: list[str] | None = None) -> Any:
    """Run a verb: results on standard output; an error is one line on standard error and exit code 2.

    What the system has against a file or a disk is an error as well, where no verb has said it better.
    """
    tune_process()
    if not (sys.argv[1:] if args is None else args):
        click.echo(click.Context(cli, info_name="han", **cli.context_settings).get_help(), err=True)
        sys.exit(2)
    try:
        return cli.main(args=args, prog_name="han", standalone_mode=False)
    except HANError as error:
        click.echo(f"han: error: {error}", err=True)
        sys.exit(2)
    except click.ClickException as error:
        click.echo(f"han: error: {error.format_message()}", err=True)
        sys.exit(2)
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        click.echo(f"han: error: {where}{error.strerror or error}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("han: stopped", err=True)
        sys.exit(130)
