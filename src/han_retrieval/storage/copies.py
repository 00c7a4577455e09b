"""Copies of tables of object storage on this machine, for what reads their rows again and again, as a training does.

A copy is of one version. It is in the cache folder, where all copies of tables take at most ``HAN_CACHE_GB`` gigabytes
in addition to those of photos; copies that nobody reads and that were not used for longest leave first.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import IO

from han_retrieval.errors import StoreError
from han_retrieval.objects import ObjectPath, cache
from han_retrieval.progress import progress_bar
from han_retrieval.storage.hashes import file_names, manifest_path
from han_retrieval.storage.locks import READERS_NAME, hold_version, lock_unread, locked_versions
from han_retrieval.storage.versions import open_dataset


def copy_table(table: ObjectPath, *, progress: bool = False) -> tuple[Path, IO[str]] | None:
    """Copy the newest version of a table, unless it is here already.

    Args:
        table: The table.
        progress: Show a progress bar on standard error.

    Returns:
        The copy, and a file that keeps it here until it is closed; None where there is no room for it.

    Raises:
        StoreError: The table cannot be read.
    """
    path: Path = table  # type: ignore[assignment]  # see ``to_path``
    dataset = open_dataset(path)
    manifest = manifest_path(path, dataset.version)
    # The manifest comes last: a table without one is none.
    parts = [path / name for name in file_names(dataset)] + [manifest]
    states = {part: part.stat() for part in parts}
    size, most = sum(each.st_size for each in states.values()), cache.most_bytes()
    name = blake2b(f"{table}\0{states[manifest].e_tag}".encode(), digest_size=16).hexdigest()  # type: ignore[attr-defined]
    copy = cache.folder() / "tables" / name
    try:
        copy.mkdir(parents=True, exist_ok=True)
        held = hold_version(copy, dataset.version)
        if held is None or size > most or not _make_room(copy, most - size):
            raise OSError(None, f"{cache.SETTING} leaves no room for its {size / 1e9:,.1f} GB")
        missing = [part for part in parts if _size(_file(copy, part, table)) != states[part].st_size]
        for part in progress_bar(missing, desc="copying", unit="file", show=progress and bool(missing)):
            _fetch(part, _file(copy, part, table))
        os.utime(copy)  # used now
        return copy, held
    except OSError as error:
        warnings.warn(f"{table}: is read from there again and again: {error.strerror or error}", stacklevel=2)
        return None


def _fetch(part: ObjectPath, file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as opened:
            part.copy_into(opened)
        temporary.replace(file)
    except FileNotFoundError:
        raise StoreError(f"{part}: was deleted while it was copied; give the command again") from None
    finally:
        with suppress(OSError):
            temporary.unlink()


def _file(copy: Path, part: Path, table: ObjectPath) -> Path:
    return copy / part.relative_to(table)  # type: ignore[arg-type]


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except OSError:
        return None


def _make_room(copy: Path, room: int) -> bool:
    """Delete copies that nobody reads, so that all but one take no more than ``room``; whether that could be done."""
    others = [each for each in copy.parent.iterdir() if each not in (copy, copy.with_name(READERS_NAME))]
    sizes = {other: sum(file.stat().st_size for file in _files(other)) for other in others}
    for other in sorted(others, key=lambda each: each.stat().st_mtime):
        if sum(sizes.values()) <= room:
            break
        versions = locked_versions(other)
        with lock_unread(other, versions) as unread:
            if unread == len(versions):
                shutil.rmtree(other)
                del sizes[other]
    return sum(sizes.values()) <= room


def _files(folder: Path) -> Iterator[Path]:
    return (file for file in folder.rglob("*") if file.is_file())
