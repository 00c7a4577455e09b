"""Check an index in full, and mend it."""

from __future__ import annotations

import shlex
from pathlib import Path

from han_retrieval.errors import StoreError
from han_retrieval.objects import to_path
from han_retrieval.search.reader import IndexReader
from han_retrieval.search.rows import CHECKSUMS
from han_retrieval.search.settings import NAME, Settings
from han_retrieval.search.vector_index import check_vectors, repair_vectors
from han_retrieval.storage.damage import Damage
from han_retrieval.storage.locks import WriterLock
from han_retrieval.storage.repair import check_opens, check_table, repair_table, unchecked


def check_index(path: str | Path, *, progress: bool = False) -> list[Damage]:
    """Read all of an index; an empty list where everything is as it was written."""
    path = to_path(path)
    try:
        settings = Settings.read(path)
    except StoreError as error:
        return [
            Damage(path / NAME, str(error).removeprefix(f"{path / NAME}: "), "index the photos into another folder")
        ]
    quoted = shlex.quote(str(path))
    mend = f"`han doctor --repair {quoted}` takes damaged rows out; `han index --out {quoted}` detects them again"
    damage = check_table(path / settings.table, CHECKSUMS, mend=mend, progress=progress)
    return damage or check_vectors(path / settings.table) or check_opens(path, IndexReader, mend=mend)


def unchecked_index(path: str | Path) -> str | None:
    """What of an index cannot be checked, and what mends that; None where all can be checked."""
    path = to_path(path)
    try:
        what = unchecked(path / Settings.read(path).table, CHECKSUMS)
    except StoreError:
        return None  # it is damaged, as a check says
    return what and f"{what}; `han index --rebuild --out {shlex.quote(str(path))}` gives them some"


def repair_index(path: str | Path) -> list[str]:
    """Mend an index: rows that are damaged leave it, so that the next `han index` detects them again.

    A vector index that is damaged leaves it too, and the next `han index` makes it anew.

    Returns:
        What was done, a line each; none where there was nothing to do.

    Raises:
        StoreError: It cannot be mended, or another process is writing to it; what is there is kept.
    """
    path = to_path(path)
    with WriterLock(path):
        table = path / Settings.read(path).table
        return repair_table(table, CHECKSUMS, versions_held=True) + repair_vectors(table)
