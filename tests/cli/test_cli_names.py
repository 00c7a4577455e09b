"""Names of files with line breaks and codes for terminals: what is printed breaks no line and acts on no terminal."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import pytest
from commands import run_han
from tiny_index import FakeDetector, make_model, make_photo

from han_retrieval.cli.names import path_line, printable

pytestmark = pytest.mark.skipif(os.name == "nt", reason="these are no names there")

NAMES = [
    "plain.png",
    "line\nbreak.png",
    "\x1b[31mred.png",
    '"quoted".png',
    "b\\slash.png",
    "\u202egnp.png",
    "\x9bm.png",
]


@pytest.fixture
def han(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("han_retrieval.search.maker.detector_for", lambda fingerprint, **_: FakeDetector(fingerprint))
    monkeypatch.setattr("han_retrieval.cli.extract.load_detector", lambda name, *, regions: FakeDetector())
    make_model(tmp_path / "model")
    for seed, name in enumerate(NAMES):
        make_photo(tmp_path / "photos" / name, seed)
    (tmp_path / "photos" / "\x1b]0;title\x07\n.jpg").write_text("no photo")
    (tmp_path / "photos" / "\x1b[2J.jpg").symlink_to("nowhere")
    han = partial(run_han, capsys)
    code, out, err = han("index", tmp_path / "photos", "--out", tmp_path / "index", "--model", tmp_path / "model")
    assert code == 0
    return han, out, err


def is_harmless(text):
    return not any(each in text for each in "\x1b\x07\x9b\u202e\0")


def test_paths_can_be_read_back(tmp_path, han):
    run, *printed = han
    assert all(map(is_harmless, printed))
    assert "\\x1b]0;title\\x07\\n.jpg: not an image" in printed[1]
    assert "\\x1b[2J.jpg: is a link to nothing" in printed[1]
    wanted = {str(tmp_path / "photos" / name) for name in NAMES}
    for verb, what in (("search", "a red dog"), ("similar", tmp_path / "photos" / "plain.png")):
        found = wanted if verb == "search" else wanted - {str(what)}
        _, out, _ = run(verb, tmp_path / "index", what, "--paths", "--exact")
        lines = out.split("\n")[:-1]
        assert {json.loads(line) if line.startswith('"') else line for line in lines} == found
        assert is_harmless(out)
        _, out, _ = run(verb, tmp_path / "index", what, "-0", "--exact")
        assert set(out.split("\0")[:-1]) == found
        _, out, _ = run(verb, tmp_path / "index", what, "--exact")
        assert out.count("\n") == len(found)
        assert is_harmless(out)
    code, _, err = run("search", tmp_path / "index", "a dog", "--paths", "--null")
    assert (code, err) == (2, "han: error: --paths and --null are two ways to print: choose one\n")
    assert is_harmless(run("info", tmp_path / "index")[1])
    code, out, err = run(
        "extract", tmp_path / "photos", "--out", tmp_path / "features", "--detector", "grid", "--regions", 1
    )
    assert code == 0
    assert is_harmless(out + err)


def test_a_photo_that_cannot_be_read_is_named_once(tmp_path, han):
    run, *_ = han
    code, out, err = run("similar", tmp_path / "index", tmp_path / "photos" / "\x1b]0;title\x07\n.jpg")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert is_harmless(err)


def test_what_is_printable_stays():
    for name in ("/Zürich 東京/👩\u200d👧.jpg", "/a'b/-rf \u00a0.jpg"):
        assert printable(name) == path_line(Path(name)) == name
