"""Damage of files: what is not as it was written, and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that is not as it was written.

    Attributes:
        path: The file, or the folder where no file can be named.
        what: What is wrong with it, such as "is cut off: 1,024 of 2,048 bytes".
        mend: How to mend it, in words.
    """

    path: Path
    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}; {self.mend}"
