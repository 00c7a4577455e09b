"""The folder that a demo makes, and makes anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from han_retrieval.errors import HANError

MARK = "demo.json"  # says whose a folder is


def make_own_folder(out: Path, *, command: str, parts: Iterable[str]) -> None:
    """A folder with the command's mark, without the folders ``parts`` of an earlier run.

    Raises:
        HANError: There are things there that the command did not make, or nothing can be written there.
    """
    mark = json.dumps({"made_by": command}) + "\n"
    try:
        if out.exists() and not (out.is_dir() and (_text(out / MARK) == mark or not any(out.iterdir()))):
            raise HANError(f"{out}: is not a folder that an earlier {command} made; choose another with --out")
        for part in parts:
            if (out / part).exists():
                shutil.rmtree(out / part)
        out.mkdir(parents=True, exist_ok=True)
        (out / MARK).write_text(mark, encoding="utf-8")
    except OSError as error:
        raise HANError(f"{out}: cannot be written ({error.strerror})") from None


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""
