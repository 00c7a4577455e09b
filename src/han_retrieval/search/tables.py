"""The tables in an index's folder: the one in use, one being built beside it, and old ones."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path

from han_retrieval.data.files import is_text, readable
from han_retrieval.errors import StoreError
from han_retrieval.files import leftovers, move
from han_retrieval.objects import ObjectPath, is_remote
from han_retrieval.search.settings import NAME as SETTINGS
from han_retrieval.search.table import BROKEN_NAME, MadeBy, PhotoTable
from han_retrieval.search.vector_index import FILE as VECTORS
from han_retrieval.storage.locks import LOCK_NAME, READERS_NAME, forget_readers, lock_unread, locked_versions
from han_retrieval.storage.table import KEPT
from han_retrieval.storage.versions import is_table

FIRST = "photos-1"
_GONE = ".gone-"
_REPLACED = "replaced"
_NAME = re.compile(r"photos-(\d+)", re.ASCII)


def make_folder(path: Path) -> None:
    """Make the folder of a new index; what another process may be making there is left to ``refuse_filled``.

    Raises:
        StoreError: It cannot be made, holds other things, or has a name that is not UTF-8.
    """
    if not is_text(str(path)):
        raise StoreError(f"{readable(str(path))}: its name is not UTF-8, which an index's must be")
    try:
        path.mkdir(parents=True, exist_ok=True)
        names = {entry.name for entry in path.iterdir() if not entry.name.startswith(_GONE)}
        names -= {file.name for file in leftovers(path)}
        others = sorted(names - {FIRST, SETTINGS, LOCK_NAME, READERS_NAME})
        if FIRST in names and not is_own(path / FIRST):
            others.insert(0, FIRST)
    except OSError as error:
        raise StoreError(f"{path}: no folder can be made there ({error.strerror})") from None
    if others:
        raise StoreError(f"{path}: holds other things, such as {others[0]}; choose a new folder for the index")


def refuse_filled(path: Path) -> None:
    """Refuse a new index where there is one; this process has the lock.

    Raises:
        StoreError: Another process has just made one, or an index has lost its settings.
    """
    if (path / SETTINGS).exists():
        raise StoreError(f"{path}: another process has just made an index there; give the command again")
    if is_table(path / FIRST) and len(PhotoTable(path / FIRST)):  # which is filled once index.json is there
        raise StoreError(f"{path}: its index.json is gone; put it back, or index the photos into another folder")


def is_own(folder: Path) -> bool:
    """Whether a folder holds nothing but what Lance and this package write into a table's, which may be begun."""
    if not folder.is_dir():
        return False
    own = {"data", BROKEN_NAME, VECTORS, _REPLACED}
    if not all(each.name in own or each.name.startswith(("_", ".")) for each in folder.iterdir()):
        return False
    data = folder / "data"
    # Of a process that was killed there may be "NAME.lance#1".
    return not data.is_dir() or all(".lance" in file.name or file.name.startswith(".") for file in data.iterdir())


def next_name(name: str) -> str:
    """The name of the table that replaces a table."""
    return f"photos-{_number(name) + 1}"


def open_or_create(path: Path, made_by: MadeBy) -> PhotoTable:
    """Open the table that was begun at ``path`` with the same model and detector, or make a new one there."""
    if is_table(path):
        table = PhotoTable(path)
        if table.made_by == made_by:
            return table
    if path.exists():
        if not is_own(path):
            raise StoreError(f"{path}: holds other things than a part of the index; move it elsewhere")
        _remove(path)
    return PhotoTable.create(path, made_by)


def remove_begun(index: Path) -> None:
    """Delete a new index that holds nothing, with its lock, which this process has, and the folder."""
    if is_remote(index):
        index.delete_below()
        return
    (index / SETTINGS).unlink(missing_ok=True)
    _remove(index / FIRST)
    shutil.rmtree(index / READERS_NAME, ignore_errors=True)
    with suppress(OSError):  # Windows deletes no file that is locked
        (index / LOCK_NAME).unlink()
        index.rmdir()


def remove_old(index: Path, current: str) -> None:
    """Delete replaced tables, except those that are still read, and what killed processes left in the folder."""
    for file in leftovers(index):
        file.unlink(missing_ok=True)
    for folder in index.iterdir():
        if folder.name.startswith(_GONE):
            shutil.rmtree(folder, ignore_errors=True)
        elif _NAME.fullmatch(folder.name) and _number(folder.name) < _number(current) and is_own(folder):
            if is_remote(folder):
                _remove_later(folder)
                continue
            versions = locked_versions(folder)
            with lock_unread(folder, versions) as unread, suppress(OSError):  # Windows: something has a file open
                if unread == len(versions):
                    _remove(folder)
    for table in {index / file.name.rpartition("-")[0] for file in (index / READERS_NAME).glob("photos-*-*")}:
        if not table.exists():
            forget_readers(table)


def _remove_later(table: ObjectPath) -> None:
    """Delete a replaced table a day after it was first found so: on object storage, readers cannot be told."""
    mark = table / _REPLACED
    try:
        if table.seconds_since(mark.stat_now()) > KEPT.total_seconds():
            table.delete_below()
    except FileNotFoundError:
        mark.write_bytes(b"")


def _remove(table: Path) -> None:
    """Move a table aside, then delete it, so that readers find a whole table or none."""
    if is_remote(table):
        table.delete_below()
        return
    gone = table.with_name(_GONE + table.name)
    shutil.rmtree(gone, ignore_errors=True)
    move(table, gone)
    shutil.rmtree(gone, ignore_errors=True)


def _number(name: str) -> int:
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else 0
