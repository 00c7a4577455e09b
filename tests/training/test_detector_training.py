"""Training a detector: truth that follows the photo, steps that depend on the seed alone, exact resumption."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_photos import write_drawn_photos
from PIL import Image
from safetensors.torch import load_file

from han_retrieval.cli.main import main
from han_retrieval.config import load_config
from han_retrieval.data import EntitiesPhoto, EntitiesSentence, Phrase, open_photo, read_dataset, read_entities
from han_retrieval.errors import HANError
from han_retrieval.regions.bottom_up import BottomUpDetector, Names, load_network
from han_retrieval.training.detector import DetectorTrainingConfig, train_detector
from han_retrieval.training.detector.batches import DRAWS, changed_photo
from han_retrieval.training.detector.figures import _average_precision, are_covered
from han_retrieval.training.detector.labels import BoxLabels, box_labels
from han_retrieval.training.detector.trainer import DetectorTraining
from han_retrieval.training.log import read_log

NAMES = Names(nouns=("thing", "man", "boy", "ball"), attributes=("red", "young"), together=((),) * 4)


def phrase(start: int, end: int, *boxes: tuple[float, ...]) -> Phrase:
    return Phrase(start, end, "1", (), np.array(boxes, np.float32).reshape(-1, 4))


def test_what_captions_say_of_a_box_is_counted_over_them():
    one, other = (0, 0, 50, 100), (50, 0, 100, 100)
    sentences = (
        EntitiesSentence(("a", "young", "man", "kicks", "a", "red", "kite"), (phrase(0, 3, one), phrase(4, 7, other))),
        EntitiesSentence(("two", "boys"), (phrase(0, 2, one, other),)),
        EntitiesSentence(("a", "man", "outside"), (phrase(0, 2, one), phrase(2, 3))),
    )
    truth = box_labels(EntitiesPhoto("a", 100, 200, sentences), NAMES)
    assert truth.boxes.tolist() == [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5]]
    assert np.allclose(truth.nouns, [[0, 2 / 3, 1 / 3, 0], [0, 0, 1, 0]])  # "kite" is rare: "boys" says more
    assert truth.attributes.tolist() == [[False, True], [True, False]]


def test_a_box_of_which_nothing_known_is_said_is_a_thing():
    sentences = (
        EntitiesSentence(("a", "kite"), (phrase(0, 2, (0, 0, 5, 5)),)),
        EntitiesSentence(("it",), (phrase(0, 1, (1, 1, 5, 5)),)),
    )
    assert box_labels(EntitiesPhoto("a", 10, 10, sentences), NAMES).nouns.tolist() == [[1, 0, 0, 0]] * 2


def test_a_photo_without_boxes_has_an_empty_truth():
    truth = box_labels(EntitiesPhoto("a", 10, 10, ()), NAMES)
    assert truth.boxes.shape == (0, 4)
    assert truth.nouns.shape == (0, 4)
    assert truth.attributes.shape == (0, 2)


@pytest.mark.parametrize("seed", range(8))
def test_boxes_follow_the_changed_photo(seed):
    """A white square on black is where its box says, however the photo was cropped, mirrored and scaled."""
    photo = Image.new("RGB", (200, 160))
    photo.paste((255, 255, 255), (80, 60, 110, 100))
    truth = BoxLabels(
        np.array([[0.4, 0.375, 0.55, 0.625], [0, 0, 0.01, 0.01]], np.float32),
        np.eye(4, dtype=np.float32)[[1, 2]],
        np.eye(2, dtype=bool),
    )
    config = DetectorTrainingConfig(colour=0.2, crop=0.6)
    changed, moved = changed_photo(photo, truth, (256, 192), config, np.random.default_rng(seed).random(DRAWS))
    assert changed.shape == (192, 256, 3)
    rows, columns = (changed.mean(2) > 80).nonzero()
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert moved.boxes[0].tolist() == pytest.approx(seen, abs=2)
    assert moved.nouns[0, 1] == 1
    assert moved.attributes[0].tolist() == [True, False]


def test_a_box_that_is_mostly_cropped_away_is_left_out():
    boxes = np.array([[0.45, 0.6, 0.75, 0.8], [0.3, 0.6, 0.6, 0.8]], np.float32)  # five and two sixths of it are inside
    truth = BoxLabels(boxes, np.eye(4, dtype=np.float32)[:2], np.eye(2, dtype=bool))
    drawn = np.array([0, 1, 1, 0.5, 0.5, 0.5, 0.9])  # the lower right quarter, in the colours that it has
    _, kept = changed_photo(Image.new("RGB", (64, 64)), truth, (100, 100), DetectorTrainingConfig(crop=0.5), drawn)
    assert kept.boxes.tolist() == pytest.approx(np.array([[0, 20, 50, 60]]), abs=1e-3)
    assert kept.nouns.tolist() == [[1, 0, 0, 0]]


def test_coverage_and_average_precision_against_brute_force():
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    assert are_covered(boxes, np.array([[0, 0, 10, 5.1]], np.float32)).tolist() == [True, False]
    random = np.random.default_rng(0)
    logits, truth = random.normal(size=(40, 6)), random.random((40, 6)) < 0.3
    truth[:, 5] = False  # never said: does not count
    expected = []
    for logit, said in zip(logits.T[:5], truth.T[:5], strict=True):
        ranked = said[np.argsort(-logit)]
        expected.append(np.mean([ranked[: place + 1].mean() for place in np.flatnonzero(ranked)]))
    precision, chance = _average_precision(logits, truth)
    assert precision == pytest.approx(100 * np.mean(expected))
    assert chance == pytest.approx(100 * truth[:, :5].mean())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    write_drawn_photos(folder, train=14, dev=4)
    return read_dataset(folder), read_entities(folder / "entities.jsonl")


def config(**changes: object) -> DetectorTrainingConfig:
    fields = {
        "noun_count": 2, "attribute_count": 2, "epochs": 2, "batch_size": 4, "warm_up_steps": 2, "learning_rate": 3e-3,
        "smallest": 64, "largest": 96, "size": 96, "channels": 8, "representation": 16,
    }  # fmt: skip
    return DetectorTrainingConfig.model_validate({**fields, **changes})


def run(data, out: Path, *, resume: bool = False, **changes: object):
    return train_detector(config(**changes), *data, out, annotation="made up", resume=resume, progress=False)


def same_run(left: Path, right: Path) -> bool:
    weights = [load_file(folder / "model.safetensors") for folder in (left, right)]
    logs = [read_log(folder / "training/metrics.jsonl") for folder in (left, right)]
    return all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0]) and logs[0] == logs[1]


class Stop(Exception):
    pass


def test_an_interrupted_run_resumes_exactly(data, tmp_path, monkeypatch):
    whole = run(data, tmp_path / "whole", checkpoint_minutes=1e-9)
    assert whole.steps == 8
    assert 0 <= whole.figures.noun_accuracy <= 100
    loss = DetectorTraining.loss
    for stop in (1, 4, 6):

        def stopped(self, batch, *, step, steps, stop=stop):
            if step == stop:
                raise Stop
            return loss(self, batch, step=step, steps=steps)

        monkeypatch.setattr(DetectorTraining, "loss", stopped)
        with pytest.raises(Stop):
            run(data, tmp_path / str(stop), checkpoint_minutes=1e-9)
        monkeypatch.setattr(DetectorTraining, "loss", loss)
        run(data, tmp_path / str(stop), resume=True, checkpoint_minutes=1e-9)
        assert same_run(tmp_path / "whole", tmp_path / str(stop)), stop


def test_what_training_leaves_is_a_detector(data, tmp_path):
    result = run(data, tmp_path / "d", dev_split="")
    assert result.figures is None
    network, weights_hash = load_network(tmp_path / "d")
    found = BottomUpDetector(network, weights_hash=weights_hash).detect(
        [open_photo(p.path) for p in data[0].photos[:2]]
    )
    assert all(len(regions.features) >= 1 for regions in found)
    assert "han extract" in (tmp_path / "d/README.md").read_text()


def test_dev_photos_without_boxes_and_with_rare_nouns_alone(data, tmp_path):
    dataset, entities = data
    bare, *rare = [photo.id for photo in dataset.split("dev").photos]
    said = EntitiesSentence(("a", "gnu"), (phrase(0, 2, (0, 0, 50, 50)),))
    changed = {
        **entities,
        bare: replace(entities[bare], sentences=()),
        **{id_: replace(entities[id_], sentences=(said,)) for id_ in rare},
    }
    result = run((dataset, changed), tmp_path / "rare", epochs=1)
    assert result.figures.boxes == len(rare)
    assert result.figures.noun_accuracy is None
    card = (tmp_path / "rare/README.md").read_text()
    assert f"on {len(rare)} photos of split `dev` ({len(rare)} boxes)" in card
    assert "probable noun" not in card
    assert "NaN" not in (tmp_path / "rare/training/metrics.jsonl").read_text()

    nothing = {**entities, **{id_: replace(entities[id_], sentences=()) for id_ in (bare, *rare)}}
    with pytest.raises(HANError, match=r"none of the 4 photos taken from split 'dev' has a box; .*dev_split=''"):
        run((dataset, nothing), tmp_path / "nothing")
    with pytest.raises(HANError, match=r"no noun names 999 boxes; lower noun_count"):
        run(data, tmp_path / "nothing", noun_count=999)
    assert not (tmp_path / "nothing").exists()


def test_configurations():
    endless = DetectorTrainingConfig(gradient_clip=math.inf)
    assert DetectorTrainingConfig.model_validate_json(endless.model_dump_json()) == endless
    with pytest.raises(HANError, match="largest = 416: less than smallest, 512"):
        load_config(DetectorTrainingConfig, overrides=["smallest=512"])


def test_the_command(data, tmp_path, capsys):
    sizes = [word for key, value in config(epochs=1).model_dump().items() for word in ("--set", f"{key}={value}")]
    folder = data[0].source
    main(["train-detector", str(folder), "--entities", str(folder / "entities.jsonl"), "--out", str(tmp_path), *sizes])
    said = json.loads(capsys.readouterr().out)
    assert (said["detector"], said["steps"], said["dev"]["boxes"] > 4) == (str(tmp_path), 4, True)
    assert "on 4 photos of split `dev`" in (tmp_path / "README.md").read_text()
    load_network(tmp_path)


@pytest.mark.slow
def test_it_learns_to_find_and_to_name(tmp_path):
    write_drawn_photos(tmp_path, train=120, dev=20)
    data = read_dataset(tmp_path), read_entities(tmp_path / "entities.jsonl")
    options = {"smallest": 192, "largest": 192, "size": 192, "channels": 32, "representation": 64, "dropout": 0.0}
    first = run(data, tmp_path / "first", epochs=1, **options).figures
    last = run(data, tmp_path / "last", epochs=10, **options).figures
    assert last.noun_accuracy > max(40, first.noun_accuracy + 10)
    assert last.coverage > first.coverage
    assert last.attribute_precision > 2 * last.attribute_chance


def test_another_configuration_or_other_data_are_refused(data, tmp_path):
    run(data, tmp_path / "d", epochs=1)
    with pytest.raises(HANError, match="holds a training run already"):
        run(data, tmp_path / "d", epochs=1)
    with pytest.raises(HANError, match="another configuration"):
        run(data, tmp_path / "d", epochs=2, resume=True)
    with pytest.raises(HANError, match="other data"):
        run((data[0].only([p.id for p in data[0].photos[2:]]), data[1]), tmp_path / "d", epochs=1, resume=True)
    first, other = (photo.id for photo in data[0].split("train").photos[:2])
    swapped = {**data[1], first: data[1][other], other: data[1][first]}
    with pytest.raises(HANError, match="other data"):
        run((data[0], swapped), tmp_path / "d", epochs=1, resume=True)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/README.md").write_text("somebody's")
    with pytest.raises(HANError, match=r"other things, such as README\.md"):
        run(data, tmp_path / "theirs", epochs=1)
    with pytest.raises(HANError, match="none of the photos of split 'train' is annotated"):
        run((data[0], {}), tmp_path / "other")
