"""What the site's Python reference needs to read this project's docstrings."""

from __future__ import annotations

import re
from typing import Any

import griffe

# Of a section's entry for several names, "width, height: Of the photo.": indentation, names, text with what follows.
SHARED = re.compile(r"^( +)(\w+(?:, \w+)+):( .*(?:\n\1 +.*)*)", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Gives each of several names its own entry, and reads "Example:" as a section of code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Griffe calls this with each module, class, function and attribute."""
        if obj.docstring:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = SHARED.sub(_apart, text)


def _apart(found: re.Match[str]) -> str:
    return "\n".join(f"{found[1]}{name}:{found[3]}" for name in found[2].split(", "))
