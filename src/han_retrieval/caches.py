"""Where this machine keeps what can be computed or fetched again."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """The folder for what can be computed again, by the system's custom.

    Where there is no home folder, nothing can be kept: it is one that cannot be made.
    """
    try:
        return _by_custom() / "han-retrieval"
    except RuntimeError:  # of Path.home
        return Path(os.devnull) / "han-retrieval"


def _by_custom() -> Path:
    if os.name == "nt":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base)
