"""Versions of a Lance table on the disk: find the newest, open it, delete what none of them needs."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from han_retrieval.errors import StoreError
from han_retrieval.files import leftovers
from han_retrieval.objects import is_remote
from han_retrieval.objects.connection import lance_options
from han_retrieval.storage.damage import Damage
from han_retrieval.storage.failures import MEND, reading
from han_retrieval.storage.hashes import (
    FOLDER,
    check_file,
    check_manifest,
    file_names,
    is_recorded,
    manifest_path,
    names_of,
    quick_check,
    read_hashes,
    recorded,
)

PREFIX = "han_"  # of the keys of this package in a schema's metadata

_TRIES = 20
_FOLDERS = ("data", "_deletions", "_transactions", "_versions", FOLDER, "")


def is_table(path: Path) -> bool:
    """Whether a folder holds a committed version of a Lance table, be it damaged."""
    if recorded(path):
        return True
    if bool(is_remote(path)):
        return newest(path) is not None
    manifests = (path / "_versions").glob("*.manifest")
    return any(manifests) and (any((path / "data").glob("*")) or not _is_torn_create(path))


def _is_torn_create(path: Path) -> bool:
    """Whether a power cut tore the first commit of a table, which holds nothing then."""
    try:
        open_version(path, versions(path)[0])
    except (StoreError, IndexError):
        return True
    return False


def versions(path: Path) -> list[int]:
    """The versions of a table, the newest first. Lance's own file that names the newest may be damaged."""
    names = (file.stem for file in (path / "_versions").glob("*.manifest"))
    return sorted((2**64 - 1 - int(name) for name in names if name.isdecimal() and len(name) == 20), reverse=True)


def newest(path: Path) -> int | None:
    """The newest version; None where there is none. Object storage is asked for no more names than it takes."""
    if not is_remote(path):
        return next(iter(versions(path)), None)
    files = (file for file in (path / "_versions").walk_files() if file.suffix == ".manifest")
    # Keys are listed in their order, and names count down.
    return next((2**64 - 1 - int(file.stem) for file in files if file.stem.isdecimal() and len(file.stem) == 20), None)


def open_dataset(path: Path) -> Any:
    """The newest version of the Lance table at ``path``.

    A version that a power cut tore is left out, with a warning, where there is one before it. It is one that cannot be
    opened and has no hashes: these are written last.

    Raises:
        StoreError: It cannot be read, or is not as it was written.
    """
    if bool(is_remote(path)):
        return open_version(path, None)
    for _ in range(_TRIES):
        known = recorded(path)
        numbers = versions(path)
        if known and known[0] not in numbers and known[0] > max(numbers, default=0):
            raise StoreError(str(Damage(manifest_path(path, known[0]), "is gone", MEND)))
        torn: Path | None = None
        for number in numbers:
            try:
                dataset = open_version(path, number)
            except StoreError:
                if versions(path)[:1] != numbers[:1]:
                    break  # a writer has committed another, and may have deleted this one
                if is_recorded(path, number) or number == numbers[-1]:
                    raise
                torn = torn or manifest_path(path, number)
                continue
            if torn is not None:
                warnings.warn(
                    f"{torn}: cannot be read, as a power cut can leave it; the version before it is used", stacklevel=2
                )
            return dataset
    raise StoreError(f"{path}: it has no version that can be opened; {MEND}")


def open_version(path: Path, version: int | None) -> Any:
    """A version of the table at ``path``, whose files are as they were written as far as is known without reading all.

    On object storage, None is the newest: nothing is known there of files but that they were written as a whole.

    Raises:
        StoreError: It cannot be read, or is not as it was written.
    """
    with reading(path):
        damage = None if version is None else quick_damage(path, version)
        if damage is not None:
            raise StoreError(str(damage))
        return open_unchecked(path, version)


def open_unchecked(path: Path, version: int | None) -> Any:
    """As ``open_version``, whether or not its files are as they were written; errors are Lance's."""
    import lance

    return lance.dataset(str(path), version=version, storage_options=lance_options(path))


def quick_damage(path: Path, version: int) -> Damage | None:
    """The first damage that is found without reading data files as a whole; None for a version without hashes.

    Raises:
        StoreError: The hashes are damaged.
    """
    try:
        hashes = read_hashes(path, version)
    except FileNotFoundError:
        return None
    found = check_manifest(path, version, hashes)
    for name, each in hashes.files.items():
        found = found or quick_check(path, name, each)
    return found


def require_unchanged(path: Path, version: int, fragments: Collection[Any]) -> None:
    """Check files of some fragments in full, before Lance copies them.

    Raises:
        StoreError: One is not as it was written.
    """
    files = read_hashes(path, version).files if is_recorded(path, version) else {}
    for name in (name for fragment in fragments for name in names_of(fragment)):
        damage = check_file(path / name, files[name], whole=True) if name in files else None
        if damage is not None:
            raise StoreError(str(damage))


def metadata_of(dataset: Any) -> dict[str, str]:
    """What ``Table.create`` was given about a table; empty where another program made it."""
    metadata = {key.decode(): value.decode() for key, value in (dataset.schema.metadata or {}).items()}
    return {key.removeprefix(PREFIX): value for key, value in metadata.items() if key.startswith(PREFIX)}


def delete_leftovers(path: Path) -> None:
    """Delete what killed processes left: files that no version names, and files with temporary names.

    Whoever calls it is the table's one writer.
    """
    found = [file for folder in _FOLDERS for file in (path / folder).glob("*") if file.is_file()]
    gone = [file for file in found if re.search(r"^\.tmp|#\d+$", file.name)]
    gone += [file for folder in (path, path / FOLDER) for file in leftovers(folder)]
    with suppress(StoreError):  # where a version is not sound, what it needs is not known
        named = {path / name for number in versions(path) for name in _names(path, number)}
        gone += [f for f in found if f.parent in (path / "data", path / "_deletions") and f not in named]
    manifests = [manifest_path(path, number).read_bytes() for number in versions(path)]  # which name a transaction
    for file in (path / "_transactions").glob("*.txn"):
        if not any(file.name.encode() in manifest for manifest in manifests):
            gone.append(file)
    for file in gone:
        file.unlink(missing_ok=True)


def _names(path: Path, version: int) -> list[str]:
    if is_recorded(path, version):
        return [*read_hashes(path, version).files]
    return [*file_names(open_version(path, version))]
