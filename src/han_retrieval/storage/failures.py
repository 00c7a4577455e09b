"""Errors of the system and of Lance, as errors that a person can read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from han_retrieval.errors import HANError, StoreError, shortened
from han_retrieval.objects import is_remote
from han_retrieval.objects.connection import explain

MEND = "`han doctor --repair` with the folder of the index or region store mends what can be mended"


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make a ``StoreError`` of what the system or Lance raises while something writes to a table at ``path``."""
    try:
        yield
    except BaseException as error:
        if not is_failure(error):
            raise
        if is_remote(path):
            why = reason_of(error, path)
            raise StoreError(f"{path}: cannot be written: {why}; what was committed is kept") from None
        if not isinstance(error, OSError) or _number(error) is None:
            raise _damaged(path, error) from None
        raise StoreError(
            f"{path}: cannot be written ({reason_of(error)}); make room or choose another disk; "
            "what was committed is kept"
        ) from None


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """As ``writing``, where something reads a table."""
    try:
        yield
    except BaseException as error:
        if not is_failure(error):
            raise
        raise _damaged(path, error) from None


def is_failure(error: BaseException) -> bool:
    """Whether an error may come from the disk, or from Lance at a damaged file: it panics at some of them."""
    if isinstance(error, HANError):
        return False
    # A panic is no Exception, so that it passes all handlers; its class cannot be imported.
    is_panic = type(error).__name__ == "PanicException"
    return is_panic or isinstance(error, OSError | ValueError | RuntimeError | MemoryError)


def reason_of(error: BaseException, path: object = None) -> str:
    """An error of the system or of Lance in a few words, without places in Lance's source."""
    if is_remote(path):
        return explain(path, str(error).split(", /")[0].removeprefix("LanceError(IO): "))
    number = _number(error)
    if number is not None and os.name == "posix":
        return os.strerror(number)
    text = " ".join((getattr(error, "strerror", None) or str(error).split(", /")[0]).split())
    return shortened(text)


def _damaged(path: Path, error: BaseException) -> StoreError:
    if is_remote(path) and not isinstance(error, FileNotFoundError):
        return StoreError(f"{path}: cannot be read: {reason_of(error, path)}")
    return StoreError(f"{path}: a file of it is gone or damaged ({reason_of(error, path)}); {MEND}")


def _number(error: BaseException) -> int | None:
    """The system's number of an error."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else getattr(error, "errno", None)
