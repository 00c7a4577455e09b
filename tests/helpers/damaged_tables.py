"""Indexes and region stores of which one file is damaged."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from damaging import RANDOM, damaged_copy, outcome


def wrong_uses(
    folder: Path, use: Callable[[Path], Any], scratch: Path, *, count: int, step: int = 1
) -> tuple[int, int, list[str]]:
    """Damage each file of a folder in each way, one at a time, and use the folder.

    Args:
        folder: What is copied and damaged.
        use: Reads or changes the folder that it is given; what it returns can be compared.
        scratch: Where copies are made.
        count: The number of damages of each kind that comes out differently each time.
        step: Try one of so many damages.

    Returns:
        How many damages were tried, at how many of them a ``HANError`` was raised, and what went wrong: other results
        than without damage, another exception, or a message that is no line or names nothing in the folder.
    """
    copy = scratch / "copy"
    shutil.copytree(folder, copy)
    wanted = use(copy)
    shutil.rmtree(copy)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    cases = [
        (name, way, seed)
        for name in names
        for way in (*RANDOM, "missing", "folder")
        for seed in range(count if way in RANDOM else 1)
        if (folder / name).stat().st_size or way not in ("cut", "zeroed", "flipped")
    ]
    cases = cases[::step]
    refused, wrong = 0, []
    for name, way, seed in cases:
        damaged_copy(folder, copy, name, way, seed=seed)
        what = f"{name}, {way} ({seed})"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found, refusal = outcome(use, copy)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            wrong.append(f"{what}: {type(error).__name__}: {str(error)[:200]}")
        else:
            refused += bool(refusal)
            if refusal and (str(copy) not in refusal or "\n" in refusal or len(refusal) > 1000):
                wrong.append(f"{what}: {refusal}")
            elif not refusal and found != wanted:
                wrong.append(f"{what}: other results")
        shutil.rmtree(copy)
    return len(cases), refused, wrong
