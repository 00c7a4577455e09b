"""A version of an index's table that is open for reading, which no writer deletes meanwhile."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from han_retrieval.errors import StoreError
from han_retrieval.files import stamp
from han_retrieval.search.settings import Settings
from han_retrieval.storage.failures import is_failure, reason_of
from han_retrieval.storage.hashes import manifest_path
from han_retrieval.storage.locks import hold_version
from han_retrieval.storage.versions import is_table, newest, open_dataset, open_version

_TRIES = 50


class Unreadable(StoreError):
    """An open index was deleted, or is not as it was written, so that further searches will fail too."""


class Opened(NamedTuple):
    """Attributes:
    settings: The content of ``index.json``.
    table: The folder of the table.
    dataset: Its version, as Lance's dataset.
    newest: The table's newest version when this one was opened, which a power cut may have torn.
    content: A hash of the version's manifest, the same on every machine.
    """

    settings: Settings
    table: Path
    dataset: Any
    newest: int | None
    held: IO[str] | None
    stamp: tuple[int, int, int] | None
    content: str

    def is_in(self, table: Path) -> bool:
        """Whether the version is one of this table; a table made anew counts its versions from the start."""
        return table == self.table and stamp(manifest_path(table, self.dataset.version)) == self.stamp

    def is_newest(self, table: Path) -> bool:
        """Whether the version is of this table, and nothing was committed since."""
        return self.is_in(table) and newest(table) == self.newest

    def close(self) -> None:
        """Let writers delete it."""
        if self.held is not None:
            self.held.close()


def open_newest(index: Path) -> Opened:
    """The newest version, locked; again if a writer deletes the version before it is locked.

    Raises:
        StoreError: The folder is no index, or its table cannot be opened.
    """
    for _ in range(_TRIES):
        settings = Settings.read(index)
        table = index / settings.table
        if not is_table(table):
            continue
        latest, version = newest(table), open_dataset(table).version
        held, found = hold_version(table, version), stamp(manifest_path(table, version))
        try:
            content = _hash_of(manifest_path(table, version))
            return Opened(settings, table, open_version(table, version), latest, held, found, content)
        except StoreError:
            if held is not None:
                held.close()
            if found is not None and stamp(manifest_path(table, version)) == found:
                raise
    raise StoreError(f"{index}: the index's table cannot be opened; index the photos into a new folder")


def _hash_of(manifest: Path) -> str:
    try:
        return hashlib.blake2b(manifest.read_bytes(), digest_size=8).hexdigest()
    except OSError:  # deleted just now
        return ""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn errors of reading an open index into ``Unreadable``.

    The table was there when it was opened. Since then somebody deleted it, a writer deleted the version because no lock
    could be written (a read-only share), or the disk failed.

    Raises:
        Unreadable: The table cannot be read.
    """
    try:
        yield
    except StoreError as error:
        raise Unreadable(str(error)) from None
    except BaseException as error:
        if not is_failure(error):
            raise
        raise Unreadable(
            f"{path}: its open table is gone or broken ({reason_of(error)}); open the index again, or index anew"
        ) from None
