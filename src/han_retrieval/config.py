"""Load a configuration from a TOML file and ``key=value`` overrides; all errors in it are reported at once."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from han_retrieval.errors import ConfigError
from han_retrieval.parsing import parse_toml, read_toml, shown

M = TypeVar("M", bound=BaseModel)


def load_config(kind: type[M], file: str | Path | None = None, *, overrides: Sequence[str] = ()) -> M:
    """Read a frozen configuration.

    Args:
        kind: The pydantic model of the configuration.
        file: A TOML file with its fields, nested models as tables; None for the defaults.
        overrides: ``key=value`` strings, applied over the file; ``model.blocks=2`` reaches into a table. Values are
            TOML; what is not TOML is taken as a string.

    Raises:
        ConfigError: The file cannot be read, or fields are unknown or have wrong values. The message names all of them
            in one line, after the file or "--set" that they come from.
    """
    fields: dict[str, Any] = {}
    if file is not None:
        fields = read_toml(Path(file))
    keys = [_set(fields, override) for override in overrides]
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        wrong: dict[str, list[str]] = {}  # by the source of the values
        for e in error.errors():
            path, _ = _place(kind, e["loc"], fields)
            overridden = file is None or any(path[: len(key)] == key for key in keys)
            wrong.setdefault("--set" if overridden else str(file), []).append(_explain(kind, e, fields))
        raise ConfigError("; ".join(f"{source}: {'; '.join(said)}" for source, said in wrong.items())) from None


def _set(fields: dict[str, Any], override: str) -> list[str]:
    """Apply an override to the fields; returns the parts of its key."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {override}: expected key=value, as in --set epochs=5 or --set model.blocks=2")
    try:
        value = parse_toml(f"value = {text}")["value"]
    except ValueError:
        value = text
    parts = key.strip().split(".")
    *tables, name = parts
    for table in tables:
        fields = fields.setdefault(table, {})
        if not isinstance(fields, dict):
            raise ConfigError(f"--set {override}: {table} is not a table")
    fields[name] = value
    return parts


def _place(kind: type[BaseModel], location: Sequence[int | str], fields: Any) -> tuple[list[str], Any]:
    """The path of an error's field, and the model that has this field, or was meant to.

    A model with variants has the class method ``resolve``, which returns the class that fits the fields.
    """
    model: Any = kind
    where: list[str] = []
    for part in map(str, location):
        where.append(part)
        if field := getattr(model, "model_fields", {}).get(part):
            model, fields = field.annotation, fields.get(part, {})
            if hasattr(model, "resolve"):
                with contextlib.suppress(ConfigError):  # an unknown variant is an error of its own
                    model = model.resolve(fields)
    return where, model


def explain_errors(kind: type[BaseModel], error: ValidationError, fields: Any) -> str:
    """Everything that is wrong with the fields of a configuration, in one line."""
    return "; ".join(_explain(kind, e, fields) for e in error.errors())


def _explain(kind: type[BaseModel], error: Any, fields: Any) -> str:
    where, model = _place(kind, error["loc"], fields)
    path = ".".join(where)
    if error["type"] != "extra_forbidden":
        reason = error["msg"].removeprefix("Value error, ")
        return f"{path} = {shown(error['input'])}: {reason[:1].lower()}{reason[1:]}"
    # A configuration class may say what its fields were called before, with None for those that are gone.
    renamed: dict[str, str | None] = getattr(model, "renamed", {})
    if where[-1] in renamed:
        name = renamed[where[-1]]
        return f"{path} is no longer an option, leave it out" if name is None else f"{path} is now called {name}"
    known: dict[str, Any] = getattr(model, "model_fields", {})  # none of a dict of models
    near = difflib.get_close_matches(where[-1], known, n=1)
    return f"{path} is no field" + (
        f" (did you mean {near[0]}?)" if near else f"; fields: {', '.join(known)}" if known else ""
    )
