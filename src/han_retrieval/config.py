"""A configuration from a TOML file and ``key=value`` overrides, everything wrong with it reported at once."""

from __future__ import annotations

import contextlib
import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from han_retrieval.errors import HANError

M = TypeVar("M", bound=BaseModel)


def load_config(kind: type[M], file: str | Path | None = None, *, overrides: Sequence[str] = ()) -> M:
    """Read a frozen configuration.

    Args:
        kind: The pydantic model that says which fields there are and what they may hold.
        file: A TOML file with its fields, nested models as tables; None for the defaults.
        overrides: ``key=value`` strings, applied over the file; ``model.blocks=2`` reaches into a table. Values are
            TOML; what is no TOML is taken as a string.

    Raises:
        HANError: The file cannot be read, or fields are unknown or hold the wrong thing: all of them, one line, after
            the file or "--set", whichever gave them.
    """
    fields: dict[str, Any] = {}
    if file is not None:
        try:
            fields = tomllib.loads(Path(file).read_text(encoding="utf-8"))
        except OSError as error:
            raise HANError(f"{file}: cannot be read ({error.strerror})") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise HANError(f"{file}: not a TOML file ({error})") from None
    keys = [_set(fields, override) for override in overrides]
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        wrong: dict[str, list[str]] = {}  # by what gave the values
        for e in error.errors():
            path, _ = _place(kind, e["loc"], fields)
            overridden = file is None or any(path[: len(key)] == key for key in keys)
            wrong.setdefault("--set" if overridden else str(file), []).append(_explain(kind, e, fields))
        raise HANError("; ".join(f"{source}: {'; '.join(said)}" for source, said in wrong.items())) from None


def _set(fields: dict[str, Any], override: str) -> list[str]:
    """Change the fields as an override says; the parts of its key."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise HANError(f"--set {override}: expected key=value, as in --set epochs=5 or --set model.blocks=2")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    parts = key.strip().split(".")
    *tables, name = parts
    for table in tables:
        fields = fields.setdefault(table, {})
        if not isinstance(fields, dict):
            raise HANError(f"--set {override}: {table} is not a table")
    fields[name] = value
    return parts


def _place(kind: type[BaseModel], location: Sequence[int | str], fields: Any) -> tuple[list[str], Any]:
    """An error's field, by its parts, and the model whose field the last one is or was meant to be.

    A model of several kinds has the class method ``resolve``, which gives the class that fields are of.
    """
    model: Any = kind
    where: list[str] = []
    for part in map(str, location):
        where.append(part)
        if field := getattr(model, "model_fields", {}).get(part):
            model, fields = field.annotation, fields.get(part, {})
            if hasattr(model, "resolve"):
                with contextlib.suppress(HANError):  # that the kind is unknown is the error, or another one
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
        return f"{path} = {error['input']!r}: {reason[:1].lower()}{reason[1:]}"
    # A configuration class may say what its fields were called before, with None for those that are gone.
    renamed: dict[str, str | None] = getattr(model, "renamed", {})
    if where[-1] in renamed:
        name = renamed[where[-1]]
        return f"{path} is gone, leave it out" if name is None else f"{path} is now called {name}"
    near = difflib.get_close_matches(where[-1], model.model_fields, n=1)
    return f"{path} is no field" + (
        f" (did you mean {near[0]}?)" if near else f"; fields: {', '.join(model.model_fields)}"
    )
