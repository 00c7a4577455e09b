"""Running a program of this folder: an error that its user can mend is one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from han_retrieval.errors import HANError


def run(main: Callable[[], object]) -> None:
    """Call a command; exits with one line and status 2 at an error that its user can mend."""
    try:
        main()
    except HANError as error:
        print(f"{Path(sys.argv[0]).stem}: error: {error}", file=sys.stderr)
        sys.exit(2)
