"""Where a photo is that has no path on this machine."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_url(text: object) -> bool:
    """Whether this is a URL: a scheme, ``://`` and more."""
    return isinstance(text, str) and _SCHEME.match(text) is not None


@dataclass(frozen=True, order=True)
class UrlPath(os.PathLike[str]):
    """A URL in the place of a ``Path``, with what this package asks of the path of a photo."""

    url: str

    def __str__(self) -> str:
        return self.url

    def __fspath__(self) -> str:
        return self.url

    def as_posix(self) -> str:
        """The URL."""
        return self.url

    @property
    def name(self) -> str:
        """What follows the last slash."""
        return self._path.name

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return self._path.stem

    @property
    def suffix(self) -> str:
        """The ending of the name, ".jpg"."""
        return self._path.suffix

    @property
    def _path(self) -> PurePosixPath:
        return PurePosixPath(self.url.partition("?")[0])

    def is_relative_to(self, other: Path) -> bool:
        """Whether it is below a folder of this machine, which it never is."""
        return False
