"""The scripts beside the package still fit it: each is imported, so that a name that has gone is found here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("folder", ["benchmarks", "research"])
def test_scripts_can_be_imported(folder):
    names = sorted(path.stem for path in (ROOT / folder).glob("*.py") if path.stem != "__init__")
    assert names
    package = "" if folder == "benchmarks" else f"{folder}."
    code = (
        "import importlib, sys\n"
        f"sys.path[:0] = {[str(ROOT), str(ROOT / folder)]!r}\n"
        f"for name in {names!r}:\n"
        f"    importlib.import_module({package!r} + name)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
