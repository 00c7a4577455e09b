"""What the README says holds: its Python runs word for word, its links lead somewhere."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import han_retrieval as han

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_example_runs_where_its_files_are(tmp_path, monkeypatch):
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (3, 120, 160, 3), dtype=np.uint8)
    a, b, pil_image = (Image.fromarray(pixels) for pixels in noise)
    a.save("a.jpg")
    Path("photos").mkdir()
    a.save("photos/a.jpg")
    b.save("photos/b.jpg")
    index = han.Index.create("index", han.load())
    index.add("photos")
    printed = io.StringIO()
    names = {"pil_image": pil_image}
    with contextlib.redirect_stdout(printed):
        exec(compile(code[1], "README.md", "exec"), names)

    assert names["scores"].shape == (2, 1)
    assert Image.open("evidence.png").size > (0, 0)
    lines = [line.split(" ", 1) for line in printed.getvalue().splitlines()]
    assert sorted(Path(path).name for _, path in lines) == ["a.jpg", "b.jpg"]
    assert [float(score) for score, _ in lines] == sorted((float(score) for score, _ in lines), reverse=True)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_links_and_paths_lead_to_files(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    linked = [target for target in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in target]
    named = re.findall(r"`((?:docs|examples|research|src|tests)/[\w./-]*)`", text)
    assert [target for target in linked + named if not (ROOT / target).exists()] == []
