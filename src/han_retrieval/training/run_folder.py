"""The folder of a run: which run it belongs to, and that one process at a time works in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from han_retrieval.config import explain_errors
from han_retrieval.errors import ConfigError, StoreError
from han_retrieval.files import leftovers, write_whole
from han_retrieval.parsing import read_settings
from han_retrieval.ranks import ALONE, Ranks
from han_retrieval.storage.locks import LOCK_NAME, WriterLock


def check_folder(folder: Path, config: BaseModel, *, resume: bool) -> None:
    """Check that a run of this configuration may begin or go on in a folder.

    A run that was begun before a field existed goes on with the field's default. One that left neither a checkpoint nor
    a model, such as one that needed more memory than there is, counts as not begun.

    Raises:
        StoreError: The path is a file, or the folder holds other things.
        ConfigError: It holds a run that is not to be resumed, or one of another configuration.
    """
    run_folder = folder / "training"
    file = run_folder / "config.json"
    if file.exists() and not (any(run_folder.glob("checkpoint-*")) or any(_beside(folder, run_folder))):
        return
    if not file.exists():
        for place in (folder, run_folder):
            _refuse_others(place, folder)
        return
    if not resume:
        raise ConfigError(f"{folder}: holds a training run already; go on with --resume, or choose another folder")
    other = f"{folder}: was begun with another configuration ({file}"
    fields = read_settings(file, kind=ConfigError)
    try:
        begun = type(config).model_validate(fields)
    except ValidationError as error:
        raise ConfigError(f"{other}: {explain_errors(type(config), error, fields)})") from None
    if begun != config:
        raise ConfigError(f"{other}: {difference(begun.model_dump(), config.model_dump())}); resume with that one")


def difference(
    begun: dict[str, Any], given: dict[str, Any], prefix: str = "", *, words: tuple[str, str] = ("was {}", "is {}")
) -> str:
    """The fields in which two configurations differ, with their values, and ``words`` for each of the two."""
    found = []
    for name in begun.keys() | given.keys():
        then, now = begun.get(name), given.get(name)
        if isinstance(then, dict) and isinstance(now, dict):
            found.append(difference(then, now, f"{prefix}{name}.", words=words))
        elif then != now:
            found.append(f"{prefix}{name} {words[0].format(repr(then))} and {words[1].format(repr(now))}")
    return ", ".join(sorted(filter(None, found)))


def _refuse_others(place: Path, folder: Path) -> None:
    """Refuse a place that holds more than a run leaves that was killed at its very start."""
    if place.exists() and not place.is_dir():
        raise StoreError(f"{place}: is a file; name a new folder")
    for path in _beside(place, folder / "training"):
        if path.name != LOCK_NAME:
            raise StoreError(f"{folder}: holds other things, such as {path.relative_to(folder)}; choose a new folder")


def _beside(place: Path, run_folder: Path) -> list[Path]:
    """What is in a place beside a run's own folder and what a killed run had not finished writing."""
    found = sorted(place.iterdir()) if place.exists() else []
    return [path for path in found if path != run_folder and not path.name.startswith(".config.json.")]


@contextmanager
def claimed_folder(folder: Path, config: BaseModel, ranks: Ranks = ALONE, *, resume: bool = False) -> Iterator[Path]:
    """Lock the folder of a run against other processes for as long as the block lasts, and save the configuration.

    The folder is checked again, since another run may have begun there while the data were read.

    Yields ``folder/training``, where the run's own files are. Of several ranks the first alone locks and writes.

    Raises:
        StoreError: Another process trains there, or nothing can be written there.
        ConfigError, StoreError: See ``check_folder``.
    """
    run_folder = folder / "training"
    if not ranks.first:
        yield run_folder
        return
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{run_folder}: the folder cannot be made ({error.strerror})") from None
    with WriterLock(run_folder):
        for left in [*leftovers(folder), *leftovers(run_folder)]:
            left.unlink(missing_ok=True)
        check_folder(folder, config, resume=resume)
        write_whole(run_folder / "config.json", config.model_dump_json(indent=2) + "\n")
        yield run_folder


def content_hash(parts: Iterable[Any]) -> str:
    """Hash the training data, given as bytes and as what JSON can hold."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        content = part if isinstance(part, bytes) else json.dumps(part).encode()
        digest.update(f"{len(content)} ".encode() + content)
    return digest.hexdigest()
