"""Saved is loaded, and a broken folder says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from damaging import without_checksums
from safetensors.torch import load_file

from han_retrieval.errors import HANError, ModelError
from han_retrieval.matchers import HAN, HANConfig, load_matcher, model_folder
from han_retrieval.text import Vocabulary


@pytest.fixture
def model() -> HAN:
    torch.manual_seed(0)
    vocabulary = Vocabulary.from_sentences(["a red ball", "two dogs in the snow"])
    config = HANConfig(
        region_size=6, vocabulary_size=len(vocabulary), word_size=5, joint_size=8, detector_fingerprint="grid-1"
    )
    return HAN(config, vocabulary=vocabulary).eval()


def test_saved_is_loaded(model, tmp_path):
    model.save_pretrained(tmp_path / "model", card="# A card\n")
    loaded = HAN.from_pretrained(tmp_path / "model")
    assert loaded.config == model.config
    assert loaded.vocabulary == model.vocabulary
    assert not loaded.training
    regions, mask = torch.randn(3, 4, 6), torch.ones(3, 4, dtype=torch.bool)
    words = model.words(["a red dog", "snow"])
    assert torch.equal(loaded.similarity(regions, mask, *words), model.similarity(regions, mask, *words))
    names = {"README.md", "checksums.json", "config.json", "model.safetensors", "vocabulary.json"}
    assert {path.name for path in (tmp_path / "model").iterdir()} == names


def test_half_of_the_size_is_the_same_to_float16(model, tmp_path):
    model.save_pretrained(tmp_path / "whole")
    model.save_pretrained(tmp_path / "half", half=True)
    sizes = [
        sum(v.nbytes for v in load_file(tmp_path / name / "model.safetensors").values()) for name in ("whole", "half")
    ]
    assert sizes[0] == 2 * sizes[1]
    loaded = HAN.from_pretrained(tmp_path / "half").state_dict()
    for name, value in model.state_dict().items():
        assert loaded[name].dtype == torch.float32
        torch.testing.assert_close(loaded[name], value, rtol=1e-3, atol=1e-6)


def test_names_of_the_state_are_kept(model):
    names = set(model.state_dict())
    assert {"image_encoder.projection.weight", "text_encoder.embedding.weight", "text_encoder.gru.weight_ih_l0"} < names
    assert {
        f"blocks.0.{part}.{kind}" for part in ("query", "key", "value", "output") for kind in ("weight", "bias")
    } < names


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocabulary.json"])
def test_missing_files_are_named(model, tmp_path, name):
    model.save_pretrained(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(HANError, match=f"{name} is missing"):
        HAN.from_pretrained(tmp_path)


def test_no_folder(tmp_path):
    with pytest.raises(HANError, match="no such model folder"):
        HAN.from_pretrained(tmp_path / "nowhere")


def test_a_folder_of_ones_own_that_is_called_as_the_model_that_ships(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = model_folder("default")
    assert model_folder(Path("default")) == shipped
    model.save_pretrained("./default")
    for path in (Path("default"), Path("./default")):  # which are the same
        with pytest.raises(HANError, match=rf"name your own as {tmp_path}/default"):
            load_matcher(path)
    assert load_matcher("./default").config == load_matcher(tmp_path / "default").config == model.config
    assert model_folder("default") == shipped


def test_a_vocabulary_that_the_configuration_does_not_name_is_another_models(model, tmp_path):
    model.save_pretrained(tmp_path)
    without_checksums(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "vocabulary": None}))
    assert HAN.from_pretrained(tmp_path).vocabulary is None
    del config["vocabulary"]  # as it was before there was the field
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert HAN.from_pretrained(tmp_path).vocabulary == model.vocabulary


def test_half_a_weights_file(model, tmp_path):
    model.save_pretrained(tmp_path)
    without_checksums(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(HANError, match=r"model\.safetensors: not a whole safetensors file"):
        HAN.from_pretrained(tmp_path)


def test_a_pickle_is_not_read(model, tmp_path):
    model.save_pretrained(tmp_path)
    without_checksums(tmp_path)
    torch.save(model.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(HANError, match="not a whole safetensors file"):
        HAN.from_pretrained(tmp_path)


def test_files_of_two_models(model, tmp_path):
    model.save_pretrained(tmp_path)
    without_checksums(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "blocks": 2}))
    with pytest.raises(HANError, match=r"blocks\.1\.key\.bias is missing there"):
        HAN.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "joint_size": "wide", "extra": 1}))
    with pytest.raises(HANError, match=r"joint_size: .*extra: "):
        HAN.from_pretrained(tmp_path)


def test_a_vocabulary_of_another_model(model, tmp_path):
    model.save_pretrained(tmp_path)
    without_checksums(tmp_path)
    Vocabulary.from_sentences(["one word"]).save(tmp_path / "vocabulary.json")
    with pytest.raises(HANError, match="different models"):
        HAN.from_pretrained(tmp_path)


def test_words(model):
    words, mask = model.words(["a red zebra", "snow"])
    assert words.shape == (2, 3)
    assert mask.tolist() == [[True, True, True], [True, False, False]]
    assert words[0, 2] == 3  # <unk>
    with pytest.raises(HANError, match="no words in the sentence"):
        model.words(["!?"])


def test_start_and_end_count_when_asked_for():
    vocabulary = Vocabulary.from_sentences(["a ball"])
    options = {"region_size": 4, "vocabulary_size": len(vocabulary), "word_size": 4, "joint_size": 4}
    plain = HAN(HANConfig(**options), vocabulary=vocabulary)
    bounded = HAN(HANConfig(**options, bos_eos=True), vocabulary=vocabulary)
    assert plain.words(["a ball"])[0].shape == (1, 2)
    assert bounded.words(["a ball"])[0].tolist()[0][::3] == [1, 2]
    with pytest.raises(HANError, match="no words in the sentence"):
        bounded.words(["a ball", "!?"])


def test_a_text_encoder_that_is_not_installed_is_told_with_the_model(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    config.write_text(config.read_text().replace('"bigru"', '"bag-of-words"'))
    without_checksums(tmp_path / "model")
    with pytest.raises(ModelError, match=r"model/config\.json: no text encoder is called 'bag-of-words'"):
        load_matcher(tmp_path / "model")
