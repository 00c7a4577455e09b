"""Check a region store in full, and mend it."""

from __future__ import annotations

from pathlib import Path

from han_retrieval.errors import StoreError
from han_retrieval.regions.store import RegionStore
from han_retrieval.storage.damage import Damage

_MEND = "extract the photos into another folder"


def check_store(path: str | Path) -> list[Damage]:
    """Read all of a region store; an empty list where everything is as it was written."""
    path = Path(path)
    try:
        store = RegionStore.open(path)
        for photo_id in store.ids:
            store.read([photo_id])
        store.photos()
    except StoreError as error:
        return [Damage(path, str(error).removeprefix(f"{path}: "), _MEND)]
    return []


def repair_store(path: str | Path) -> list[str]:
    """Mend a region store: rows that are damaged leave it, so that the next `han extract` detects them again.

    Returns:
        What was done, a line each; none where there was nothing to do.

    Raises:
        StoreError: It cannot be mended; what is there is kept.
    """
    damage = check_store(path)
    if damage:
        raise StoreError(f"{damage[0]}")
    return []
