"""Parts by name: matchers, detectors, backbones, text encoders and datasets, from this package and from others.

A part is found through a Python entry point. What ships with this package is registered in the same way, in its own
``pyproject.toml``; another package adds a part without a change here::

    [project.entry-points."han_retrieval.detectors"]
    mine = "my_package:make_detector"

An entry point is imported when its name is asked for, and only then: a plug-in that cannot be imported is reported
under its own name and harms no other.
"""

from __future__ import annotations

import difflib
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from han_retrieval.errors import ConfigError

GROUPS = {
    "matchers": "matcher",
    "detectors": "detector",
    "backbones": "backbone",
    "text_encoders": "text encoder",
    "datasets": "dataset format",
}
"""The kinds of parts: the end of the entry point group's name, ``han_retrieval.<kind>``, and what one is called."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """A registered part.

    Attributes:
        kind: One of ``GROUPS``.
        name: What the part is asked for by.
        target: Where it is, as "package.module:object".
        package: The distribution that registers it, with its version; "unknown" where the metadata do not say.
    """

    kind: str
    name: str
    target: str
    package: str

    @property
    def is_ours(self) -> bool:
        """Whether it ships with this package."""
        return self.package.partition(" ")[0] == "han-retrieval"

    def load(self) -> Any:
        """The part itself.

        Raises:
            ConfigError: It cannot be imported; the message names the plug-in, its package and the error.
        """
        try:
            with redirect_stdout(sys.stderr):  # what a command prints may be for a program
                return EntryPoint(name=self.name, value=self.target, group=f"han_retrieval.{self.kind}").load()
        except (Exception, SystemExit) as error:  # whatever a stranger's module raises while it is imported
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ConfigError(
                f"the {GROUPS[self.kind]} {self.name!r} of {self.package} cannot be imported from {self.target} "
                f"({reason}); mend or uninstall that package"
            ) from error


@cache
def installed(kind: str) -> dict[str, Plugin]:
    """The parts of a kind by name, in the order of their names; nothing is imported.

    Of two packages that register one name, the one whose name comes first in the alphabet counts, but parts of this
    package cannot be replaced.
    """
    found: dict[str, Plugin] = {}
    parts = [Plugin(kind, e.name, e.value, _package(e)) for e in entry_points(group=f"han_retrieval.{kind}")]
    for part in sorted(parts, key=lambda part: (not part.is_ours, part.package, part.name)):
        found.setdefault(part.name, part)
    return dict(sorted(found.items()))


def find(kind: str, name: str) -> Plugin:
    """The part of a kind that has this name; nothing is imported.

    Raises:
        ConfigError: There is none; the message has the nearest name and all names.
    """
    parts = installed(kind)
    if name in parts:
        return parts[name]
    near = difflib.get_close_matches(name, parts, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(
        f"no {GROUPS[kind]} is called {name!r}; {hint}there are: {', '.join(parts) or 'none'}; "
        "`han plugins` says from which package"
    )


def load(kind: str, name: str) -> Any:
    """Import the part of a kind that has this name.

    Raises:
        ConfigError: There is none, or it cannot be imported.
    """
    return find(kind, name).load()


def _package(entry: EntryPoint) -> str:
    return "unknown" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
