"""The command ``han``: its subcommands, each imported when it is called."""

from __future__ import annotations

import importlib
import io
import sys
import warnings
from typing import Any

import click

import han_retrieval.version
from han_retrieval.errors import HANError, one_line
from han_retrieval.process import tune_process

SECTIONS = {
    "Search your photos": {
        "index": "Index folders of photos, or update an index.",
        "search": "Find the photos of an index that fit a sentence.",
        "similar": "Find the photos of an index that are like a photo.",
        "caption": "Find the sentences that fit a photo.",
        "serve": "Serve an index as a web page and an HTTP API.",
        "explain": "Show which region each word of a sentence matches.",
    },
    "Train on your data": {
        "extract": "Detect the regions of photos and store their features.",
        "train": "Train a matcher on captioned photos.",
        "train-text": "Pre-train a text encoder on captions alone.",
        "train-detector": "Train a region detector on phrases with boxes.",
        "evaluate": "Measure a model's recall by the field's protocol.",
        "compare": "Compare two evaluations and test their difference.",
        "calibrate": "Fit probabilities to a model's scores.",
        "distil": "Fit the map that finds a search's candidates.",
        "push": "Upload a model to the Hugging Face Hub.",
    },
    "Try and check": {
        "demo": "Index and search example photos.",
        "info": "Describe a model, an index, a store, a dataset or a photo.",
        "plugins": "List the installed parts, also of other packages.",
        "doctor": "Check this installation, or an index, a store or a model.",
    },
}
COMMANDS = {name: does for commands in SECTIONS.values() for name, does in commands.items()}


class _Commands(click.Group):
    """A group that imports a subcommand's module when it is called: most need torch, the help does not."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = name.replace("-", "_")
        command = getattr(importlib.import_module(f"han_retrieval.cli.{module}"), module)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(list(commands.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean 'han {near[0]}'?" if near else f"there are: {', '.join(COMMANDS)}"
            raise click.UsageError(f"no command is called {args[0]!r}; {hint}", ctx) from error


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog='Begin with: han index ~/photos --out index; then han search index "two dogs in the snow". '
    "`han COMMAND --help` explains a command.",
)
@click.version_option(han_retrieval.version.__version__, prog_name="han")
def cli() -> None:
    """Find photos with a sentence, and see which word matches which part of each photo."""


def main(args: list[str] | None = None) -> Any:
    """Run a command: results go to standard output; an error is one line on standard error and exit code 2.

    Errors of the system, such as a file that cannot be read, are reported in the same way.
    """
    tune_process()
    if isinstance(sys.stdout, io.TextIOWrapper):  # names that its encoding lacks, as on Windows in a pipe
        sys.stdout.reconfigure(errors="backslashreplace")
    warnings.formatwarning = lambda message, *_: f"han: warning: {message}\n"  # one line, without places in the source
    if not (sys.argv[1:] if args is None else args):
        click.echo(click.Context(cli, info_name="han", **cli.context_settings).get_help(), err=True)
        sys.exit(2)
    try:
        return cli.main(args=args, prog_name="han", standalone_mode=False)
    except HANError as error:
        if not getattr(error, "quiet", False):
            click.echo(f"han: error: {error}", err=True)
        sys.exit(2)
    except click.ClickException as error:
        click.echo(f"han: error: {one_line(error.format_message())}", err=True)
        sys.exit(2)
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        click.echo(f"han: error: {one_line(f'{where}{error.strerror or error}')}", err=True)
        sys.exit(2)
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":  # of torch, which is not imported here
            raise
        said = one_line(str(error)).partition(". ")[0]
        click.echo(f"han: error: {said}; take fewer at once, such as by a smaller batch_size", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, click.Abort):
        click.echo("han: stopped", err=True)
        sys.exit(130)
