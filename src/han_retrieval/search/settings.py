"""``index.json``: the table of an index, the model that made it, and the folders that are indexed.

A rebuilt table replaces the one before it when this file is replaced: readers see the one or the other.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from han_retrieval.config import explain_errors
from han_retrieval.errors import StoreError
from han_retrieval.files import write_whole
from han_retrieval.parsing import read_settings, shown
from han_retrieval.search.vector_index import EXACT_UP_TO
from han_retrieval.storage.checksums import json_checksum

NAME = "index.json"
FORMAT_VERSION = 1


class Patterns(BaseModel):
    """The patterns of the photos below a root; see ``scan``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class Settings(BaseModel):
    """The content of ``index.json``.

    Attributes:
        format: ``FORMAT_VERSION``.
        table: The folder of the table, in the index's folder.
        model: The folder of the model that made it, or ``DEFAULT_MODEL``.
        roots: The folders that are indexed, by absolute path.
        exact_up_to: The number of photos above which candidates come from a vector index.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT_VERSION
    table: str
    model: str
    roots: dict[str, Patterns] = {}
    exact_up_to: int = EXACT_UP_TO

    @classmethod
    def read(cls, index: Path) -> Settings:
        """The settings of an index.

        Raises:
            StoreError: There is nothing at ``index``, no index, or one of another format.
        """
        if not is_index(index):
            if not index.exists():
                raise StoreError(
                    f"{index}: no such index; `han index PHOTOS --out {shlex.quote(str(index))}` makes one"
                )
            raise StoreError(f"{index}: not an index; give the folder that `han index --out` wrote")
        try:
            content = read_settings(index / NAME, kind=StoreError)
            if isinstance(content, dict) and content.get("format") != FORMAT_VERSION:
                raise StoreError(
                    f"{index}: an index of format {shown(content.get('format'))}, and this version reads "
                    f"{FORMAT_VERSION}: use the version that wrote it, or index the photos into another folder"
                )
            checksum = content.pop("checksum", None) if isinstance(content, dict) else None
            if checksum is not None and checksum != json_checksum(content):
                raise StoreError(
                    f"{index / NAME}: is not as it was written; if you changed it, delete its checksum; else index the "
                    "photos into another folder"
                )
            return cls.model_validate(content)
        except ValidationError as error:
            raise StoreError(f"{index / NAME}: {explain_errors(cls, error, content)}") from None

    def write(self, index: Path) -> None:
        """Replace the settings of an index."""
        content = self.model_dump(mode="json")
        content["checksum"] = json_checksum(content)
        write_whole(index / NAME, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def is_index(path: Path) -> bool:
    """Whether a folder is an index."""
    return (path / NAME).is_file()
