"""A configuration from a TOML file and ``key=value`` overrides, everything wrong with it reported at once."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

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
        HANError: The file cannot be read, or fields are unknown or hold the wrong thing: all of them, one line.
    """
    source = str(file) if file is not None else "--set"
    fields: dict[str, Any] = {}
    if file is not None:
        try:
            fields = tomllib.loads(Path(file).read_text(encoding="utf-8"))
        except OSError as error:
            raise HANError(f"{file}: cannot be read ({error.strerror})") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise HANError(f"{file}: not a TOML file ({error})") from None
    for override in overrides:
        _set(fields, override)
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        raise HANError(f"{source}: " + "; ".join(_explain(kind, e) for e in error.errors())) from None


def _set(fields: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise HANError(f"--set {override}: expected key=value, as in --set epochs=5 or --set model.blocks=2")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *tables, name = key.strip().split(".")
    for table in tables:
        fields = fields.setdefault(table, {})
        if not isinstance(fields, dict):
            raise HANError(f"--set {override}: {table} is not a table")
    fields[name] = value


def _explain(kind: type[BaseModel], error: Any) -> str:
    model: Any = kind  # whose fields the next part is one of
    where: list[str] = []
    discriminator = None
    for part in map(str, error["loc"]):
        if discriminator is not None:  # no field: which model of a union is meant
            model = next(m for m in get_args(model) if m.model_fields[discriminator].default == part)
            discriminator = None
            continue
        where.append(part)
        if field := getattr(model, "model_fields", {}).get(part):
            model, discriminator = field.annotation, field.discriminator
    path = ".".join(where)
    if error["type"] != "extra_forbidden":
        reason = error["msg"].removeprefix("Value error, ")
        return f"{path} = {error['input']!r}: {reason[:1].lower()}{reason[1:]}"
    near = difflib.get_close_matches(where[-1], model.model_fields, n=1)
    return f"{path} is no field" + (
        f" (did you mean {near[0]}?)" if near else f"; fields: {', '.join(model.model_fields)}"
    )
