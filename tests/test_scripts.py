"""The scripts beside the package still fit it: each is imported, so that a name that has gone is found here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


CHECKED = """
import importlib, sys
import click
from click.testing import CliRunner
for name in {names!r}:
    script = importlib.import_module({package!r} + name)
    if hasattr(script, "main"):  # the others are imported by these
        assert isinstance(script.main, click.Command), name
        assert CliRunner().invoke(script.main, ["--help"]).exit_code == 0, name
"""


@pytest.mark.parametrize("folder", ["benchmarks", "research"])
def test_scripts_can_be_imported_and_explain_their_options(folder):
    names = sorted(path.stem for path in (ROOT / folder).glob("*.py") if path.stem != "__init__")
    assert names
    package = "" if folder == "benchmarks" else f"{folder}."
    code = f"import sys; sys.path[:0] = {[str(ROOT), str(ROOT / folder)]!r}\n" + CHECKED.format(
        names=names, package=package
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "program", ["reliability MODEL x.png", "training_curve MODEL x.png", "calibration MODEL . --features ."]
)
def test_what_the_user_can_mend_is_one_line(program, tmp_path):
    name, *given = program.replace("MODEL", str(tmp_path / "none")).split()
    result = subprocess.run(
        [sys.executable, "-m", f"research.{name}", *given], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stderr.startswith(f"{name}: error: ")
    assert result.stderr.count("\n") == 1
