"""The folder of a demo, which a later run replaces."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from han_retrieval.errors import DataError

MARK = "demo.json"  # names the command that made a folder


def make_own_folder(out: Path, *, command: str, parts: Iterable[str]) -> None:
    """Make a folder with the command's mark; the folders ``parts`` of an earlier run are deleted.

    Raises:
        DataError: There is a folder that the command did not make, or nothing can be written there.
    """
    mark = json.dumps({"made_by": command}) + "\n"
    try:
        if out.exists() and not (out.is_dir() and (_text(out / MARK) == mark or not any(out.iterdir()))):
            raise DataError(f"{out}: is not a folder that an earlier {command} made; choose another with --out")
        for part in parts:
            if (out / part).exists():
                shutil.rmtree(out / part)
        out.mkdir(parents=True, exist_ok=True)
        (out / MARK).write_text(mark, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror})") from None


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""
