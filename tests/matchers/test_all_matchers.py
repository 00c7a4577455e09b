"""What holds of every matcher: invariances, gradients, saving and loading."""

from __future__ import annotations

import json

import pytest
import torch
from closeness import assert_close, in_float64
from damaging import without_checksums
from matchers_of_all_kinds import NAMES, SENTENCES, random_images, small_matcher

from han_retrieval import plugins
from han_retrieval.errors import HANError
from han_retrieval.matchers import HAN, SCAN, VSE, MaxSim, Pooled, VSEInfinity, load_matcher, matcher_class
from han_retrieval.matchers.registry import load_aligning_matcher
from han_retrieval.matchers.saving import folder_hash
from han_retrieval.scoring import PRECISIONS

every = pytest.mark.parametrize("name", NAMES)


def test_the_names():
    assert [matcher_class(name) for name in NAMES] == [HAN, SCAN, VSE, VSEInfinity, MaxSim, Pooled]
    assert set(NAMES) <= set(plugins.installed("matchers"))


@every
@torch.inference_mode()
def test_a_score_depends_on_its_pair_alone(name):
    model = small_matcher(name)
    regions, region_mask = random_images(name, 5, 7)
    words, word_mask = model.words(SENTENCES)
    exact = in_float64(model).similarity(regions.double(), region_mask, words, word_mask, backend="reference")
    assert exact.shape == (5, 4)
    assert exact.std() > 1e-3
    for backend in ("gram", "reference"):
        assert_close(model.similarity(regions, region_mask, words, word_mask, backend=backend), exact, 1e-5)
    for i in range(5):
        for t in range(4):
            alone = model.similarity(
                regions[i, region_mask[i]].unsqueeze(0), torch.ones(1, int(region_mask[i].sum()), dtype=torch.bool),
                words[t, word_mask[t]].unsqueeze(0), torch.ones(1, int(word_mask[t].sum()), dtype=torch.bool),
            )  # fmt: skip
            assert float(alone) == pytest.approx(float(exact[i, t]), abs=1e-5)
    order = torch.randperm(region_mask.shape[1])
    turned = model.similarity(regions[:, order], region_mask[:, order], words, word_mask)
    assert_close(turned, exact, 1e-5)
    assert model.similarity(regions[:0], region_mask[:0], words, word_mask).shape == (0, 4)
    assert model.similarity(regions, region_mask, words[:0], word_mask[:0]).shape == (5, 0)


@every
def test_gradients_reach_every_parameter_and_no_padding(name):
    model = small_matcher(name).train()
    regions, region_mask = random_images(name, 5, 7)
    regions.requires_grad_()
    weights = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    (model.similarity(regions, region_mask, *model.words(SENTENCES)) * weights).sum().backward()
    for key, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert name == "pooled"
            continue
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key
    assert not regions.grad[~region_mask].any()
    # With MaxSim, a region that no word likes best has no part in any score.
    used = regions.grad[region_mask].any(1)
    assert used.any() if name == "maxsim" else used.all()


@every
def test_photos_whose_features_are_zeros_stop_no_training(name):
    model = small_matcher(name).train()
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return
    regions, region_mask = random_images(name, 5, 7)
    regions[0], regions[:, 4:] = 0, 0  # as where a photo or a region was padded with zeros; biases are 0 at first
    model.similarity(regions, region_mask, *model.words(SENTENCES)).square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.norm() < 1e4, key


@every
def test_saved_is_loaded(name, tmp_path):
    model = small_matcher(name, detector_fingerprint="grid-1")
    model.save_pretrained(tmp_path, card="# A card\n")
    assert json.loads((tmp_path / "config.json").read_text())["matcher"] == name
    items = *random_images(name, 3, 4), *model.words(SENTENCES)
    for loaded in (load_matcher(tmp_path), matcher_class(name).from_pretrained(tmp_path)):
        assert type(loaded) is matcher_class(name)
        assert loaded.config == model.config
        assert not loaded.training
        assert torch.equal(loaded.similarity(*items), model.similarity(*items))
    other = HAN if name != "han" else VSE
    with pytest.raises(HANError, match=r"config\.json: of the matcher .*load_matcher"):
        other.from_pretrained(tmp_path)


def test_a_folder_that_names_no_matcher_is_a_han(tmp_path):
    small_matcher("han").save_pretrained(tmp_path)
    without_checksums(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({key: config[key] for key in config if key != "matcher"}))
    assert type(load_matcher(tmp_path)) is HAN
    assert HAN.from_pretrained(tmp_path).config.matcher == "han"
    (tmp_path / "config.json").write_text(json.dumps({**config, "matcher": "clip"}))
    with pytest.raises(HANError, match=r"no matcher is called 'clip'; there are: .*han, maxsim, pooled, scan, vse"):
        load_matcher(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(HANError, match="not the configuration of a model"):
        load_matcher(tmp_path)


def test_folders_of_former_versions_are_read_or_refused_in_words(tmp_path):
    small_matcher("han", bos_eos=True).save_pretrained(tmp_path)
    without_checksums(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["bos_eos"]
    former = {**config, "boundary_words": True, "attention_start": 0.1, "value_start": "same", "box_geometry": False}
    (tmp_path / "config.json").write_text(json.dumps(former))
    assert load_matcher(tmp_path).config.bos_eos
    (tmp_path / "config.json").write_text(json.dumps({**former, "box_geometry": True}))
    with pytest.raises(HANError, match="box_geometry is on, which this version no longer has"):
        load_matcher(tmp_path)


def test_what_is_asked_for_and_is_not_there_is_said(tmp_path, monkeypatch):
    small_matcher("vse++").save_pretrained(tmp_path)
    with pytest.raises(HANError, match=r"a vse\+\+ model aligns no words with regions; this needs a matcher that does"):
        load_aligning_matcher(tmp_path)
    monkeypatch.setattr(plugins, "load", lambda kind, name: dict)
    with pytest.raises(HANError, match="the matcher 'mine' is registered as <class 'dict'>, which is no subclass"):
        matcher_class("mine")
    with pytest.raises(HANError, match=r"config\.json: no such file; a model folder holds"):
        folder_hash(tmp_path / "empty")


@every
def test_what_does_not_fit_is_refused(name):
    model = small_matcher(name)
    regions, region_mask = random_images(name, 3, 4)
    words, word_mask = model.words(SENTENCES)
    images, texts = model.encode_images(regions, region_mask), model.encode_texts(words, word_mask)
    with pytest.raises(ValueError, match="image tokens"):
        model.score(images[:2], region_mask, texts, word_mask)
    with pytest.raises((ValueError, HANError), match=r"text tokens|of two models"):
        model.score(images, region_mask, texts[..., :4], word_mask)
    with pytest.raises(ValueError, match="must be bool"):
        model.score(images, region_mask.long(), texts, word_mask)
    with pytest.raises(ValueError, match="image 1 has no token"):
        model.score(images, region_mask & (torch.arange(3) != 1).unsqueeze(1), texts, word_mask)
    with pytest.raises(ValueError, match="backend"):
        model.score(images, region_mask, texts, word_mask, backend="quick")
    with pytest.raises(ValueError, match=PRECISIONS[1]):
        model.score(images, region_mask, texts, word_mask, precision="int4")
