"""The command line of ``han search``: a query may begin with a minus, and what is in the wrong place is said."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from contextlib import suppress

import click

from han_retrieval.objects import to_path
from han_retrieval.search.query import begins_with_sign
from han_retrieval.search.settings import is_index

_SIGNS = {"+", "-", "*"}
_NO_SENTENCE = re.compile(r"[+*-]|[+-]?\d+(\.\d+)?|.*[./:].*")  # a sign, a weight, a photo or a condition


class QueryCommand(click.Command):
    """A command with two arguments, an index and a query; words that begin with a minus are no options but query."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As of any command, with such a query wherever it stands.

        Raises:
            UsageError: The query is several arguments, or stands before the index; the message has the right command.
        """
        if ctx.resilient_parsing:  # as for completions in a shell
            return super().parse_args(ctx, args)
        options, words = self._apart(ctx, args)
        left = super().parse_args(ctx, [*options, "--", *words[:2]] if len(words) > 1 else args)
        if len(words) < 2:
            return left
        # The index is the first word that is one: the others are the query.
        place = next((place for place, word in enumerate(words) if _is_index(word)), 0)
        query = words[:place] + words[place + 1 :]
        if len(query) > 1:
            raise click.UsageError(f"put the query in quotation marks: {self._line(words[place], query, options)}", ctx)
        if place:
            raise click.UsageError(f"the index comes first: {self._line(words[place], query, options)}", ctx)
        return left

    def query_last(self, ctx: click.Context, args: list[str]) -> list[str]:
        """The arguments with index and query at their end, behind "--"."""
        options, words = self._apart(ctx, args)
        return [*options, "--", *words]

    def _apart(self, ctx: click.Context, args: Sequence[str]) -> tuple[list[str], list[str]]:
        """The options with their values, and the other arguments."""
        takes_value = {
            name: not param.is_flag
            for param in self.get_params(ctx)
            if isinstance(param, click.Option)
            for name in param.opts
        }
        options: list[str] = []
        words: list[str] = []
        left = list(args)
        while left:
            arg = left.pop(0)
            if arg == "--":
                return options, words + left
            if not arg.startswith("-") or arg == "-":
                words.append(arg)
                continue
            waits = takes_value.get(arg, False) if arg.startswith("--") else _short_option(arg, takes_value)
            if waits is None:
                words.append(_query_word(arg, takes_value))
                continue
            options.append(arg)
            if waits and not left:
                raise click.BadOptionUsage(arg, f"the option {arg} needs a value", ctx)
            if waits:
                options.append(left.pop(0))
        return options, words

    def _line(self, index: str, query: list[str], options: list[str]) -> str:
        """The command as it should be."""
        has_signs = not _SIGNS.isdisjoint(query)  # between sentences, whose quotation marks the shell took
        sentence = " ".join(_in_marks(word) if has_signs or word.startswith("-") else word for word in query)
        return f"han {self.name} {shlex.join([index, sentence, *options])}"


def _short_option(arg: str, takes_value: dict[str, bool]) -> bool | None:
    """Whether short options such as -0k wait for a value in the next argument; None where they are no such options.

    -k5 is an option with its value, -kitten is none: no value of a short option begins with a letter.
    """
    for place, letter in enumerate(arg[1:], 2):
        name = f"-{letter}"
        if name not in takes_value:
            return None
        if takes_value[name]:
            value = arg[place:]
            return None if value[:1].isalpha() else not value
    return False


def _query_word(arg: str, options: dict[str, bool]) -> str:
    """An argument that begins with a minus and is no option, as a part of the query.

    Raises:
        UsageError: It is more likely an option: one letter, or the name of a long option.
    """
    has_space = any(letter.isspace() for letter in arg)
    if has_space or (len(arg) > 2 and f"-{arg}" not in options and begins_with_sign(arg)):
        return arg
    meant = f", did you mean -{arg}?" if f"-{arg}" in options else ";"
    raise click.UsageError(f"no such option: {arg}{meant} a query that begins with a minus stands behind -- at the end")


def _in_marks(word: str) -> str:
    """A word of a query as it was before the shell took its quotation marks: -red ball is -"red ball"."""
    if word.startswith("-") and len(word) > 1:
        return f'-"{word[1:]}"' if " " in word else word
    return word if _NO_SENTENCE.fullmatch(word) else f'"{word}"'


def _is_index(word: str) -> bool:
    with suppress(OSError, ValueError):  # of what is no path
        return is_index(to_path(word))
    return False
