"""The README's code runs as it stands there, in the folder where the demo was made."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from han_retrieval.cli.main import main

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.slow
def test_python_example_prints_what_it_says(tmp_path, monkeypatch, capsys):
    code = re.search(r"```python\n(.*?)```\n\n```\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    monkeypatch.chdir(tmp_path)
    main(["demo"])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code[1], "README.md", "exec"), {})

    # Scores depend a little on the machine; the words and the form of the lines do not.
    def form(text: str) -> list[str]:
        return [re.sub(r"-?\d+(\.\d+)?|[^a-z0-9.]+", " ", line).split() for line in text.strip().splitlines()]

    assert form(printed.getvalue()) == form(code[2])
