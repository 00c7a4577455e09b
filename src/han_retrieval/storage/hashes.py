"""Hashes of the files that a version of a table consists of, and a copy of its manifest.

Lance notices few changes of what it has written. ``_hashes/VERSION.json`` is written when the version is on the disk:
a version without it was committed by a process that was killed, or made by an older han-retrieval. On object storage
there are none: it checks what it keeps, and shows a file as a whole or not at all.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from han_retrieval.errors import StoreError
from han_retrieval.files import write_whole
from han_retrieval.objects import is_remote
from han_retrieval.storage.damage import Damage
from han_retrieval.storage.failures import MEND

FOLDER = "_hashes"

_MAGIC = b"LANC"
_FOOTER = struct.Struct("<QQQIIHH4s")  # where columns, their table and the table of buffers begin, counts, version
_STEP = 1 << 22


@dataclass(frozen=True, slots=True)
class FileHashes:
    """Of a file: its length, the hash of its end, and that of all of it, None where that is not known.

    The end of a data file says where everything is; it is small, so that it is checked whenever a table is opened.
    """

    bytes: int
    end: str
    whole: str | None


@dataclass(frozen=True, slots=True)
class VersionHashes:
    """Of a version: the hash of its manifest, and those of its other files by their path in the table."""

    manifest: str
    files: dict[Annotated[str, Field(pattern=r"^[^\x00]+$")], FileHashes]


_CONTENT = TypeAdapter(VersionHashes)


def manifest_path(table: Path, version: int) -> Path:
    """The file of a version of a table. Names count down from 2^64 - 1, so that the newest comes first."""
    return table / "_versions" / f"{2**64 - 1 - version:020}.manifest"


def copy_path(table: Path, version: int) -> Path:
    """The copy of the manifest."""
    return table / FOLDER / f"{version}.manifest"


def is_recorded(table: Path, version: int) -> bool:
    """Whether there are hashes of a version."""
    return not is_remote(table) and _path(table, version).exists()


def recorded(table: Path) -> list[int]:
    """The versions of which there are hashes, the newest first."""
    if is_remote(table):
        return []
    names = (file.stem for file in (table / FOLDER).glob("*.json"))
    return sorted((int(name) for name in names if name.isdecimal()), reverse=True)


def record(table: Path, version: int, dataset: Any, written: Collection[str], before: int) -> None:
    """Write the hashes of a version whose files are on the disk.

    Args:
        table: The table's folder.
        version: The version.
        dataset: The version, opened.
        written: The files that were read back just now.
        before: The version whose hashes of the other files hold, if it has some.
    """
    try:
        known = read_hashes(table, before).files if is_recorded(table, before) else {}
    except StoreError:
        known = {}
    files = {}
    for name in file_names(dataset):
        files[name] = known[name] if name in known else hash_file(table / name, whole=name in written)
    manifest = manifest_path(table, version).read_bytes()
    hashes = VersionHashes(_hash(manifest), files)
    _path(table, version).parent.mkdir(exist_ok=True)
    write_whole(copy_path(table, version), manifest)
    write_whole(_path(table, version), json.dumps(asdict(hashes)) + "\n")


def forget(table: Path, versions: Collection[int]) -> None:
    """Delete the hashes of all but some versions."""
    for file in (table / FOLDER).glob("*"):
        if not (file.stem.isdecimal() and int(file.stem) in versions):
            file.unlink(missing_ok=True)


def read_hashes(table: Path, version: int) -> VersionHashes:
    """The hashes of a version.

    Raises:
        StoreError: They are damaged.
        FileNotFoundError: There are none.
    """
    path = _path(table, version)
    if is_remote(table):
        raise FileNotFoundError(path)
    try:
        return _CONTENT.validate_json(path.read_bytes())
    except ValidationError:
        raise StoreError(str(Damage(path, "is damaged", MEND))) from None


def check_manifest(table: Path, version: int, hashes: VersionHashes) -> Damage | None:
    """Whether the manifest is as it was written."""
    path = manifest_path(table, version)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Damage(path, "is gone", MEND)
    return None if is_manifest(content, hashes) else Damage(path, "is not as it was written", MEND)


def is_manifest(content: bytes, hashes: VersionHashes) -> bool:
    """Whether this is the manifest of a version."""
    return _hash(content) == hashes.manifest


def quick_check(table: Path, name: str, hashes: FileHashes) -> Damage | None:
    """As ``check_file``, without reading a data file as a whole."""
    return check_file(table / name, hashes, whole=not name.startswith("data/"))


def check_file(path: Path, hashes: FileHashes, *, whole: bool) -> Damage | None:
    """Whether a data file or a deletion file is as it was written, as far as its length and its end tell."""
    try:
        length = path.stat().st_size
        if length < hashes.bytes:
            return Damage(path, f"is cut off: {length:,} of {hashes.bytes:,} bytes", MEND)
        if length > hashes.bytes:
            return Damage(path, f"is too long: {length:,} bytes, of which {hashes.bytes:,} were written", MEND)
        now = hash_file(path, whole=whole and hashes.whole is not None)
    except FileNotFoundError:
        return Damage(path, "is gone", MEND)
    except OSError as error:
        return Damage(path, f"cannot be read ({error.strerror})", MEND)
    if now.end != hashes.end or now.whole not in (None, hashes.whole):
        return Damage(path, "is not as it was written", MEND)
    return None


def hash_file(path: Path, *, whole: bool) -> FileHashes:
    """The hashes of a file as it is."""
    from xxhash import xxh3_128

    with path.open("rb") as file:
        length = file.seek(0, 2)
        file.seek(_end(file, length))
        end = _hash(file.read())
        if not whole:
            return FileHashes(length, end, None)
        everything = xxh3_128()
        file.seek(0)
        while step := file.read(_STEP):
            everything.update(step)
    return FileHashes(length, end, everything.hexdigest())


def file_names(dataset: Any) -> Iterator[str]:
    """The data files and deletion files of a version, by their path in the table."""
    for fragment in dataset.get_fragments():
        yield from names_of(fragment.metadata)


def names_of(fragment: Any) -> Iterator[str]:
    """The files of a fragment, by its metadata; its data files first."""
    yield from (f"data/{each.path}" for each in fragment.files)
    if fragment.deletion_file is not None:
        yield fragment.deletion_file.path(fragment.id)


def has_footer(path: Path) -> bool:
    """Whether a data file ends as it must."""
    with path.open("rb") as file:
        length = file.seek(0, 2)
        file.seek(max(0, length - len(_MAGIC)))
        return file.read() == _MAGIC


def _end(file: Any, length: int) -> int:
    """Where the part of a data file begins that describes the rest; 0 in other files, which are small."""
    if length < _FOOTER.size:
        return 0
    file.seek(length - _FOOTER.size)
    columns, _, buffers, buffer_count, *_, magic = _FOOTER.unpack(file.read(_FOOTER.size))
    if magic != _MAGIC or not buffer_count or not 0 < buffers <= length - 8:
        return 0
    file.seek(buffers)
    (first,) = struct.unpack("<Q", file.read(8))
    return int(min(first, columns, buffers))


def _path(table: Path, version: int) -> Path:
    return table / FOLDER / f"{version}.json"


def _hash(data: bytes) -> str:
    from xxhash import xxh3_128_hexdigest

    return str(xxh3_128_hexdigest(data))
