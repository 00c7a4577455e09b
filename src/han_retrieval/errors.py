"""The exceptions that a person is meant to read."""

from __future__ import annotations

import re

LONGEST_MESSAGE = 1000
_SHORT = 200


class HANError(Exception):
    """Something that the user can mend: one line that says what is wrong, where, and how to mend it.

    The command line prints the message without a traceback and exits with code 2. Everything else that is
    raised is a defect of the program and keeps its traceback. Callers that want to tell kinds of errors apart catch
    one of the classes below. Messages quote names and what files hold, so they are made ``one_line`` here.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class DataError(HANError):
    """A photo, a dataset, a caption file or an annotation cannot be read or is not as its format has it."""


class StoreError(HANError):
    """A region store, an index or the folder of a training is missing, damaged, in use or of other parts, or a file
    cannot be written.
    """


class ModelError(HANError):
    """A model, a detector or a text encoder cannot be loaded or trained, or does not fit what it is used with."""


class QueryError(HANError):
    """A search asks for something that cannot be answered: no known word, a broken filter, no region."""


class ConfigError(HANError):
    """A configuration, an option or the name of a plug-in is wrong."""


def first_line(error: BaseException) -> str:
    """What an error of another library says, in short: its first line, behind a heading the second, or its class."""
    lines = [line for each in str(error).splitlines() if (line := each.strip())] or [type(error).__name__]
    line = lines[1] if len(lines) > 1 and lines[0].endswith(":") else lines[0]
    return shortened(line.rstrip("."))


def shortened(text: str, most: int = _SHORT) -> str:
    """The text, or its beginning and three dots, ``most`` characters in all."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def one_line(text: str) -> str:
    """The text on one line, with codes for what cannot be printed; a long one is cut in its middle."""
    line = re.sub(r"\s*[\r\n]\s*", " ", _cut(text).strip())
    return _cut("".join(each if each.isprintable() else repr(each)[1:-1] for each in line))


def _cut(text: str) -> str:
    if len(text) <= LONGEST_MESSAGE:
        return text
    end = LONGEST_MESSAGE // 3
    return f"{text[: LONGEST_MESSAGE - end - 5]} ... {text[-end:]}"
