"""``han doctor PATH``: what a folder is, whether it is sound, and what is done about damage."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from commands import run_han
from damaging import RANDOM, damaged_copy, without_checksums
from tiny_detector import tiny_network
from tiny_index import make_model, make_photos, update
from training_data import interrupted_at, make_data, same_run, small_config

from han_retrieval.errors import HANError
from han_retrieval.matchers import load_matcher, model_folder
from han_retrieval.regions.bottom_up import load_network, save_detector
from han_retrieval.training import train
from han_retrieval.training.checkpoint import save_checkpoint
from han_retrieval.training.pretraining import pretrain_text
from han_retrieval.training.text_weights import load_pretrained_text


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    """A training that was stopped in its second epoch."""
    out = tmp_path_factory.mktemp("run") / "model"
    with interrupted_at(12):
        train(small_config(checkpoint_minutes=1e-9), *data, out, progress=False)
    return out


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> Path:
    network, folder = tiny_network(), tmp_path_factory.mktemp("detector") / "detector"
    save_detector(folder, network.config, network.learned(), card="# A card\n")
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    captions = [("a red ball", "the ball is red"), ("two dogs in snow", "dogs in the snow"), ("a car", "one car")]
    return pretrain_text(
        small_config(epochs=1, batch_size=2), captions, tmp_path_factory.mktemp("texts") / "texts", progress=False
    )


def test_each_kind_is_recognised(capsys, data, run, detector, texts):
    for path, kind in (
        (data[1].path, "region store"),
        (run, "model and training run"),
        (detector, "detector"),
        (texts, "text encoder and training run"),
        ("default", "model and backbone"),
    ):
        code, out, _ = run_han(capsys, "doctor", path, "--json")
        found = json.loads(out)
        assert (code, found["kind"], found["damages"]) == (0, kind, [])
    code, out, err = run_han(capsys, "doctor", run)
    assert code == 0
    assert out.splitlines()[0] == f"{run}: model and training run"
    assert "checked size and SHA-256 of vocabulary.json, config.json, model.safetensors" in out
    assert out.splitlines()[-1] == "sound"
    assert err == f"checking {run}\n"


@pytest.mark.parametrize("name", ["nothing", "empty", "training/a file"])
def test_what_cannot_be_checked(capsys, tmp_path, name):
    (tmp_path / "empty/training").mkdir(parents=True)
    (tmp_path / "empty/training/a file").write_text("of another program")
    code, out, err = run_han(capsys, "doctor", tmp_path / name)
    assert (code, out) == (2, "")
    assert err.startswith(f"checking {tmp_path / name}\nhan: error: {tmp_path / name}: ")
    assert run_han(capsys, "doctor", "--repair") == (2, "", "han: error: --repair, --accept and --json go with PATH\n")


def test_damage_is_named_and_a_change_accepted(capsys, run, tmp_path):
    model = shutil.copytree(run, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "alignment_temperature": 3.0}, indent=4))
    code, out, _ = run_han(capsys, "doctor", model)
    assert code == 1
    (line,) = [line for line in out.splitlines() if line.startswith("DAMAGED")]
    assert line == (
        f"DAMAGED {model / 'config.json'}: is longer than it was written: {(model / 'config.json').stat().st_size} "
        f"bytes instead of {(run / 'config.json').stat().st_size}; copy it again from where it came; if it was changed "
        f"on purpose: `han doctor {model} --accept`"
    )
    assert out.splitlines()[-1] == "not sound"
    code, out, _ = run_han(capsys, "doctor", model, "--accept")
    assert code == 0
    assert "accepted config.json as it is" in out
    assert load_matcher(model).config.alignment_temperature == 3.0


def test_a_folder_without_checksums_gets_some(capsys, run, tmp_path):
    without_checksums(shutil.copytree(run, tmp_path / "model"))
    code, out, _ = run_han(capsys, "doctor", tmp_path / "model")
    assert code == 0
    assert "checked that it loads\n" in out
    assert "not checked: whether its files are as they were written: it has no checksums.json; `han doctor" in out
    weights = tmp_path / "model/model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4])
    code, out, _ = run_han(capsys, "doctor", tmp_path / "model")
    assert code == 1
    assert "model.safetensors: not a whole safetensors file" in out
    weights.write_bytes(whole)
    assert run_han(capsys, "doctor", tmp_path / "model", "--accept")[0] == 0
    assert "size and SHA-256 of" in run_han(capsys, "doctor", tmp_path / "model")[1]


def test_a_part_may_be_named(capsys, run, tmp_path):
    """Messages on a part name its own folder."""
    whole = model_folder("default")
    shutil.copytree(whole, tmp_path / "default")
    for part, kind in ((tmp_path / "default" / "backbone", "backbone"), (run / "training", "training run")):
        code, out, _ = run_han(capsys, "doctor", part, "--json")
        found = json.loads(out)
        assert (code, found["kind"], found["damages"]) == (0, kind, [])
    weights = tmp_path / "default" / "backbone" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    code, out, _ = run_han(capsys, "doctor", weights.parent)
    assert code == 1
    assert f"DAMAGED {weights}: " in out


@pytest.mark.parametrize("way", [*RANDOM, "missing", "folder"])
def test_detectors_and_text_encoders(capsys, detector, texts, tmp_path, way):
    for folder, load in ((detector, load_network), (texts, load_pretrained_text)):
        for name in {path.name for path in folder.iterdir() if path.is_file()} - {"README.md", "checksums.json"}:
            damaged = damaged_copy(folder, tmp_path / f"{folder.name}-{name}", name, way)
            with pytest.raises(HANError, match=name.replace(".", r"\.")):
                load(damaged)
            code, out, _ = run_han(capsys, "doctor", damaged)
            assert code == 1
            assert f"DAMAGED {damaged / name}: " in out


@pytest.mark.parametrize("way", [*RANDOM, "missing", "folder"])
@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "checksums.json"])
def test_a_damaged_checkpoint_is_refused_and_put_aside(capsys, data, run, tmp_path, name, way):
    """Without checksums a checkpoint is read as it is; so it is where the list alone is missing."""
    (checkpoint,) = (run / "training").glob("checkpoint-*")
    model = damaged_copy(run, tmp_path / "model", f"training/{checkpoint.name}/{name}", way)
    if (name, way) == ("checksums.json", "missing"):
        assert run_han(capsys, "doctor", model)[0] == 0
        return
    code, out, _ = run_han(capsys, "doctor", model)
    if code == 0:  # white space, or a letter of the name of a file
        assert name == "checksums.json"
        return
    assert f"DAMAGED {model / 'training' / checkpoint.name}" in out
    with pytest.raises(HANError, match="delete this checkpoint: --resume then goes on"):
        train(small_config(checkpoint_minutes=1e-9), *data, model, resume=True, progress=False)
    code, out, _ = run_han(capsys, "doctor", model, "--repair")
    assert code == 0
    assert "--resume goes on from an older one, or begins anew" in out
    assert (model / f"training/damaged-{checkpoint.name}").is_dir()


def test_a_run_goes_on_from_an_older_checkpoint_that_is_sound(data, run, tmp_path, capsys):
    config = small_config(checkpoint_minutes=1e-9)
    train(config, *data, tmp_path / "unbroken", progress=False)
    model = shutil.copytree(run, tmp_path / "model")
    (older,) = (model / "training").glob("checkpoint-*")
    newer = shutil.copytree(older, older.with_name("checkpoint-000000999"))
    (newer / "tensors.safetensors").write_bytes(b"half")
    train(config, *data, model, resume=True, progress=False)
    assert "checkpoint-000000999/tensors.safetensors: is cut off" in capsys.readouterr().err
    assert same_run(model, tmp_path / "unbroken")
    assert not newer.exists()


def test_checkpoints_of_earlier_versions(data, run, tmp_path):
    """They have no checksums; what is wrong with one is a line all the same."""
    model = shutil.copytree(run, tmp_path / "model")
    (checkpoint,) = (model / "training").glob("checkpoint-*")
    without_checksums(checkpoint)
    state = json.loads((checkpoint / "state.json").read_text())
    for wrong in (
        "[" * 100_000,
        "[]",
        "{}",
        json.dumps({**state, "facts": None}),
        json.dumps({**state, "step": "many"}),
        json.dumps({**state, "best": 3}),
    ):
        (checkpoint / "state.json").write_text(wrong)
        with pytest.raises(HANError, match="checkpoint-"):
            train(small_config(checkpoint_minutes=1e-9), *data, model, resume=True, progress=False)
    (checkpoint / "state.json").write_text(json.dumps(state))
    train(small_config(checkpoint_minutes=1e-9), *data, model, resume=True, progress=False)


def test_metrics_that_are_damaged_are_left_out(data, run, tmp_path, capsys):
    model = shutil.copytree(run, tmp_path / "model")
    metrics = model / "training/metrics.jsonl"
    lines = metrics.read_bytes().splitlines(keepends=True)
    metrics.write_bytes(b"".join([lines[0], b"\0\xff\n", *lines[2:]]))
    code, out, _ = run_han(capsys, "doctor", model)
    assert code == 1
    assert f"DAMAGED {metrics}: 1 lines are damaged, the first is line 2; harmless: " in out
    train(small_config(checkpoint_minutes=1e-9), *data, model, resume=True, progress=False)
    assert "metrics.jsonl: 1 damaged lines are left out" in capsys.readouterr().err
    kept = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [record["step"] for record in kept if "loss" in record][:3] == [1, 3, 4]
    assert run_han(capsys, "doctor", model)[0] == 0


def test_what_a_killed_process_left_is_swept(capsys, run, tmp_path):
    model = shutil.copytree(run, tmp_path / "model")
    old, new = model / ".model.safetensors.123", model / ".model.safetensors.456"
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (0, 0))
    code, out, _ = run_han(capsys, "doctor", model, "--repair")
    assert code == 0
    assert f"deleted {old}, " in out
    assert not old.exists()
    assert new.exists()  # another process may be at it
    load_matcher(model).save_pretrained(model)
    assert not new.exists()


def test_older_checkpoints_are_deleted(tmp_path):
    for step in (3, 20, 9):
        save_checkpoint(tmp_path, {}, {"step": step})
        assert [path.name for path in tmp_path.iterdir()] == [f"checkpoint-{step:09d}"]


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("index")
    update(make_photos(folder / "photos", 5), folder / "index", make_model(folder / "model"))
    return folder / "index"


@pytest.mark.parametrize("kind", ["index", "region store"])
def test_tables_are_checked_and_mended(capsys, data, index, tmp_path, kind):
    folder = shutil.copytree({"index": index, "region store": data[1].path}[kind], tmp_path / "table")
    code, out, _ = run_han(capsys, "doctor", folder)
    assert (code, out.splitlines()) == (
        0,
        [f"{folder}: {kind}", "checked the files and the rows of its newest version", "sound"],
    )
    (file,) = folder.rglob("*.lance") if kind == "region store" else folder.glob("photos-1/data/*.lance")
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)
    code, out, _ = run_han(capsys, "doctor", folder)
    assert code == 1
    assert f"DAMAGED {file}: " in out
    assert "`han doctor --repair" in out
    code, out, _ = run_han(capsys, "doctor", folder, "--repair")
    assert (code, out.splitlines()[-1]) == (0, "sound")
    assert run_han(capsys, "doctor", folder)[0] == 0


def test_an_index_without_its_settings_is_damaged(capsys, index, tmp_path):
    folder = shutil.copytree(index, tmp_path / "index")
    (folder / "index.json").unlink()
    code, out, _ = run_han(capsys, "doctor", folder)
    assert code == 1
    assert f"DAMAGED {folder / 'index.json'}: " in out
