"""``han search`` finds without torch what it finds with it, and loads no torch for it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from commands import run_han
from tiny_index import FakeDetector, make_model, make_photos

from han_retrieval.light.search import LightSearch
from han_retrieval.matchers.saving import folder_hash
from han_retrieval.search import Index, index_photos, parse_query
from han_retrieval.search.calibration import Calibration
from han_retrieval.search.pooling import TEXT_MAP


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return made_in(tmp_path_factory.mktemp("light"))


def made_in(folder):
    make_photos(folder / "photos", 9)
    index_photos([folder / "photos"], folder / "index", model=make_model(folder / "model"), detector=FakeDetector())
    return folder / "index"


def test_a_damaged_map_is_left_to_what_says_so(tmp_path):
    index = made_in(tmp_path)
    with Index.open(index) as photos:
        assert LightSearch.open(photos, None)
        (tmp_path / "model" / TEXT_MAP).write_bytes(b"no tensors")
        assert LightSearch.open(photos, None) is None


HOW = {"k": 4, "candidates": 6, "where": None, "exact": False}


@pytest.mark.parametrize("query", ["a red dog", '"a red dog" - 0.5 * "cat"', "dog -cat", "a red zebra"])
@pytest.mark.parametrize("how", [{}, {"exact": True}, {"where": "path > '003'"}, {"where": "width < 0"}, {"k": 50}])
def test_hits_are_those_of_the_index(index, query, how):
    parts = parse_query(query)
    with Index.open(index) as photos:
        wanted = photos.search(parts, **HOW | how)
        found = LightSearch.open(photos, None).search(parts, **HOW | how)
    assert [hit.path for hit in found] == [hit.path for hit in wanted]
    np.testing.assert_allclose([hit.score for hit in found], [hit.score for hit in wanted], atol=1e-5)
    assert found.nothing_matches == wanted.nothing_matches
    assert found.seconds.keys() == wanted.seconds.keys() or not found


@pytest.mark.parametrize(
    ("query", "knows"),
    [
        ("a red dog", True),
        ("the red dog", True),
        ("a cat and a zebra", False),
        ("a zebra", False),
    ],
)
def test_probabilities_are_those_of_the_index(tmp_path, query, knows):
    index, model = made_in(tmp_path), tmp_path / "model"
    Calibration(
        slope=3.0, intercept=-1.0, threshold=0.2, precision=1, recall=1, answered_without=0, error=0, reliability=(),
        split=None, photos=9, sentences=1, shown=1, pairs=1, model=folder_hash(model),
    ).write(model)  # fmt: skip
    with Index.open(index) as photos:
        wanted = photos.search(query, k=9)
        found = LightSearch.open(photos, None).search(parse_query(query), **HOW | {"k": 9})
    assert (wanted[0].probability is not None) == knows
    assert found.nothing_matches == wanted.nothing_matches
    for one, other in zip(found, wanted, strict=True):
        assert one.match == other.match
        assert one.probability == (None if not knows else pytest.approx(other.probability, abs=1e-5))


def test_the_command_loads_no_torch_and_no_numba(index):
    code = (
        "import sys\nfrom han_retrieval.cli.main import main\n"
        f"main(['search', {str(index)!r}, 'a red dog', '-k', '2'])\n"
        "print({'torch', 'numba', 'torchvision', 'timm'} & {*sys.modules})"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[-1] == "set()"
    assert len(found.stdout.splitlines()) == 3


def test_the_command_says_the_same_either_way(index, capsys, monkeypatch):
    asked = [
        ("search", str(index), "a red dgo"), ("search", str(index), "zebra"), ("search", str(index), "a -dog"),
        ("search", str(index), "a dog", "--where", "width < 0"), ("search", str(index), "a dog", "--where", "nonsense"),
        ("search", str(index), "1000000000 * \"a dog\" - \"a\""), ("search", str(index), "a dog", "--model", "nowhere"),
        ("search", str(index.parent), "a dog"), ("search", str(index), "ein a Hund"),
    ]  # fmt: skip
    light = [run_han(capsys, *each) for each in asked]
    monkeypatch.setattr(LightSearch, "open", lambda *_: None)
    assert light == [run_han(capsys, *each) for each in asked]


def test_an_index_of_another_model_is_left_to_torch(index, tmp_path):
    other = make_model(tmp_path / "other", seed=1)
    with Index.open(index) as photos:
        assert LightSearch.open(photos, str(other)) is None
        photos.made_by = dataclasses.replace(photos.made_by, pooling="pooled")
        assert LightSearch.open(photos, None) is None
