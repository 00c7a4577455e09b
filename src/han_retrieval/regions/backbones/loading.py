"""Backbones of other libraries: the library itself, its files, and what can be wrong with them, each in one line."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from han_retrieval.errors import HANError, ModelError, first_line
from han_retrieval.files import from_home
from han_retrieval.hub_errors import causes, kinds, refusal_of

_SHARED = "@proj"
_NO_NETWORK = {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectError", "URLError", "ConnectionError"}
_offline = threading.RLock()


def library(module: str, *, wanted_by: str, extra: str) -> Any:
    """Import a library that not everyone installs.

    Raises:
        ModelError: It is not installed; the message says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ModelError(f"{wanted_by}: needs {module} ({error}): pip install 'han-retrieval[{extra}]'") from None


def shared_space(argument: str) -> tuple[str, bool]:
    """A name without "@proj" at its end, and whether it was there: features in the space that texts share."""
    return argument.removesuffix(_SHARED), argument.endswith(_SHARED)


def local(argument: str) -> Path | None:
    """The absolute path of a file or a folder that is meant by a name, or None where it is no path.

    What begins with "/", "." or "~" is a path, whether it is there or not, and so is what is there.
    """
    path = from_home(argument)
    return path.absolute() if argument.startswith((".", "~")) or path.is_absolute() or path.exists() else None


def near(name: str, names: Iterable[str]) -> str:
    """ "; did you mean A, B?" with the nearest of many names, or "" where none is near."""
    found = difflib.get_close_matches(name, list(names), n=3)
    return f"; did you mean {', '.join(found)}?" if found else ""


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Without the bar and the notes of transformers while a model is loaded."""
    logging = transformers.utils.logging
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


@contextmanager
def offline() -> Iterator[None]:
    """Without asking the Hugging Face Hub, in all threads: what is not in its cache cannot be had.

    One thread at a time, or the setting of one would be taken for what another has to restore.
    """
    try:
        from huggingface_hub import constants
    except ImportError:  # nothing can be asked
        yield
        return
    with _offline:
        before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
        try:
            yield
        finally:
            constants.HF_HUB_OFFLINE = before


@contextmanager
def one_line(name: str, *, offline: str) -> Iterator[None]:
    """Whatever is raised while a model is loaded becomes one line that begins with its name.

    Args:
        name: What is loaded, for the message.
        offline: What to give instead where there is no network.

    Raises:
        HANError: Something was raised inside the block; a ``ModelError`` where it was no ``HANError`` before.
    """
    try:
        yield
    except HANError as error:
        raise type(error)(f"{name}: {error}") from None
    except Exception as error:  # of the network, the disk, the Hub, or a file that holds something else
        raise ModelError(f"{name}: {_reason(error, offline)}") from None


def _reason(error: Exception, offline: str) -> str:
    if refused := refusal_of(error):
        return refused
    if kinds(error) & _NO_NETWORK:
        return f"is not in the cache, and the Hub cannot be reached; without a network, {offline}"
    if any("trust_remote_code" in str(cause) for cause in causes(error)):
        return "its repository brings code of its own, which is not run here; choose a model that the library knows"
    if isinstance(error, MemoryError):
        return "is too large for this machine's memory"
    return f"cannot be loaded ({first_line(error)}); get its files anew, or name another"
