"""What the site takes from the code when it is built: the verbs of the command line, and the fields of configurations.

A line ``<!-- verbs -->`` of a page becomes a section for each verb. A line ``<!-- fields: package.module:Class -->``
becomes a table of the class's fields with their kinds, defaults and meanings; a class in brackets behind it,
``[package.module:Base]``, leaves out the fields that the base has.

Formulas between dollar signs become MathML, which browsers show without a script.
"""

from __future__ import annotations

import html
import importlib
import inspect
import re
import types
import typing
from typing import Any

import click

VERBS = "<!-- verbs -->"
FIELDS = re.compile(r"^<!-- fields: ([\w.]+):(\w+)(?: \[([\w.]+):(\w+)\])? -->$", re.MULTILINE)

# What pymdownx.arithmatex makes of a formula.
MATHS = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs calls this with the text of each page."""
    if VERBS in markdown:
        markdown = markdown.replace(VERBS, verbs())
    return FIELDS.sub(lambda found: fields_table(*found.groups()), markdown)


def on_page_content(content: str, **_: Any) -> str:
    """MkDocs calls this with the HTML of each page."""
    return MATHS.sub(lambda found: maths(html.unescape(found[3]), block=found[1] == "div"), content)


def maths(formula: str, *, block: bool) -> str:
    """A formula in LaTeX as MathML."""
    from latex2mathml.converter import convert  # of the site alone

    return str(convert(formula, display="block" if block else "inline"))


def verbs() -> str:
    """A section for each verb of ``han``: its usage, its help and a table of its options."""
    from han_retrieval.cli.main import cli

    group = click.Context(cli, info_name="han")
    sections = []
    for name in cli.list_commands(group):
        command = cli.get_command(group, name)
        if command is None or command.hidden:
            continue
        context = click.Context(command, info_name=name, parent=group)
        usage = " ".join(command.collect_usage_pieces(context))
        paragraphs = re.sub(r"\n[ \t]+", "\n", inspect.cleandoc(command.help or "")).replace("\b\n", "")
        rows = ["| option | meaning |", "|---|---|"]
        for option in command.get_params(context):
            record = option.get_help_record(context) if isinstance(option, click.Option) else None
            if record is not None and "--help" not in option.opts:
                names, meaning = record
                rows.append(f"| `{names}` | {_plain(meaning)} |".replace("[default: ", "[default:&nbsp;"))
        sections.append(
            "\n\n".join([f"## han {name}", f"```\nhan {name} {usage}\n```", _plain(paragraphs), "\n".join(rows)])
        )
    return "\n\n".join(sections)


def fields_table(module: str, name: str, base_module: str | None = None, base_name: str | None = None) -> str:
    """The fields of a pydantic model as a Markdown table, in their order.

    Raises:
        ValueError: A field is not described in the docstrings of the class and its bases.
    """
    model = getattr(importlib.import_module(module), name)
    left_out = getattr(importlib.import_module(base_module), str(base_name)).model_fields if base_module else {}
    meanings: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        meanings |= described(cls.__doc__)
    rows = ["| field | kind | default | meaning |", "|---|---|---|---|"]
    for field, info in model.model_fields.items():
        if field in left_out or field in ("model", "matcher"):
            continue
        if field not in meanings:
            raise ValueError(f"{module}:{name}: the docstring does not describe {field}")
        default = "needed" if info.is_required() else f"`{_toml(info.default)}`"
        kind = _kind(info.annotation).replace("|", "\\|")
        meaning = _plain(meanings[field].replace("``", "`")).replace("|", "\\|")
        rows.append(f"| `{field}` | {kind} | {default} | {meaning} |")
    return "\n".join(rows)


def described(docstring: str | None) -> dict[str, str]:
    """What the section "Attributes" of a docstring says of each name."""
    _, _, section = inspect.cleandoc(docstring or "").partition("Attributes:\n")
    meanings: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        if line and not line.startswith("    "):
            break
        begun = re.fullmatch(r"    (\w+(?:, \w+)*): (.*)", line)
        if begun:
            names = begun[1].split(", ")
            meanings |= dict.fromkeys(names, begun[2])
        else:
            for name in names:
                meanings[name] += f" {line.strip()}" if line.strip() else ""
    # A symbol of the formulas keeps its case: d, p, mu.
    return {
        name: meaning if re.match(r"(\w|mu|beta|lambda)\b", meaning) else meaning[:1].upper() + meaning[1:]
        for name, meaning in meanings.items()
    }


def _plain(text: str) -> str:
    """Text in which only backticks are Markdown."""
    parts = text.split("`")
    parts[::2] = [part.replace("<", "&lt;").replace("*", "\\*") for part in parts[::2]]
    return "`".join(parts)


def _kind(annotation: Any) -> str:
    """A type as a reader of a TOML file knows it."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f"`{_toml(each)}`" for each in inner)
    if origin is typing.Annotated:
        return _kind(inner[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_kind(each) for each in inner if each is not types.NoneType)
    names = {int: "whole number", float: "number", str: "text", bool: "true or false"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _toml(value: Any) -> str:
    """A value as a TOML file has it; nothing where there is none."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return "none" if value is None else str(value)
