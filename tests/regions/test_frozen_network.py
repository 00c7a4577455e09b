"""The network that only computes: in float32 it gives what the one that training uses gives, in bfloat16 nearly so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_detector import noise, tiny_network
from torch import nn

from han_retrieval.regions import convolution
from han_retrieval.regions.bottom_up import BottomUpDetector
from han_retrieval.regions.bottom_up.frozen import FrozenBottomUp
from han_retrieval.regions.convolution import FrozenConvolution
from han_retrieval.regions.efficientnet_lite import pixels, shape_for

FUSED = convolution.has_fused_convolutions(torch.float32)
BOTH = pytest.mark.parametrize("fused", [pytest.param(True, marks=pytest.mark.skipif(not FUSED, reason="none")), False])


@pytest.fixture(scope="module")
def network():
    return tiny_network(size=192)


@pytest.fixture
def photo():
    return pixels([noise(400, 300)], shape_for(400, 300, size=192), torch.device("cpu"))


@BOTH
@torch.inference_mode()
def test_outputs_are_those_of_the_network(network, photo, fused, monkeypatch):
    monkeypatch.setattr(convolution, "has_fused_convolutions", lambda _: fused)
    frozen = FrozenBottomUp(network, dtype=torch.float32)
    maps, wanted = frozen.maps(photo), network.maps(photo)
    for name, each in wanted.items():
        assert torch.allclose(maps[name], each, atol=1e-4), name
    (boxes,), (of_network,) = frozen.propose(photo, maps), network.propose(photo, wanted)
    # Of random weights, some scores are so close that rounding decides which box is dropped.
    distances = torch.cdist(boxes, of_network, p=1).amin(1)
    assert len(boxes) == len(of_network) > 50
    assert (distances < 0.01).float().mean() > 0.95
    edges = torch.tensor([[0.0, 0, 224, 160], [223, 159, 224, 160], [0, 0, 1, 1], [10, 20, 200, 22]])
    boxes = torch.cat([boxes[:50], edges])
    for name, found, each in zip(
        ("representation", "nouns", "attributes", "offsets"),
        frozen.predict(maps, [boxes], photo),
        network.predict(wanted, [boxes], photo),
        strict=True,
    ):
        assert torch.allclose(found, each, atol=1e-3), name


@pytest.mark.parametrize("fused", [True, False])
def test_bfloat16_changes_features_little(network, fused, monkeypatch):
    if fused and not convolution.has_fused_convolutions(torch.bfloat16):
        pytest.skip("this processor has none in bfloat16")
    monkeypatch.setattr(convolution, "has_fused_convolutions", lambda _: fused)
    photos = [noise(400, 300, seed) for seed in range(2)]
    exact, rounded = (
        BottomUpDetector(network, weights_hash="", precision=precision).detect(photos)
        for precision in ("float32", "bfloat16")
    )
    for one, other in zip(exact, rounded, strict=True):  # of the whole photo, the first region of both
        a, b = (each.features[0].astype(np.float32) for each in (one, other))
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.995


def test_the_precision_is_no_part_of_the_fingerprint(network):
    one, other = (
        BottomUpDetector(network, weights_hash="a", precision=precision) for precision in ("float32", "bfloat16")
    )
    assert one.fingerprint == other.fingerprint


@BOTH
@pytest.mark.parametrize(
    ("size", "stride", "groups"), [(1, 1, 1), (3, 1, 1), (5, 1, 8), (3, 2, 8), (5, 2, 8), (3, 2, 1)]
)
@torch.inference_mode()
def test_convolutions_pad_as_those_they_copy(size, stride, groups, fused, monkeypatch):
    monkeypatch.setattr(convolution, "has_fused_convolutions", lambda _: fused)
    torch.manual_seed(0)
    original = nn.Conv2d(8, 8, size, stride, groups=groups)
    maps = torch.randn(1, 8, 12, 16).contiguous(memory_format=torch.channels_last)
    whole = size - stride  # TensorFlow's "same"
    padded = nn.functional.pad(maps, (whole // 2, whole - whole // 2) * 2)
    plain = original(padded)
    for activation, of in (("none", lambda x: x), ("relu", torch.relu), ("relu6", nn.functional.relu6)):
        frozen = FrozenConvolution(original, activation=activation, dtype=torch.float32)
        assert torch.allclose(frozen(maps), of(plain), atol=1e-5)
    linear = FrozenConvolution(original, activation="none", dtype=torch.float32)
    assert torch.allclose(linear(maps, plus=linear(maps)), 2 * plain, atol=1e-5)


def test_photos_in_threads_are_those_alone_and_torch_keeps_its_threads(network):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        detector = BottomUpDetector(network, weights_hash="")
        photos = [noise(400 - 30 * number, 300, number) for number in range(5)]
        together = detector.detect(photos)
        assert torch.get_num_threads() == 2
        for photo, found in zip(photos, together, strict=True):
            (alone,) = detector.detect([photo])
            assert np.allclose(found.boxes, alone.boxes, atol=1e-2)
            assert found.labels == alone.labels
            assert (found.width, found.height) == photo.size
    finally:
        torch.set_num_threads(before)
