"""``checksums.json``: the size and the SHA-256 of a folder's files, so that a damaged file is never used in silence.

The list is written with the files and checked when they are read. A folder without it, or a file that it does not name,
is read unchecked.

While files are replaced, the list holds those before as well: a reader, or a run after a crash, takes the files of
before or the new ones, and refuses a mixture. The list is written first, so that no file is ever without its checksum.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from han_retrieval.errors import ModelError, StoreError
from han_retrieval.files import leftovers, write_whole
from han_retrieval.storage.damage import Damage

NAME = "checksums.json"
_PACKAGE = Path(__file__).parents[1]
_TRIES = 20  # a twentieth of a second apart: as long as another process may be replacing files
_FileName = Annotated[str, Field(pattern=r"^[^/\\]+$")]


class Checksum(BaseModel):
    """The size of a file in bytes, and its SHA-256 in hexadecimal digits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")

    @classmethod
    def of(cls, file: Path) -> Checksum:
        """That of a file.

        Raises:
            OSError: It cannot be read.
        """
        with file.open("rb") as opened:
            return cls(sha256=hashlib.file_digest(opened, "sha256").hexdigest(), size=opened.tell())


class Checksums(BaseModel):
    """The content of ``checksums.json``.

    Attributes:
        version: Of the format.
        files: The checksum of each file by its name.
        before: The same before the files were replaced, if they are being replaced.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    files: dict[_FileName, Checksum]
    before: dict[_FileName, Checksum] | None = None

    def write(self, folder: Path) -> None:
        """Replace the list of a folder."""
        write_whole(folder / NAME, json.dumps(self.model_dump(exclude_none=True), indent=2) + "\n")


def write_files(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files into a folder, in their order, each whole, and their checksums.

    Raises:
        StoreError: A file cannot be written, or one that it replaces cannot be read.
    """
    new = {name: Checksum(size=len(data), sha256=hashlib.sha256(data).hexdigest()) for name, data in contents.items()}
    listed = _read(folder)
    before = _on_disk(folder, listed) if isinstance(listed, Checksums) else _as_they_are(folder, contents)
    files = {**before, **new}
    replacing = bool(before) and files != before
    for left in list(leftovers(folder)):
        if left.name[1:].rpartition(".")[0] in (NAME, *contents):  # of a process that was killed
            left.unlink(missing_ok=True)
    Checksums(files=files, before=before if replacing else None).write(folder)
    for name, data in contents.items():
        write_whole(folder / name, data)
    if replacing:
        Checksums(files=files).write(folder)


def accept_files(folder: Path, names: Iterable[str]) -> list[str]:
    """Write the checksums of a folder's files as they are now; returns the names of those that are there.

    Raises:
        StoreError: A file cannot be read, or the list cannot be written.
    """
    there = _as_they_are(folder, names)
    Checksums(files=there).write(folder)
    return list(there)


def listed_files(folder: Path) -> dict[str, Checksum] | None:
    """The files that a folder's list names; None where it has no list, or none that can be read."""
    listed = _read(folder)
    return listed.files if isinstance(listed, Checksums) else None


def refuse_damage(folder: Path, names: Iterable[str], *, anew: str = "") -> None:
    """Check files before they are used; the arguments are those of ``check_files``.

    Raises:
        ModelError: One is not as it was written.
    """
    for damage in check_files(folder, names, anew=anew):
        raise ModelError(str(damage))


def check_files(folder: Path, names: Iterable[str], *, anew: str = "") -> list[Damage]:
    """Compare files with their checksums.

    Args:
        folder: Theirs.
        names: Those to compare; one that the list does not name is passed over.
        anew: The command that writes them anew, if there is one.
    """
    names, mend = list(names), _mend(folder, anew)
    for tries_left in reversed(range(_TRIES)):
        listed = _read(folder)
        if listed is None:
            return []
        if isinstance(listed, str):
            return [Damage(folder / NAME, listed, mend)]
        found = _damages(folder, names, listed, mend)
        if not found or (listed.before is None and listed == _read(folder)):
            break
        if tries_left:
            time.sleep(0.05)  # another process is replacing them
    return found


def _as_they_are(folder: Path, names: Iterable[str]) -> dict[str, Checksum]:
    try:
        return {name: Checksum.of(folder / name) for name in names if (folder / name).is_file()}
    except OSError as error:
        raise StoreError(f"{error.filename or folder}: cannot be read ({error.strerror or error})") from None


def _read(folder: Path) -> Checksums | str | None:
    """The list of a folder; what is wrong with it, or None where there is none."""
    try:
        return Checksums.model_validate_json((folder / NAME).read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    except ValidationError as error:
        return f"is damaged ({error.errors()[0]['msg'][:200]})"


def _mend(folder: Path, anew: str) -> str:
    if _PACKAGE in folder.parents:
        return "install the package again: pip install --force-reinstall han-retrieval"
    cached = next((part for part in folder.parts if part.startswith("models--")), "")  # of the Hugging Face Hub
    if cached:
        return f"download it again: hf download {'/'.join(cached.split('--')[1:])} --force-download"
    again = f", or write it anew with `{anew}`" if anew else ""
    accept = f"`han doctor {shlex.quote(str(folder))} --accept`"
    return f"copy it again from where it came{again}; if it was changed on purpose: {accept}"


def _damages(folder: Path, names: list[str], listed: Checksums, mend: str) -> list[Damage]:
    """Where files are neither all as the list has them nor all as they were before."""
    new = _differences(folder, names, listed.files)
    old = new if listed.before is None else _differences(folder, names, listed.before)
    if not new or not old:
        return []
    if not new.keys() & old.keys():
        mixed = [name for name in names if name in new or name in old]
        what = f"holds files of two writings ({', '.join(mixed)}): the last was stopped in between"
        return [Damage(folder, what, "write them all again, with the command that was stopped")]
    return [Damage(folder / name, new[name], mend) for name in new if name in old]


def _differences(folder: Path, names: Iterable[str], wanted: Mapping[str, Checksum]) -> dict[str, str]:
    """What is wrong with each file that is not as wanted, by its name."""
    found = ((name, _difference(folder / name, wanted[name])) for name in names if name in wanted)
    return {name: what for name, what in found if what}


def _difference(path: Path, wanted: Checksum) -> str:
    try:
        size = path.stat().st_size
        if not path.is_file():
            return "is no file"
        if size < wanted.size:
            return f"is cut off or was changed: {size:,} of {wanted.size:,} bytes"
        if size > wanted.size:
            return f"is longer than it was written: {size:,} bytes instead of {wanted.size:,}"
        if Checksum.of(path) != wanted:
            return f"is damaged or was changed: its SHA-256 is not the one in {NAME}"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return ""


def _on_disk(folder: Path, listed: Checksums) -> dict[str, Checksum]:
    """The files of a folder by its list, also where the last writer was killed in between."""
    if listed.before is None or not _differences(folder, listed.files, listed.files):
        return listed.files
    return listed.before
