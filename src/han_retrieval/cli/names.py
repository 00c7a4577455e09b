"""Names of files as lines of text: a name may hold line breaks, and codes that act on a terminal."""

from __future__ import annotations

import json
import re
from pathlib import Path

from han_retrieval.data.url_path import UrlPath

# Control characters, separators of lines, and what turns the direction of the text around it.
_SPECIAL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The text with codes such as \\n in place of what is special."""
    return _SPECIAL.sub(lambda found: repr(found[0])[1:-1], text)


def path_line(path: Path | UrlPath) -> str:
    """An absolute path as a line: as it is, or as a JSON string with its quotes where it holds what is special."""
    return json.dumps(str(path)) if _SPECIAL.search(str(path)) else str(path)
