"""Detectors of other packages, found by name through entry points."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from fake_detector import make_photos
from PIL import Image

from han_retrieval import plugins
from han_retrieval.errors import ConfigError, ModelError
from han_retrieval.regions import Regions, RegionStore, detector_for, extract, load_detector
from han_retrieval.regions.detector import Fingerprint


class Stripes:
    """A detector of vertical stripes: their mean colours."""

    feature_size = 3

    def __init__(self, argument: str, regions: int) -> None:
        self.regions = regions
        self.fingerprint = f"stripes{':' if argument else ''}{argument}-2-{regions}-rgb"

    def detect(self, photos):
        found = []
        for photo in photos:
            edges = np.linspace(0, photo.width, self.regions + 1)
            boxes = np.array([[a, 0, b, photo.height] for a, b in pairwise(edges)], np.float32)
            means = [np.asarray(photo.crop(tuple(box.astype(int)))).mean((0, 1)) for box in boxes]
            found.append(Regions(np.array(means, np.float16), boxes, photo.width, photo.height))
        return found


def make_detector(argument: str, *, regions: int) -> Stripes:
    if argument == "broken":
        raise ConfigError("stripes takes no argument 'broken'")
    return Stripes(argument, regions)


def make_numbered(argument: str, *, regions: int) -> Stripes:
    detector = Stripes(argument, regions)
    detector.fingerprint = f"my-2-3-1-{regions}"
    return detector


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    module = SimpleNamespace(make_detector=make_detector, make_numbered=make_numbered)
    monkeypatch.setitem(sys.modules, "stripes_package", module)
    real = plugins.entry_points
    own = real(group="han_retrieval.detectors")
    others = [
        EntryPoint("stripes", "stripes_package:make_detector", "han_retrieval.detectors"),
        EntryPoint("my-2-3", "stripes_package:make_numbered", "han_retrieval.detectors"),
        EntryPoint("unfinished", "package_that_is_not_there:make", "han_retrieval.detectors"),
    ]
    found = {"han_retrieval.detectors": [*own, *others]}
    monkeypatch.setattr(plugins, "entry_points", lambda group: found.get(group) or real(group=group))
    plugins.installed.cache_clear()
    yield
    plugins.installed.cache_clear()


def test_it_is_found_by_its_name_and_by_its_fingerprint(tmp_path):
    detector = load_detector("stripes", regions=4)
    assert detector.fingerprint == "stripes-2-4-rgb"
    extract(make_photos(tmp_path / "photos", 2), detector, tmp_path / "features")
    store = RegionStore.open(tmp_path / "features")
    assert detector_for(store.fingerprint).fingerprint == detector.fingerprint
    assert store.batch(store.ids).features.shape == (2, 4, 3)


def test_a_name_may_have_numbers_between_hyphens():
    assert Fingerprint.parse("my-2-3-1-36") == ("my-2-3", "", 36, "")
    assert Fingerprint.parse("my-2-detector-1-36-x") == ("my-2-detector", "", 36, "x")
    assert detector_for("my-2-3-1-36").fingerprint == "my-2-3-1-36"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"features": np.ones((2, 3), np.float32)}, "features that are float32, not float16"),
        ({"features": np.ones((2, 4), np.float16)}, r"features of the shape \(2, 4\), not \(2, 3\)"),
        ({"features": [[1.0, 2.0, 3.0]] * 2}, "features that are a list, not a NumPy array"),
        ({"boxes": np.ones((1, 4), np.float32)}, r"boxes of the shape \(1, 4\), not \(2, 4\)"),
        ({"labels": ("one",)}, "1 labels for 2 regions"),
        ({"labels": ("one", 2)}, "labels that are not text"),
        ({"boxes": np.full((2, 4), np.nan, np.float32)}, "boxes that are not finite"),
        (None, "1 results for 2 photos"),
    ],
)
def test_regions_that_are_not_as_agreed_are_one_line(changes, fault, monkeypatch):
    detector = load_detector("stripes", regions=2)
    photos = [Image.new("RGB", (8, 8))] * 2
    found = detector.detect(photos)
    wrong = found[:1] if changes is None else [replace(found[0], **changes), found[1]]
    monkeypatch.setattr(Stripes, "detect", lambda *_: wrong)
    with pytest.raises(ModelError, match=f"the detector 'stripes' gives {fault}; see"):
        detector.detect(photos)


def test_what_stands_behind_the_colon_is_its_argument():
    detector = load_detector("stripes:some/file:1", regions=4)
    assert detector.fingerprint == "stripes:some/file:1-2-4-rgb"
    assert detector_for(detector.fingerprint).fingerprint == detector.fingerprint


def test_features_that_nobody_asked_for_are_not_computed(monkeypatch):
    photo = Image.new("RGB", (40, 30), "red")
    whole, asked = Stripes.detect, []
    monkeypatch.setattr(Stripes, "detect", lambda self, photos: asked.append("all") or whole(self, photos))
    combined = load_detector("stripes+efficientnet-lite2:64", regions=2)
    expected = combined.detect([photo])[0]
    assert asked == ["all"]

    def boxes(self, photos):
        asked.append("boxes")
        return [replace(each, features=each.features[:, :0]) for each in whole(self, photos)]

    monkeypatch.setattr(Stripes, "detect_boxes", boxes, raising=False)
    found = load_detector("stripes+efficientnet-lite2:64", regions=2).detect([photo])[0]
    assert asked == ["all", "boxes"]
    assert np.array_equal(found.features, expected.features)
    monkeypatch.setattr(Stripes, "detect_own", whole, raising=False)
    load_detector("stripes+own+efficientnet-lite2:64", regions=2).detect([photo])
    assert asked == ["all", "boxes"]
    monkeypatch.setattr(Stripes, "detect_own", boxes)
    with pytest.raises(ModelError, match=r"'stripes' gives features of the shape \(2, 0\), not \(2, 3\)"):
        load_detector("stripes+own+efficientnet-lite2:64", regions=2).detect([photo])


def test_faults_are_named():
    with pytest.raises(ConfigError, match="no detector is called 'stripe'; did you mean 'stripes'"):
        load_detector("stripe", regions=4)
    with pytest.raises(ConfigError, match=r"'unfinished' of unknown cannot be imported .*package_that_is_not_there"):
        load_detector("unfinished", regions=4)
    with pytest.raises(ModelError, match="'stripes-1-4-rgb', and 'stripes' gives 'stripes-2-4-rgb'"):
        detector_for("stripes-1-4-rgb")
    with pytest.raises(ModelError, match="stripes takes no argument 'broken'"):
        detector_for("stripes:broken-2-4-rgb")
    with pytest.raises(ModelError, match="no such detector is installed"):
        detector_for("another-2-4")
    assert load_detector("grid", regions=2).feature_size == 1280  # the plug-in that cannot be imported harms no other


@pytest.mark.parametrize(
    ("fingerprint", "parts"),
    [
        ("grid-1-36-efficientnet-lite2-9656183e-224+448", ("grid", "", 36, "efficientnet-lite2-9656183e-224+448")),
        ("bottom-up-1-12-0a1b2c3d-416", ("bottom-up", "", 12, "0a1b2c3d-416")),
        ("torchvision:fasterrcnn_resnet50_fpn-1-9-258fb6c6", ("torchvision", "fasterrcnn_resnet50_fpn", 9, "258fb6c6")),
        ("mine-3-4", ("mine", "", 4, "")),
        ("imported:scan-npy:2048", None),
        ("fake:1", None),
        ("", None),
    ],
)
def test_the_parts_of_a_fingerprint(fingerprint, parts):
    assert Fingerprint.parse(fingerprint) == parts
