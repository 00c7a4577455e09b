"""Check a region store in full, and mend it."""

from __future__ import annotations

import shlex
from pathlib import Path

from han_retrieval.objects import to_path
from han_retrieval.regions.rows import CHECKSUMS
from han_retrieval.regions.store import RegionStore
from han_retrieval.storage.damage import Damage
from han_retrieval.storage.locks import WriterLock
from han_retrieval.storage.repair import check_opens, check_table, repair_table, unchecked


def check_store(path: str | Path, *, progress: bool = False) -> list[Damage]:
    """Read all of a region store; an empty list where everything is as it was written."""
    path = to_path(path)
    quoted = shlex.quote(str(path))
    mend = f"`han doctor --repair {quoted}` takes damaged rows out; the `han extract` that made it detects them again"
    damage = check_table(path, CHECKSUMS, mend=mend, progress=progress)
    return damage or check_opens(path, RegionStore.open, mend=mend)


def unchecked_store(path: str | Path) -> str | None:
    """What of a region store cannot be checked, and what mends that; None where all can be checked."""
    what = unchecked(to_path(path), CHECKSUMS)
    return what and f"{what}; a store that `han extract` makes anew has them"


def repair_store(path: str | Path) -> list[str]:
    """Mend a region store: rows that are damaged leave it, so that the next `han extract` detects them again.

    Returns:
        What was done, a line each; none where there was nothing to do.

    Raises:
        StoreError: It cannot be mended, or another process is writing to it; what is there is kept.
    """
    path = to_path(path)
    with WriterLock(path):
        return repair_table(path, CHECKSUMS, versions_held=False)
