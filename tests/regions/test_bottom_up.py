"""The bottom-up detector: regions of any photo, features of the kept boxes, a folder that is read back exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from damaging import without_checksums
from tiny_detector import NAMES, noise, tiny_network

from han_retrieval.errors import HANError
from han_retrieval.regions.bottom_up import BottomUpDetector, BoxTargets, load_network, save_detector
from han_retrieval.regions.bottom_up.sampling import Draws
from han_retrieval.regions.efficientnet_lite import CHANNELS, mean_in_boxes, pixels, shape_for


@pytest.fixture(scope="module")
def network():
    return tiny_network()


@pytest.fixture(scope="module")
def detector(network):
    return BottomUpDetector(network, weights_hash="0" * 64, regions=9)


def test_regions_of_photos_of_any_shape(detector):
    photos = [noise(120, 80), noise(80, 120), noise(7, 5), noise(900, 40), noise(120, 80, 1)]
    for photo, found in zip(photos, detector.detect(photos), strict=True):
        m = len(found.features)
        assert 1 <= m <= 9
        assert found.features.shape == (m, detector.feature_size)
        assert found.features.dtype == np.float16
        assert np.isfinite(found.features).all()
        assert found.boxes.shape == (m, 4)
        assert found.boxes.dtype == np.float32
        assert np.allclose(found.boxes[0], [0, 0, *photo.size])
        assert (found.boxes[:, 2:] <= np.array(photo.size) * (1 + 1e-6)).all()
        assert (found.boxes >= 0).all()
        assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
        assert (found.width, found.height) == photo.size
        assert len(found.labels) == len(found.scores) == m
        assert (np.diff(found.scores[1:]) <= 0).all()
        assert found.labels[0] == "photo"
        assert all(label.split()[-1] in NAMES.nouns for label in found.labels[1:])
    assert len(detector.detect([noise(120, 80)])[0].features) > 3


def test_fewer_regions_are_the_first_of_more(network, detector):
    photo = noise(120, 80)
    few, many = BottomUpDetector(network, weights_hash="", regions=4).detect([photo])[0], detector.detect([photo])[0]
    assert np.array_equal(few.boxes, many.boxes[:4])
    assert np.allclose(few.features, many.features[:4], atol=2e-3)


def test_regions_do_not_depend_on_batch_mates(detector):
    photos = [noise(120, 80, seed) for seed in range(3)]
    together, alone = detector.detect(photos)[1], detector.detect(photos[1:2])[0]
    assert np.allclose(together.boxes, alone.boxes, atol=1e-3)
    assert np.allclose(together.features, alone.features, atol=5e-3)
    assert together.labels == alone.labels


def test_features_are_those_of_the_kept_boxes(network, detector):
    photo = noise(120, 80)
    found = detector.detect([photo])[0]
    predicted = detector.predict(photo, found.boxes)
    assert np.allclose(found.features[:, CHANNELS:], predicted.representation, atol=2e-3)
    # Small boxes: the mean of the backbone's map of the large photo.
    shape = shape_for(*photo.size, size=network.config.size)
    boxes = torch.from_numpy(found.boxes * np.array([shape[0] / 120, shape[1] / 80] * 2, np.float32))
    means = mean_in_boxes(network.backbone(pixels([photo], shape, torch.device("cpu"))), [boxes])
    small = (boxes[:, 2:] - boxes[:, :2]).prod(1).numpy() < shape[0] * shape[1] / 6
    assert small.any()
    assert not small.all()
    assert np.allclose(found.features[small, :CHANNELS], means[small], atol=5e-3)
    assert not np.allclose(found.features[~small, :CHANNELS], means[~small], atol=5e-2)


def test_a_folder_is_read_back(network, tmp_path):
    save_detector(tmp_path / "d", network.config, network.learned(), card="# A card\n")
    read, hashed = load_network(tmp_path / "d")
    assert read.config == network.config
    for name, value in network.learned().items():
        assert torch.equal(read.learned()[name], value.half().float()), name
    assert (tmp_path / "d/README.md").read_text() == "# A card\n"
    assert load_network(tmp_path / "d")[1] == hashed
    other = tiny_network(seed=1)
    save_detector(tmp_path / "other", other.config, other.learned(), card="")
    assert load_network(tmp_path / "other")[1] != hashed
    assert not any(name.startswith("backbone") for name in network.learned())


def test_faults_of_a_folder_are_named(network, tmp_path):
    with pytest.raises(HANError, match=r"nowhere.config\.json: cannot be read"):
        load_network(tmp_path / "nowhere")
    save_detector(tmp_path / "d", network.config, network.learned(), card="")
    without_checksums(tmp_path / "d")
    weights = (tmp_path / "d/model.safetensors").read_bytes()
    (tmp_path / "d/model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(HANError, match=r"model\.safetensors: not the weights of its config\.json"):
        load_network(tmp_path / "d")
    learned = network.learned()
    lacking = {name: value for name, value in learned.items() if name != "heads.nouns.weight"}
    for weights, reason in (
        (lacking, "heads.nouns.weight is missing"),
        ({**learned, "more": learned["heads.nouns.bias"]}, "more is of no use"),
    ):
        save_detector(tmp_path / "d", network.config, weights, card="")
        with pytest.raises(HANError, match=rf"not the weights of its config\.json \({reason}\)"):
            load_network(tmp_path / "d")
    wider = network.config.model_copy(update={"representation": 17})
    save_detector(tmp_path / "d", wider, network.learned(), card="")
    with pytest.raises(HANError, match=r"not the weights of its config\.json \(size mismatch for heads\."):
        load_network(tmp_path / "d")
    (without_checksums(tmp_path / "d") / "config.json").write_text("{}")
    with pytest.raises(HANError, match=r"config\.json: not the configuration of a detector"):
        load_network(tmp_path / "d")


def truth(boxes: list[list[float]]) -> BoxTargets:
    k = len(boxes)
    nouns = torch.eye(len(NAMES.nouns))[1].expand(k, -1)
    return BoxTargets(torch.tensor(boxes).reshape(k, 4), nouns, torch.ones(k, len(NAMES.attributes), dtype=torch.bool))


def test_losses_reach_all_that_is_learned_and_nothing_else():
    network = tiny_network().train()
    photos = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    draws = Draws([1, 2], lambda values, share, boxes: values)
    targets = [truth([[10, 10, 60, 70]]), truth([])]  # a photo without boxes is all background
    losses = network.losses(photos, targets, draws=draws)
    assert losses.keys() == {"objectness", "proposals", "nouns", "attributes", "boxes"}
    sum(losses.values()).backward()
    for name, parameter in network.named_parameters():
        if name.startswith("backbone."):
            assert parameter.grad is None
        else:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
    assert not network.backbone.training
