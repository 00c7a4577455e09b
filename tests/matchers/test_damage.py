"""A damaged file of a model is never used in silence: the model is loaded as it was, or one line names the file."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from damaging import RANDOM, WAYS, damaged_copy, outcome, without_checksums
from matchers_of_all_kinds import NAMES, SENTENCES, random_images, small_matcher

from han_retrieval.errors import ModelError, StoreError
from han_retrieval.files import BACKBONE_FOLDER
from han_retrieval.matchers import load_matcher
from han_retrieval.matchers.saving import folder_hash, model_folder
from han_retrieval.search.calibration import Bin, Calibration
from han_retrieval.search.pooling import TextMap
from han_retrieval.storage import folder_checksums
from han_retrieval.storage.folder_checksums import NAME, accept_files, check_files, write_files

FILES = ["config.json", "model.safetensors", "vocabulary.json", "README.md", NAME]
BESIDE = ["calibration.json", "candidates.safetensors"]


def saved(folder: Path, name: str) -> Path:
    """A small matcher's folder with everything that it may hold."""
    model = small_matcher(name)
    model.save_pretrained(folder, card="# A card\n")
    shares = dict.fromkeys(("slope", "intercept", "threshold", "precision", "recall", "answered_without", "error"), 0.5)
    counts = dict.fromkeys(("photos", "sentences", "shown", "pairs"), 7)
    bins = (Bin(probability=0.25, right=0.5, pairs=2),)
    Calibration(**shares, **counts, reliability=bins, split="dev", model=folder_hash(folder)).write(folder)
    size = model.config.joint_size
    TextMap(torch.eye(size), torch.arange(size) / 8).write(folder, model=folder_hash(folder))
    return folder


def used(folder: Path) -> list[Any]:
    """What a model's folder gives: scores, the calibration, the map for candidates."""
    model = load_matcher(folder)
    found = TextMap.read(folder, model=folder_hash(folder), size=model.config.joint_size)
    calibration = Calibration.read(folder)
    with torch.inference_mode():
        scores = model.similarity(*random_images(model.config.matcher, 3, 4), *model.words(SENTENCES))
    return [scores, *((found.weight, found.bias) if found else ()), calibration and calibration.model_dump_json()]


def same(left: list[Any], right: list[Any]) -> bool:
    return len(left) == len(right) and all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(left, right, strict=True)
    )


@pytest.fixture(scope="module", params=NAMES)
def model(request, tmp_path_factory):
    folder = saved(tmp_path_factory.mktemp("models") / request.param.replace("+", "p"), request.param)
    return folder, used(folder)


def check_is_never_silent(model: tuple[Path, list[Any]], copy: Path, name: str, way: str, *, seed: int = 0) -> None:
    folder, whole = model
    damaged_copy(folder, copy, name, way, seed=seed)
    found, refused = outcome(used, copy)
    if refused:
        assert name in refused or name == NAME
        assert "\n" not in refused
    else:
        assert same(found, whole)
        assert name in ("README.md", NAME), "the damage of a file that is used was not noticed"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*FILES, *BESIDE])
def test_damage_is_named_or_harmless(model, tmp_path, name, way):
    check_is_never_silent(model, tmp_path / "copy", name, way)


@pytest.mark.slow
@pytest.mark.parametrize("way", RANDOM)
@pytest.mark.parametrize("name", [*FILES, *BESIDE])
def test_damage_at_many_places_is_named_or_harmless(model, tmp_path, name, way):
    for seed in range(1, 60):
        check_is_never_silent(model, tmp_path / str(seed), name, way, seed=seed)


@pytest.mark.parametrize("way", RANDOM)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocabulary.json", *BESIDE])
@pytest.mark.parametrize("model", ["vse-infinity"], indirect=True)
def test_a_folder_without_checksums_gives_no_traceback(model, tmp_path, name, way):
    """As versions before wrote it: damage that does not show is used, as there is nothing to tell it by."""
    folder, whole = model
    for seed in range(3):
        copy = without_checksums(damaged_copy(folder, tmp_path / str(seed), name, way, seed=seed))
        assert "\n" not in outcome(used, copy)[1]
    assert same(used(without_checksums(damaged_copy(folder, tmp_path / "copy", "README.md", "missing"))), whole)


def test_what_is_said_of_a_damaged_file(tmp_path):
    folder = saved(tmp_path / "model", "han")
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:1024])
    with pytest.raises(ModelError, match=rf"model\.safetensors: is cut off or was changed: 1,024 of {len(content):,} "):
        load_matcher(folder)
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelError, match=r"model\.safetensors: is damaged or was changed: .* copy it again") as error:
        load_matcher(folder)
    assert f"`han doctor {folder} --accept`" in str(error.value)
    (folder / "calibration.json").unlink()
    with pytest.raises(ModelError, match=r"calibration\.json: is missing; .* with `han calibrate`"):
        Calibration.read(folder)


def test_a_change_on_purpose_is_accepted(tmp_path):
    folder = saved(tmp_path / "model", "han")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "alignment_temperature": 3.0}))
    with pytest.raises(ModelError, match=r"config\.json: .*was changed"):
        load_matcher(folder)
    accept_files(folder, ["config.json", "model.safetensors", "vocabulary.json"])
    assert load_matcher(folder).config.alignment_temperature == 3.0


def test_what_ships_is_whole():
    model = model_folder("default")
    for folder in (model, model / BACKBONE_FOLDER, model.parent / "bottom_up"):
        listed = folder_checksums.listed_files(folder)
        assert listed is not None
        assert set(listed) == {path.name for path in folder.iterdir()} - {"README.md", NAME, BACKBONE_FOLDER}
        assert check_files(folder, listed) == []


OLD = {"a": b"old", "b": b"old too", "c": b"kept"}
NEW = {"a": b"new", "b": b"new as well"}


@pytest.mark.parametrize("times", range(4))
def test_a_kill_between_two_files(tmp_path, monkeypatch, times):
    """After so many of four writes, each of which is whole: the list, two files, the list without what was before."""
    write_files(tmp_path, OLD)
    write, written = folder_checksums.write_whole, []

    def killing(path, content):
        if len(written) == times:
            raise KeyboardInterrupt
        written.append(path)
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(folder_checksums, "write_whole", killing)
        with pytest.raises(KeyboardInterrupt):
            write_files(tmp_path, NEW)
    damages = [str(each) for each in check_files(tmp_path, ["a", "b", "c"])]
    if times == 2:  # one of the two is new
        assert damages == [
            f"{tmp_path}: holds files of two writings (a, b): the last was stopped in between; write them all again, "
            "with the command that was stopped"
        ]
    else:
        assert damages == []
    assert check_files(tmp_path, ["c"]) == []
    (tmp_path / "b").write_bytes(b"neither")
    assert any(str(tmp_path / "b") in str(each) for each in check_files(tmp_path, ["a", "b"]))
    write_files(tmp_path, NEW)  # the same again
    assert check_files(tmp_path, ["a", "b", "c"]) == []
    assert folder_checksums.listed_files(tmp_path).keys() == OLD.keys()
    (tmp_path / "c").write_bytes(b"other")
    assert len(check_files(tmp_path, ["a", "b", "c"])) == 1


def test_a_file_that_cannot_be_read_is_not_replaced_in_silence(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    WAYS["unreadable"](tmp_path / "a", random.Random())
    with pytest.raises(StoreError, match="a: cannot be read"):
        write_files(tmp_path, NEW)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_list_names_no_file_elsewhere(tmp_path):
    write_files(tmp_path, OLD)
    text = (tmp_path / NAME).read_text()
    (tmp_path / NAME).write_text(text.replace('"a"', '"../a"'))
    assert [each.path for each in check_files(tmp_path, ["b"])] == [tmp_path / NAME]


PROGRAM = """
import resource, sys
import torch
from han_retrieval.errors import HANError
from han_retrieval.matchers import load_matcher
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for folder in sys.argv[1:]:
    try:
        load_matcher(folder)
    except HANError as error:
        print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux does")
def test_absurd_sizes_take_no_memory(tmp_path):
    folders = []
    for sizes in ({"word_size": 2_000_000}, {"joint_size": 30_000}, {"region_size": 10**30}):
        folder = without_checksums(saved(tmp_path / "-".join(sizes), "han"))
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **sizes}))
        folders.append(folder)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *folders],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *messages, kibibytes = done.stdout.splitlines()
    assert len(messages) == len(folders)
    for folder, message in zip(folders, messages, strict=True):
        assert message.startswith(f"{folder}/model.safetensors: ") or message.startswith(f"{folder}/config.json: ")
    assert int(kibibytes) < 2**20
