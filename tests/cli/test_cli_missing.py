"""What is missing is said before torch is imported, which takes seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from han_retrieval.cli.main import COMMANDS

CASES = [
    ("index", "nowhere"),
    ("index",),
    ("search", "nowhere", "a dog"),
    ("search",),
    ("similar", "nowhere", "a.jpg"),
    ("caption", "nowhere", "a.jpg"),
    ("serve", "nowhere"),
    ("explain", "no.jpg", "a dog"),
    ("extract", "nowhere", "--out", "x"),
    ("extract",),
    ("extract", "nowhere.txt", "--model", "nowhere", "--out", "x"),
    ("extract", "--preview", "no.jpg"),
    ("train", "nowhere", "--features", "no", "--out", "x"),
    ("train", ".", "--features", "no", "--out", "x"),
    ("train", ".", "--features", "no", "--out", "x", "--config", "no.toml"),
    ("train",),
    ("train-text", "nowhere", "--out", "x"),
    ("train-text",),
    ("train-detector", "nowhere", "--entities", "no", "--out", "x"),
    ("train-detector",),
    ("evaluate", "default", "nowhere", "--features", "no", "--split", "dev"),
    ("evaluate", "default", "data", "--features", "no", "--split", "dev"),
    ("evaluate",),
    ("compare", "a.json", "b.json"),
    ("compare",),
    ("calibrate", "default", "nowhere", "--features", "no"),
    ("calibrate", "nowhere", "data", "--features", "no"),
    ("calibrate",),
    ("distil", "default", "nowhere", "--features", "no"),
    ("distil",),
    ("push", "nowhere", "user/name"),
    ("push", "default", "user/name", "--results", "no.json"),
    ("push",),
    ("demo", "--model", "nowhere"),
    ("info", "nowhere"),
    ("info",),
    ("doctor", "nowhere"),
]

PROGRAM = """
import json, sys
from han_retrieval.cli.main import main
for args in json.loads(sys.argv[1]):
    try:
        main(args)
        code = 0
    except SystemExit as stopped:
        code = stopped.code
    print(json.dumps([code, "torch" in sys.modules]), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """For each case the lines on stderr, the exit code, and whether torch is imported; all in one process."""
    folder = tmp_path_factory.mktemp("missing")
    (folder / "data").mkdir()
    (folder / "data" / "captions.csv").write_text("file,caption,split\na.jpg,a dog,dev\n")
    (folder / "data" / "a.jpg").write_bytes(b"")
    environment = {name: value for name, value in os.environ.items() if name != "WORLD_SIZE"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(CASES)], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.stdout == ""
    found, lines = [], []
    for line in done.stderr.splitlines():
        if line.startswith("["):
            found.append((lines, *json.loads(line)))
            lines = []
        else:
            lines.append(line)
    assert len(found) == len(CASES), done.stderr
    return dict(zip(CASES, found, strict=True))


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_what_is_missing_is_said_without_torch(said, case):
    lines, code, has_torch = said[case]
    assert code == 2
    assert lines[-1].startswith("han: error: ")
    assert not has_torch


def test_every_verb_that_reads_something_is_tried():
    assert {case[0] for case in CASES} == set(COMMANDS) - {"plugins"}
