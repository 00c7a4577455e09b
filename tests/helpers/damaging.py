"""Damage of files as disks, copies and people make it."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from han_retrieval.errors import HANError
from han_retrieval.storage.folder_checksums import NAME


def _cut(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(len(content))])


def _zeroed(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    start = chance.randrange(len(content))
    size = min(len(content) - start, chance.randint(1, 4096))
    content[start : start + size] = bytes(size)
    path.write_bytes(content)


def _flipped(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def _lengthened(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes() + chance.choice([b"\0", b"\n", b" ", chance.randbytes(100)]))


def _missing(path: Path, _: random.Random) -> None:
    path.unlink()


def _folder(path: Path, _: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _unreadable(path: Path, _: random.Random) -> None:
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        pytest.skip("root, and who is on Windows, reads any file")
    path.chmod(0)


WAYS: dict[str, Callable[[Path, random.Random], None]] = {
    "cut": _cut,
    "zeroed": _zeroed,
    "flipped": _flipped,
    "lengthened": _lengthened,
    "missing": _missing,
    "folder": _folder,
    "unreadable": _unreadable,
}
RANDOM = ("cut", "zeroed", "flipped", "lengthened")
"""Those that come out differently each time."""


def damaged_copy(folder: Path, copy: Path, name: str, way: str, *, seed: int = 0) -> Path:
    """A copy of a folder with one damaged file; its path."""
    shutil.copytree(folder, copy)
    WAYS[way](copy / name, random.Random(f"{name} {way} {seed}"))
    return copy


def outcome(use: Callable[[Path], Any], folder: Path) -> tuple[Any, str]:
    """What the use of a folder gives, or the line that refuses it."""
    try:
        return use(folder), ""
    except HANError as error:
        return None, str(error)


def without_checksums(folder: Path) -> Path:
    """The folder as versions before checksums wrote it, whose files may be changed at will; its path."""
    (folder / NAME).unlink(missing_ok=True)
    return folder
