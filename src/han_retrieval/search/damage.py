"""Check an index in full, and mend it."""

from __future__ import annotations

from pathlib import Path

from han_retrieval.errors import StoreError
from han_retrieval.search.reader import IndexReader
from han_retrieval.storage.damage import Damage

_MEND = "index the photos into another folder"


def check_index(path: str | Path) -> list[Damage]:
    """Read all of an index; an empty list where everything is as it was written."""
    path = Path(path)
    try:
        with IndexReader(path) as index:
            for row in range(len(index)):
                index.stored_tokens([row])
                index.regions([row])
    except StoreError as error:
        return [Damage(path, str(error).removeprefix(f"{path}: "), _MEND)]
    return []


def repair_index(path: str | Path) -> list[str]:
    """Mend an index: rows that are damaged leave it, so that the next `han index` detects them again.

    Returns:
        What was done, a line each; none where there was nothing to do.

    Raises:
        StoreError: It cannot be mended; what is there is kept.
    """
    damage = check_index(path)
    if damage:
        raise StoreError(f"{damage[0]}")
    return []
