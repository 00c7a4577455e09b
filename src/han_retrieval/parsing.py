"""Read text, JSON and TOML from outside: what cannot be read is one error that names the file and the line.

Reading takes memory in proportion to the file, and a file has a largest size: ``DATA_BYTES``, or ``SETTINGS_BYTES`` for
what this program writes itself, such as configurations and vocabularies. JSON takes the most, up to 25 times its size.
"""

from __future__ import annotations

import json
import reprlib
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from han_retrieval.errors import ConfigError, DataError, HANError, shortened

DATA_BYTES = 2**31
SETTINGS_BYTES = 2**26
TOML_LENGTH = 2**15
"""Of TOML, in characters; Python's parser takes seconds for keys of thousands of parts."""
LINE_BYTES = 2**26
"""Of a line, in files that are read line by line."""

_PART = 2**20

_NO_TEXT = "not UTF-8 text; save the file as UTF-8"

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 4, 80, 80
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 20


def read_text(path: Path, *, kind: type[HANError] = DataError, most: int = DATA_BYTES) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Args:
        path: The file.
        kind: The class of the error.
        most: Its largest size in bytes.

    Raises:
        HANError: It cannot be opened, is larger than ``most``, or is not UTF-8; the message has the line.
    """
    try:
        with path.open("rb") as file:
            content = read_at_most(file, most + 1)
    except OSError as error:
        raise kind(f"{path}: cannot be read ({error.strerror or error})") from None
    if len(content) > most:
        raise kind(f"{path}: larger than {most:,} bytes, the most that is read of such a file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise kind(f"{path}, line {line}: {_NO_TEXT}") from None


def read_at_most(file: IO[bytes], most: int) -> bytearray:
    """The next ``most`` bytes of a file, or what there is; ``read`` alone would set memory for ``most`` aside."""
    content = bytearray()
    while len(content) < most and (part := file.read(min(_PART, most - len(content)))):
        content += part
    return content


def read_lines(path: Path) -> list[str]:
    r"""The lines of a text file, broken at \n and \r\n only; an empty one after the last break does not count."""
    lines = read_text(path).replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def read_json(path: Path, *, kind: type[HANError] = DataError, most: int = DATA_BYTES) -> Any:
    """Read a JSON file; the arguments are those of ``read_text``.

    Raises:
        HANError: It cannot be read or is not JSON; the message has the line.
    """
    text = read_text(path, kind=kind, most=most)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise kind(f"{path}{line}: {_no_json(error)}") from None


def read_settings(path: Path, *, kind: type[HANError]) -> Any:
    """As ``read_json``, for files of this program: none is larger than ``SETTINGS_BYTES``."""
    return read_json(path, kind=kind, most=SETTINGS_BYTES)


def read_json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """The values of a JSON Lines file, each with its place ("FILE, line 3"); empty lines do not count.

    Raises:
        DataError: The file cannot be read, or a line is not UTF-8, not JSON or too long.
    """
    try:
        with path.open("rb") as file:
            for number, line in numbered_lines(file, path):
                if line.strip():
                    where = f"{path}, line {number}"
                    yield where, _json_line(line, where, encoding="utf-8-sig" if number == 1 else "utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _json_line(line: bytes, where: str, *, encoding: str) -> Any:
    try:
        return json.loads(line.decode(encoding))
    except UnicodeDecodeError:
        raise DataError(f"{where}: {_NO_TEXT}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: {_no_json(error)}") from None


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: It cannot be read or is not TOML; the message has the line.
    """
    try:
        return parse_toml(read_text(path, kind=ConfigError, most=SETTINGS_BYTES))
    except ValueError as error:
        raise ConfigError(f"{path}: not a TOML file ({error})") from None


def parse_toml(text: str) -> dict[str, Any]:
    """The fields of TOML.

    Raises:
        ValueError: It is no TOML, longer than ``TOML_LENGTH`` or nested too deeply.
    """
    if len(text) > TOML_LENGTH:
        raise ValueError(f"longer than {TOML_LENGTH:,} characters")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def numbered_lines(file: IO[bytes], path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of an open file, each with its number from 1, one in memory at a time.

    Raises:
        DataError: A line is longer than ``LINE_BYTES``.
    """
    number = 0
    while line := file.readline(LINE_BYTES + 1):
        number += 1
        if len(line) > LINE_BYTES:
            raise DataError(f"{path}, line {number}: longer than {LINE_BYTES:,} bytes, the most that is read of a line")
        yield number, line


def shown(value: Any) -> str:
    """A value for an error message: on one line, shortened."""
    try:
        text = _SHORT.repr(value)
    except ValueError:  # Python writes no numbers of so many digits
        text = "a number of many digits"
    return shortened(text, 60)


def _no_json(error: ValueError | RecursionError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"broken JSON ({error.msg}, column {error.colno})"
    # Correct JSON that Python does not read.
    return f"a number in it has too many digits ({error})" if isinstance(error, ValueError) else "nested too deeply"
