"""Runs over hostile photos in a process of their own, which says how long each took and how much memory all took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tiny_index import FakeDetector

from han_retrieval.data import open_photo, read_dataset
from han_retrieval.errors import DataError
from han_retrieval.regions import Regions, extract
from han_retrieval.search import index_photos


class ThumbnailDetector(FakeDetector):
    """Looks at a photo in little memory."""

    def regions(self, photo: Any) -> Regions:
        return replace(super().regions(photo.resize((16, 16))), width=photo.width, height=photo.height)


def run(*verbs: str, photos: Path, out: Path, model: Path, timeout: float) -> dict[str, dict[str, Any]]:
    """What each verb gives, and ``megabytes``: by how much the most memory that the process took had grown then."""
    command = [sys.executable, str(Path(__file__)), *map(str, (photos, out, model)), *verbs]
    done = subprocess.run(command, capture_output=True, timeout=timeout, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-2000:]
    reports = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]
    return dict(zip(verbs, reports, strict=True))


def _open(folder: Path) -> dict[str, Any]:
    """For each file its size or why it is refused, and the seconds."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            continue
        started = time.monotonic()
        try:
            result: Any = open_photo(path).size
        except DataError as error:
            result = str(error)
        found[os.fsencode(path.name).decode(errors="replace")] = [result, time.monotonic() - started]
    return found


def index_all(photos: Path, out: Path, model: Path) -> dict[str, Any]:
    return asdict(index_photos([photos], out / "index", model=model, detector=ThumbnailDetector()))


def extract_all(photos: Path, out: Path) -> dict[str, Any]:
    return asdict(extract(read_dataset(photos, format="photos"), ThumbnailDetector(), out / "features"))


def _peak() -> int:
    """The most memory that this process ever took, in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1000


def _main(photos: Path, out: Path, model: Path, verbs: list[str]) -> None:
    before = _peak()
    for verb in verbs:
        if verb == "open":
            report = {"opened": _open(photos)}
        else:
            report = extract_all(photos, out) if verb == "extract" else index_all(photos, out, model)
        print(json.dumps(report | {"megabytes": _peak() - before}))


if __name__ == "__main__":
    from han_retrieval.process import tune_process

    tune_process()
    _main(*map(Path, sys.argv[1:4]), sys.argv[4:])
