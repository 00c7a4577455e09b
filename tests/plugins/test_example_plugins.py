"""The example plug-ins, installed into an environment of their own and used by name through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples" / "plugins"
COLOURS = {"red": (200, 30, 30), "green": (30, 180, 40), "blue": (30, 40, 200), "grey": (120, 120, 120)}


@pytest.fixture(scope="module")
def han(tmp_path_factory):
    """Runs the command in a virtual environment that has this one's packages and the examples."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=os.name != "nt")
    paths = {name: Path(sysconfig.get_path(name, vars={"base": str(folder)})) for name in ("purelib", "scripts")}
    ours = [path for path in sys.path if path and Path(path).is_dir()]
    lines = [f"import site; site.addsitedir({path!r})" for path in ours]
    (paths["purelib"] / "parent.pth").write_text("\n".join(lines) + "\n")
    python = next(path for path in paths["scripts"].glob("python*") if path.stem == "python")
    install = ["install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", str(EXAMPLES)]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *install], check=True)

    def run(*args, cwd, fails=False):
        result = subprocess.run(
            [str(python), "-m", "han_retrieval", *args], cwd=cwd, capture_output=True, text=True, encoding="utf-8"
        )
        assert (result.returncode == 2) if fails else (result.returncode == 0), result.stderr
        return result.stderr if fails else result.stdout

    return run


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    lines = []
    for number in range(32):
        left, right = random.choice(list(COLOURS), 2)
        pixels = np.empty((32, 48, 3), np.uint8)
        pixels[:, :24], pixels[:, 24:] = COLOURS[left], COLOURS[right]
        Image.fromarray(pixels).save(folder / f"{number}.png")
        lines += [f"{number}.png\t{left} left of {right}", f"{number}.png\ta {right} half and a {left} one"]
    (folder / "pairs.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_all_four_are_used_by_name(han, photos, tmp_path):
    listed = {(row["kind"], row["name"]): row for row in json.loads(han("plugins", "--json", cwd=tmp_path))}
    parts = {
        "detectors": "quadrants",
        "matchers": "best-region",
        "text_encoders": "bag-of-words",
        "datasets": "pairs",
    }
    for part in parts.items():
        assert listed[part]["package"] == "han-examples 0.1.0"
        assert listed[part]["error"] is None
    han("extract", str(photos), "--out", "features", "--detector", "quadrants", cwd=tmp_path)
    settings = {"model.text_encoder": "bag-of-words", "model.joint_size": 16, "epochs": 4, "batch_size": 8}
    options = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    arguments = ["train", str(photos), "--features", "features", "--out", "model", "--matcher", "best-region"]
    assert json.loads(han(*arguments, *options, cwd=tmp_path))["model"] == "model"
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (config["matcher"], config["text_encoder"]) == ("best-region", "bag-of-words")
    assert config["detector_fingerprint"] == "quadrants-1-5"
    evaluated = [
        "evaluate",
        "model",
        str(photos),
        "--features",
        "features",
        "--split",
        "train",
        "--json",
        "result.json",
    ]
    han(*evaluated, cwd=tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["text_to_image"]["R@10"] > 0
    said = han("extract", str(photos), "--out", "more", "--detector", "quadrant", cwd=tmp_path, fails=True)
    assert "no detector is called 'quadrant'; did you mean 'quadrants'?" in said
    assert "takes nothing behind a colon" in han(
        "extract", str(photos), "--out", "more", "--detector", "quadrants:x", cwd=tmp_path, fails=True
    )
    said = han("index", str(photos), "--out", "index", "--model", "model", cwd=tmp_path, fails=True)
    assert "best-region" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("file", sorted((EXAMPLES / "han_examples").glob("*.py")), ids=lambda path: path.stem)
def test_each_is_read_in_a_minute(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 40
