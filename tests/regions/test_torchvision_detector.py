"""Detectors of torchvision, with random weights from files: whose features, whose boxes, and what is refused."""

from __future__ import annotations

import copy
import urllib.error
from collections import OrderedDict

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import get_model, get_model_weights
from torchvision.models.detection import FasterRCNN_MobileNet_V3_Large_320_FPN_Weights as Weights320
from torchvision.ops import box_iou

from han_retrieval.errors import HANError
from han_retrieval.regions import detector_for, load_detector
from han_retrieval.regions.torchvision_detector import TorchvisionDetector
from han_retrieval.regions.torchvision_weights import MODELS, read_weights, weights_name

NAME = "fasterrcnn_mobilenet_v3_large_320_fpn"
SHAPES = ((320, 240), (47, 61), (1400, 30), (2700, 1800), (333, 239), (333, 239))


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def random_weights(classes: int = 91) -> dict[str, torch.Tensor]:
    """Weights with which what a box shows makes a difference: batch norms that know what they get, sure classes."""
    torch.manual_seed(0)
    model = get_model(NAME, weights=None, weights_backbone=None, num_classes=classes)
    for module in model.backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    photos = torch.stack([torch.from_numpy(np.array(noise(160, 160, seed))).permute(2, 0, 1) for seed in range(4)])
    with torch.no_grad():
        model.backbone.train()(photos / 128 - 1)
    state = model.state_dict()
    state["roi_heads.box_head.fc6.weight"] *= 4
    state["roi_heads.box_predictor.cls_score.weight"] *= 40
    return state


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(random_weights(), path)
    return path


@pytest.fixture(scope="module")
def detector(file):
    return TorchvisionDetector(NAME, weights=str(file), device="cpu")


@pytest.fixture(scope="module")
def photos():
    return [noise(*shape, seed) for seed, shape in enumerate(SHAPES)]


@pytest.fixture(scope="module")
def found(detector, photos):
    return detector.detect(photos)


def test_regions_of_photos_of_any_shape(found, photos, detector):
    for photo, regions in zip(photos, found, strict=True):
        m = len(regions.features)
        assert 2 <= m <= 36
        assert regions.features.dtype == np.float16
        assert regions.features.shape == (m, detector.feature_size) == (m, 1024)
        assert regions.boxes.shape == (m, 4)
        assert (regions.width, regions.height) == photo.size
        assert regions.boxes[0].tolist() == [0, 0, *photo.size]
        assert (regions.boxes >= 0).all()
        assert (regions.boxes <= np.array(photo.size * 2)).all()
        assert (regions.boxes[:, :2] < regions.boxes[:, 2:]).all()
        assert (regions.labels[0], regions.scores[0]) == ("photo", 1)
        assert set(regions.labels[1:]) <= set(Weights320.DEFAULT.meta["categories"][1:])
        assert (np.diff(regions.scores[1:]) <= 0).all()
        overlaps = box_iou(*[torch.from_numpy(regions.boxes)] * 2)
        assert overlaps.fill_diagonal_(0).max() < 0.91


def test_boxes_are_the_networks_own_and_features_are_of_those_boxes(detector, file):
    """Against the plain model of torchvision, given the photo in the usual way."""
    photo = noise(333, 239)
    regions = detector.detect([photo])[0]
    model = get_model(NAME, weights=None, weights_backbone=None).eval()
    model.load_state_dict(torch.load(file, weights_only=True))
    model.roi_heads.score_thresh, model.roi_heads.detections_per_img = 0.02, 1000
    pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1) / 255
    with torch.inference_mode():
        boxes = model([pixels])[0]["boxes"]
        assert (box_iou(torch.from_numpy(regions.boxes[1:]), boxes).max(1).values > 0.999).all()
        images, _ = model.transform([pixels])
        h, w = images.image_sizes[0]
        scaled = torch.from_numpy(regions.boxes * np.array([w / 333, h / 239] * 2)).float()
        maps = model.backbone(images.tensors)
        expected = model.roi_heads.box_head(model.roi_heads.box_roi_pool(maps, [scaled], [(h, w)]))
        logits, _ = model.roi_heads.box_predictor(expected)
    assert np.allclose(regions.features, expected, atol=2e-2, rtol=2e-3)
    apart = np.abs(regions.features[1:].astype(float) - regions.features[:-1]).max(1)
    assert np.median(apart) > 1  # far beyond that tolerance, so that a feature of another box would be seen
    assert logits.shape[1] == 91


def test_photos_do_not_depend_on_batch_mates_or_order(detector, photos, found):
    others = [*detector.detect(photos[::-1])[::-1], *detector.detect(photos[-1:])]
    for regions, other in zip([*found, found[-1]], others, strict=True):
        assert np.allclose(other.boxes, regions.boxes, atol=0.1)
        assert other.labels == regions.labels
        # Sums in another order move boxes by a hundredth of a pixel, and what random weights make of them by more.
        difference = np.abs(other.features.astype(float) - regions.features).max()
        assert difference < 2e-3 * np.abs(regions.features).max()


def test_the_first_photo_does_not_set_what_later_ones_get(file, detector, photos, tmp_path):
    """And the two formats of a file hold the same."""
    save_file(torch.load(file, weights_only=True), tmp_path / "random.safetensors")
    fresh = TorchvisionDetector(NAME, weights=str(tmp_path / "random.safetensors"), device="cpu")
    fresh.detect([noise(3000, 10)])  # torchvision takes strides of its maps from such a photo, and wrong ones
    assert np.array_equal(fresh.detect(photos[:1])[0].features, detector.detect(photos[:1])[0].features)
    assert fresh.fingerprint != detector.fingerprint  # of the file, as torchvision names files


def test_few_regions_are_the_first_of_many(detector, photos):
    many, few = detector.detect(photos[:1])[0], copy.copy(detector)
    for few.regions in (4, 1):
        regions = few.detect(photos[:1])[0]
        assert np.array_equal(regions.boxes, many.boxes[: few.regions])
        assert np.allclose(regions.features, many.features[: few.regions], atol=2e-2, rtol=2e-3)


def test_other_classes_are_numbered(tmp_path, photos):
    torch.save(random_weights(classes=5), tmp_path / "five.pth")
    regions = TorchvisionDetector(NAME, weights=str(tmp_path / "five.pth")).detect(photos[:1])[0]
    assert set(regions.labels[1:]) <= {f"class {i}" for i in range(1, 5)}


def test_it_is_found_again_by_its_name_and_fingerprint(file, detector):
    assert detector.fingerprint.startswith(f"torchvision:{NAME}-1-36-")
    few = detector.fingerprint.replace("-36-", "-9-")
    assert detector_for(few, name=f"torchvision:{NAME}@{file}").fingerprint == few
    for given in (None, f"torchvision:{NAME}"):  # and nothing is downloaded
        with pytest.raises(HANError, match=f"name their file: --detector torchvision:{NAME}@FILE"):
            detector_for(detector.fingerprint, name=given)
    with pytest.raises(HANError, match="and 'grid' gives others"):
        detector_for(detector.fingerprint, name="grid")
    with pytest.raises(HANError, match=f"gives '{few}'; a detector with weights of your own"):
        detector_for(few[:-8] + "00000000", name=f"torchvision:{NAME}@{file}")


def test_torchvisions_own_weights_are_known_by_their_hash(monkeypatch):
    state = random_weights()
    monkeypatch.setattr(Weights320, "get_state_dict", lambda entry, **_: state)
    for weights in (None, "COCO_V1", "FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1"):
        assert read_weights(NAME, weights).sha == "907ea3f9"
    fingerprint = f"torchvision:{NAME}-1-9-907ea3f9"
    assert detector_for(fingerprint).fingerprint == fingerprint
    assert weights_name("keypointrcnn_resnet50_fpn", "9f466800") == "COCO_LEGACY"
    assert weights_name(NAME, "00000000") is None


def test_a_damaged_file_in_torchvisions_cache_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(Weights320, "get_state_dict", lambda entry, **_: random_weights())
    cached = tmp_path / "checkpoints" / Weights320.COCO_V1.url.rpartition("/")[2]
    cached.parent.mkdir()
    cached.write_bytes(b"other weights")
    with pytest.raises(HANError, match=r"907ea3f9\.pth: damaged, .* delete it, and it is downloaded again"):
        read_weights(NAME, None)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_any_weights_of_torchvision_make_the_network_that_torchvision_makes(name, monkeypatch, photos):
    torch.manual_seed(0)
    for entry in get_model_weights(name):
        state = get_model(name, weights=None, weights_backbone=None).state_dict()
        state = OrderedDict((key, value) for key, value in state.items() if "num_batches" not in key)
        state[next(key for key in state if key.endswith("running_var"))] *= 1e-3  # so that an epsilon would be seen
        monkeypatch.setattr(type(entry), "get_state_dict", lambda self, state=state, **_: state)
        network = TorchvisionDetector(name, weights=entry.name, device="cpu").network
        own = get_model(name, weights=entry).eval()
        pixels = torch.rand(1, 3, 96, 96)
        with torch.inference_mode():
            for ours, theirs in zip(network.backbone(pixels).values(), own.backbone(pixels).values(), strict=True):
                assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))
        assert TorchvisionDetector(name, weights=entry.name, device="cpu").detect([photos[1]])[0].boxes.shape[1] == 4


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("fasterrcnn_resnet50_fnp", None, "is no detection model of torchvision; .* such as fasterrcnn_resnet50_fpn"),
        ("retinanet_resnet50_fpn", None, "has no box head"),
        ("", None, "is no detection model"),
        (NAME, "COCO_V9", f"COCO_V9: no such file; the weights that torchvision has for {NAME} are COCO_V1"),
        (NAME, "none.pth", "none.pth: no such file"),
        (NAME, "damaged.pth", "damaged.pth: no weights that can be read"),
        (NAME, "damaged.safetensors", "damaged.safetensors: no weights that can be read"),
        (NAME, "code.pth", "code.pth: no weights that can be read .damaged, or it holds more than tensors."),
        (NAME, "other.pth", "other.pth: not the state dict of a Faster R-CNN"),
        (NAME, "list.pth", "list.pth: not the state dict of a Faster R-CNN"),
        ("fasterrcnn_resnet50_fpn", "random.pth", "random.pth: not the weights of a fasterrcnn_resnet50_fpn .Missing"),
    ],
)
def test_what_the_user_can_mend_is_said_in_a_line(name, weights, message, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged.pth").write_bytes(file.read_bytes()[:5000])
    (tmp_path / "damaged.safetensors").write_bytes(b"\x00" * 100)
    torch.save({"model": Image.new("RGB", (1, 1))}, tmp_path / "code.pth")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    (tmp_path / "random.pth").symlink_to(file)
    with pytest.raises(HANError, match=message) as raised:
        TorchvisionDetector(name, weights=weights)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("error", [urllib.error.URLError("no network"), RuntimeError("invalid hash value")])
def test_what_cannot_be_downloaded_says_how_to_get_it(error, monkeypatch):
    def refused(entry, **_):
        raise error

    monkeypatch.setattr(Weights320, "get_state_dict", refused)
    with pytest.raises(HANError, match=f"https://.*907ea3f9.pth: cannot be .*--detector torchvision:{NAME}@FILE"):
        load_detector(f"torchvision:{NAME}", regions=36)
