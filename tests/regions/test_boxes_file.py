"""Boxes from a file: found by the photo's id, path or file name, and described by a backbone."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from han_retrieval.data import add_name, open_photo, read_dataset
from han_retrieval.errors import ConfigError, DataError, ModelError
from han_retrieval.regions import FlippedDetector, RegionStore, detector_for, extract, load_detector

BOXES = [[10, 10, 60, 40], [50, 0, 500, 500], [5, 5, 5.5, 90], [0, 20, 30, 50]]


def write(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def file(tmp_path):
    return write(
        tmp_path / "boxes.jsonl",
        {"photo": "a.png", "boxes": BOXES, "labels": ["dog", "cat", "line", "tree"], "scores": [0.9, 0.8, 0.7, 0.6]},
        {"photo": "id-2", "boxes": []},
    )


@pytest.fixture
def photo(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)
    Image.fromarray(values).resize((100, 60)).save(tmp_path / "a.png")
    return open_photo(tmp_path / "a.png")


def test_boxes_come_behind_the_whole_photo_clipped_and_without_lines(file, photo):
    found = load_detector(f"boxes:{file}+efficientnet-lite2", regions=3).detect([photo])[0]
    assert found.boxes.tolist() == [[0, 0, 100, 60], [10, 10, 60, 40], [50, 0, 100, 60]]
    assert found.labels == ("photo", "dog", "cat")
    assert found.scores == pytest.approx([1, 0.9, 0.8])
    assert found.features.shape == (3, 1280)


def test_a_photo_of_a_dataset_is_known_by_its_id_and_one_that_is_not_is_skipped(file, photo, tmp_path):
    add_name(photo, "id-2")
    detector = load_detector(f"boxes:{file}+efficientnet-lite2", regions=9)
    assert len(detector.detect([photo])[0].boxes) == 1
    photo.save(tmp_path / "b.png")
    report = extract(read_dataset(tmp_path), detector, tmp_path / "features")
    assert [reason for _, reason in report.skipped] == ["the detector found no region"]
    assert RegionStore.open(tmp_path / "features").ids == ["a.png"]


def test_a_flipped_photo_has_the_same_things_in_its_boxes(file, photo):
    detector = load_detector(f"boxes:{file}+efficientnet-lite2", regions=9)
    straight, flipped = detector.detect([photo])[0], FlippedDetector(detector).detect([photo])[0]
    assert np.allclose(straight.boxes, flipped.boxes)
    likeness = [np.corrcoef(a, b)[0, 1] for a, b in zip(straight.features, flipped.features, strict=True)]
    assert min(likeness) > 0.8


def test_the_file_is_named_again_and_must_be_the_same(file):
    name = f"boxes:{file}+efficientnet-lite2"
    fingerprint = load_detector(name, regions=9).fingerprint
    assert detector_for(fingerprint, name=name).fingerprint == fingerprint
    with pytest.raises(ModelError, match="whose boxes are from a file: --detector boxes:FILE"):
        detector_for(fingerprint)
    write(file, {"photo": "a.png", "boxes": []})
    with pytest.raises(ModelError, match="the features were made by 'boxes-1-9-"):
        detector_for(fingerprint, name=name)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"photo": "a"}, "line 1: the field 'boxes' is missing; there are photo"),
        ({"photo": 1, "boxes": []}, "line 1: the field 'photo' must be text"),
        ({"photo": "a", "boxes": [[1, 2, 3]]}, 'line 1: "boxes" is no list of boxes'),
        ({"photo": "a", "boxes": [[1, 2, 3, True]]}, 'line 1: "boxes" is no list of boxes'),
        ({"photo": "a", "boxes": [[1, 2, 3, float("nan")]]}, 'line 1: "boxes" is no list of boxes'),
        (
            {"photo": "a", "boxes": [[1, 2, 3, 4]], "labels": []},
            'line 1: "labels" is no list with one for each of the 1',
        ),
        ({"photo": "a", "boxes": [[1, 2, 3, 4]], "scores": ["x"]}, 'line 1: "scores" is no list with one for each'),
        ([], "line 1: expected an object with the field 'photo'"),
    ],
)
def test_a_line_that_is_not_as_it_should_be(line, message, tmp_path):
    with pytest.raises(DataError, match=message):
        load_detector(f"boxes:{write(tmp_path / 'boxes.jsonl', line)}+efficientnet-lite2", regions=9)


def test_no_file_an_empty_one_the_same_photo_twice_and_no_features(tmp_path, file):
    with pytest.raises(DataError, match=r"none.jsonl: cannot be read"):
        load_detector(f"boxes:{tmp_path / 'none.jsonl'}+efficientnet-lite2", regions=9)
    with pytest.raises(DataError, match=r'empty; a line is \{"photo": "a.jpg"'):
        load_detector(f"boxes:{write(tmp_path / 'empty')}+efficientnet-lite2", regions=9)
    twice = {"photo": "a", "boxes": []}
    with pytest.raises(DataError, match="line 2: the photo 'a' has a line already"):
        load_detector(f"boxes:{write(tmp_path / 'twice', twice, twice)}+efficientnet-lite2", regions=9)
    with pytest.raises(ConfigError, match=r"gives boxes and no features; name what describes them, such as boxes:"):
        load_detector(f"boxes:{file}", regions=9)
    with pytest.raises(ConfigError, match="boxes are read from a file; name it"):
        load_detector("boxes+efficientnet-lite2", regions=9)
