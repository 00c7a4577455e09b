"""Peers are trained, resumed, saved, loaded and evaluated as a HAN is."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from training_data import interrupted_at, make_data, small_config

from han_retrieval.errors import HANError
from han_retrieval.evaluation import evaluate
from han_retrieval.matchers import load_matcher, matcher_class
from han_retrieval.training import train
from han_retrieval.training.log import read_log

OPTIONS = {
    "scan": {"alignment": "regions", "pooling": "lse"},
    "vse++": {},
    "vse-infinity": {"position_size": 4},
    "maxsim": {},
}
AFTER = {"scan": "ECCV 2018", "vse++": "BMVC 2018", "vse-infinity": "CVPR 2021", "maxsim": "ColBERT"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("name", OPTIONS)
def test_it_learns_resumes_exactly_and_is_evaluated(data, tmp_path, monkeypatch, name):
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("red 1 2 3\nball -1 0 1\n")
    model = {"matcher": name, "word_size": 8, "joint_size": 16, **OPTIONS[name]}
    config = small_config(epochs=4, learning_rate=1e-2, word_vectors=str(vectors), model=model)
    unbroken = train(config, *data, tmp_path / "unbroken", progress=False)
    with interrupted_at(11):
        train(config, *data, tmp_path / "model", progress=False)
    train(config, *data, tmp_path / "model", resume=True, progress=False)
    left, right = (load_file(tmp_path / folder / "model.safetensors") for folder in ("unbroken", "model"))
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left)

    losses = [record["loss"] for record in read_log(tmp_path / "model/training/metrics.jsonl") if "loss" in record]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    loaded = load_matcher(tmp_path / "model")
    assert type(loaded) is matcher_class(name)
    assert loaded.config.detector_fingerprint == "made-up-1"
    found = evaluate(loaded, data[0].split("dev"), data[1], progress=False)
    assert found.rsum == pytest.approx(unbroken.rsum)
    card = (tmp_path / "model/README.md").read_text()
    assert "made-up-1" in card
    assert AFTER[name] in card
    assert "load_matcher" in card


def test_a_run_of_a_han_that_names_no_matcher_goes_on(data, tmp_path):
    config = small_config(epochs=1)
    train(config, *data, tmp_path / "model", progress=False)
    file = tmp_path / "model/training/config.json"
    fields = json.loads(file.read_text())
    del fields["model"]["matcher"]
    file.write_text(json.dumps(fields))
    train(config, *data, tmp_path / "model", resume=True, progress=False)
    assert json.loads(file.read_text())["model"]["matcher"] == "han"
    other = small_config(epochs=1, model={"matcher": "vse++", "word_size": 8, "joint_size": 16})
    with pytest.raises(HANError, match="another configuration"):
        train(other, *data, tmp_path / "model", resume=True, progress=False)
    file.write_text(json.dumps({**json.loads(file.read_text()), "average": 0.9}))
    with pytest.raises(HANError, match=r"another configuration .*config\.json: average is now called ema_decay"):
        train(config, *data, tmp_path / "model", resume=True, progress=False)
    file.write_text("{")
    with pytest.raises(HANError, match=r"config\.json, line 1: broken JSON"):
        train(config, *data, tmp_path / "model", resume=True, progress=False)
