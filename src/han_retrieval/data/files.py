"""Reading CSV files and fields of JSON with errors that name the file, line or field; names that are not UTF-8."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from han_retrieval.errors import DataError
from han_retrieval.parsing import read_text, shown

T = TypeVar("T")


@contextmanager
def reading(source: Path) -> Iterator[None]:
    """A context in which an OSError from reading ``source`` or files below it becomes a DataError.

    Raises:
        DataError: A file or folder cannot be read.
    """
    try:
        yield
    except OSError as error:
        raise DataError(f"{error.filename or source}: cannot be read ({error.strerror or error})") from None


def read_csv(path: Path, columns: Sequence[Sequence[str]]) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV file as dicts, each with its place; the separator is a comma, a semicolon or a tab.

    Args:
        path: The file.
        columns: The columns that must be there, each a choice of names.

    Raises:
        DataError: The file is empty, lacks a column or has it twice, has a row with more or fewer fields than the first
            line, or a quote that is not closed.
    """
    text = read_text(path)
    first = text.partition("\n")[0]
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    header: list[str] = []
    try:
        for row in rows:
            where = f"{path}, line {rows.line_num}"
            if not header:
                header = [name.strip() for name in row]
                for names in columns:
                    if not set(names) & set(header):
                        raise DataError(f"{where}: no column {' or '.join(names)}; the columns are {', '.join(header)}")
                    if twice := [name for name in names if header.count(name) > 1]:
                        raise DataError(f"{where}: two columns {twice[0]!r}; give each value a row of its own")
            elif row and len(row) != len(header):
                hint = "; a caption with commas needs quotes" if len(row) > len(header) else ""
                raise DataError(f"{where}: {len(row)} fields, the first line has {len(header)}{hint}")
            elif row:
                yield where, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}, line {rows.line_num}: broken CSV ({error})") from None
    if not header:
        raise DataError(f"{path}: the file is empty")


def peek(path: Path, *, size: int = 262_144) -> str:
    """The first and last ``size`` bytes of a file as text, which show the keys of a JSON file of any length."""
    try:
        with path.open("rb") as file:
            start = file.read(size)
            rest = max(path.stat().st_size - size, 0)
            file.seek(-min(rest, size), 2)
            return (start + file.read()).decode("utf-8-sig", errors="replace").lstrip()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def field(record: Any, name: str, kind: type[T], where: str) -> T:
    """The value of a field of a JSON object.

    Raises:
        DataError: ``record`` is not an object, lacks the field, or the value is not a ``kind``.
    """
    if not isinstance(record, dict):
        raise DataError(f"{where}: expected an object with the field {name!r}, found {shown(record)}")
    if name not in record:
        raise DataError(f"{where}: the field {name!r} is missing; there are {', '.join(map(str, record)) or 'none'}")
    value = record[name]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        expected = {str: "text", int: "a whole number", list: "a list", dict: "an object"}[kind]
        raise DataError(f"{where}: the field {name!r} must be {expected}, found {shown(value)}")
    return value


def identifier(record: Any, name: str, where: str) -> str:
    """The value of a field that holds an id, which is a whole number or text, as text."""
    if isinstance(record, dict) and type(record.get(name)) is int:
        return str(record[name])
    return field(record, name, str, where)


def sentences(value: Any, where: str) -> list[str]:
    """One sentence or a list of them, as a list."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(sentence, str) for sentence in value):
        return value
    raise DataError(f"{where}: expected a caption or a list of captions, found {shown(value)}")


def is_text(name: str) -> bool:
    """Whether a file's name can be written as UTF-8, which stores, indexes and pages need."""
    return _NOT_TEXT.search(name) is None


def readable(name: str) -> str:
    """A file's name with a mark in place of each byte that is not UTF-8."""
    return _NOT_TEXT.sub("\ufffd", name)


NOT_TEXT = "its name is not UTF-8; rename it"
"""Why a file is skipped whose name is not UTF-8."""

# How Python represents bytes in a file name that are not UTF-8.
_NOT_TEXT = re.compile(r"[\ud800-\udfff]")
