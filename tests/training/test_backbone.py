"""A backbone that is trained along: what it sees, what learns, and what a model with a backbone of its own can do."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from commands import run_han
from drawn_photos import write_drawn_photos
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from training_data import EVERY_STEP, interrupted_at, make_data, same_run, small_config

import han_retrieval as han
from han_retrieval.data import read_dataset
from han_retrieval.errors import HANError
from han_retrieval.evaluation import evaluate
from han_retrieval.evaluation.protocols import check_regions
from han_retrieval.matchers import load_matcher
from han_retrieval.regions import RegionRow, RegionStore, extract, load_detector
from han_retrieval.regions.backbones import efficientnet
from han_retrieval.regions.efficientnet_lite import EfficientNetLite2
from han_retrieval.training import TrainingConfig, train
from han_retrieval.training.augment import Change, draw
from han_retrieval.training.backbone import BackboneTraining, LearningNetwork, backbone_of
from han_retrieval.training.config import BackboneConfig

DETECTOR = "grid+efficientnet-lite2:64"  # small photos, so that a step takes little


def config(**changes: object) -> TrainingConfig:
    backbone = {"trained": True, "head_epochs": 1, "frozen_stages": 6, "precision": "float32"}
    backbone |= changes.pop("backbone", {})  # type: ignore[arg-type]
    return small_config(**{"epochs": 2, "backbone": backbone, **changes})


@pytest.fixture(scope="module", autouse=True)
def in_float32():
    """Features in float32 on every processor, as the training here computes them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(efficientnet, "prefers_bfloat16", lambda: False)
        yield


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Twelve training and six dev photos, and their regions."""
    folder = tmp_path_factory.mktemp("drawn")
    write_drawn_photos(folder / "photos", train=12, dev=6)
    dataset = read_dataset(folder / "photos")
    extract(dataset, load_detector(DETECTOR, regions=5), folder / "features")
    return dataset, RegionStore.open(folder / "features")


@pytest.fixture(scope="module")
def trained(drawn, tmp_path_factory):
    """A model with a backbone of its own."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    train(config(checkpoint_minutes=EVERY_STEP), *drawn, folder, progress=False)
    return folder


def task(drawn, *, device: str = "cpu", **changes: object) -> BackboneTraining:
    given_ = {"annotations": None, "augmentations": (), "command": "", "device": device}
    return BackboneTraining(config(**changes), *drawn, Path("nowhere"), **given_)


# What is done to photos


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**32),
    crop=st.sampled_from([0.0, 0.5]),
    flip=st.booleans(),
    turn=st.booleans(),
    colour=st.sampled_from([0.0, 0.3]),
)
def test_boxes_go_where_the_photo_goes(seed, crop, flip, turn, colour):
    """A white rectangle on black lies in its box after every change."""
    pixels = np.zeros((120, 200, 3), np.uint8)
    x0, y0, x1, y1 = 60, 40, 120, 100
    pixels[y0:y1, x0:x1] = 255
    options = BackboneConfig(crop=crop, flip=flip, turn=turn, colour=colour)
    change = draw(options, torch.Generator().manual_seed(seed))
    changed = change.of_pixels(Image.fromarray(pixels), (200, 120))
    boxes, seen = change.of_boxes(torch.tensor([[x0 / 200, y0 / 120, x1 / 200, y1 / 120], [0.0, 0.0, 1.0, 1.0]]))
    is_white = changed.float().mean(0) > 100
    rows, columns = (is_white.any(axis).nonzero().flatten() for axis in (1, 0))
    height, width = is_white.shape
    found = [columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height]
    assert boxes[0].tolist() == pytest.approx([float(value) for value in found], abs=0.02)
    assert boxes[1].tolist() == pytest.approx([0, 0, 1, 1], abs=1e-6)  # the whole photo is what stays of it
    assert seen.tolist() == [True, True]
    assert (height, width) == ((200, 120) if change.turns % 2 else (120, 200))
    assert crop or change.crop == (0, 0, 1, 1)


def test_a_box_that_is_cut_off_is_not_seen():
    boxes, seen = Change(crop=(0.5, 0.0, 1.0, 1.0)).of_boxes(torch.tensor([[0.0, 0.0, 0.4, 1.0], [0.0, 0.0, 0.8, 1.0]]))
    assert seen.tolist() == [False, True]
    assert boxes[1].tolist() == pytest.approx([0, 0, 0.6, 1])


def test_a_region_that_fills_the_view_is_seen():
    """The whole photo is a region of what stays, however little that is."""
    boxes, seen = Change(crop=(0.1, 0.1, 0.4, 0.4)).of_boxes(torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.9, 0.2]]))
    assert seen.tolist() == [True, False]
    assert boxes[0].tolist() == pytest.approx([0, 0, 1, 1])


# Features


def test_features_begin_as_they_are_stored(drawn):
    """Without changes, the network gives at each step what the detector stored, but for its rounding."""
    plain = {"head_epochs": 0, "crop": 0.0, "flip": False, "colour": 0.0}
    training = task(drawn, backbone=plain, region_drop=0.0)
    batch = next(training.batches(0, 1))
    features = training._features(batch.regions, batch.photos)
    ids = [training.data.photo_ids[place] for place in batch.image_ids.tolist()]
    stored = drawn[1].batch(ids).features
    assert torch.allclose(features, stored, atol=2e-3 * stored.abs().max().item())


def test_captions_of_a_photo_share_its_pixels(drawn):
    training = task(drawn, backbone={"head_epochs": 0}, captions_per_photo=2, region_drop=0.0)
    batch = next(training.batches(0, 1))
    assert len(batch.image_ids) == 8
    assert sum(len(group.places) for group in batch.photos) == 4
    for group in batch.photos:
        for places in group.places:
            assert len(set(batch.image_ids[places].tolist())) == 1
            assert torch.equal(batch.regions[places[0]], batch.regions[places[-1]])
    features = training._features(batch.regions, batch.photos)
    assert features.shape == (8, 5, 1280)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_upper_1x1_convolutions_alone_learn(checkpointing):
    network = LearningNetwork(EfficientNetLite2(), BackboneConfig(frozen_stages=7, checkpointing=checkpointing))
    photos = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    network(photos).square().mean().backward()
    learned = {name for name, value in network.network.net.named_parameters() if value.grad is not None}
    assert learned == {
        f"{name}.{kind}"
        for name in ("blocks.6.0.conv_pw", "blocks.6.0.conv_pwl", "conv_head")
        for kind in ("weight", "bias")
    }
    (last, rate), (before, lower) = network.groups()
    assert (len(last), rate, len(before), lower) == (2, 0.1, 4, pytest.approx(0.08))


@pytest.mark.parametrize("frozen_stages", [0, 1, 4, 8])
def test_stages_give_the_same_whether_they_learn(frozen_stages):
    photos = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    network = LearningNetwork(EfficientNetLite2(), BackboneConfig(frozen_stages=frozen_stages, precision="float32"))
    maps = network(photos)
    assert maps.requires_grad
    whole = network.network(photos)
    assert torch.allclose(maps, whole, rtol=1e-4, atol=1e-4 * whole.abs().max().item())


def test_less_memory_changes_no_gradient():
    photos = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    gradients = []
    for checkpointing in (False, True):
        network = LearningNetwork(EfficientNetLite2(), BackboneConfig(frozen_stages=6, checkpointing=checkpointing))
        network(photos).square().mean().backward()
        gradients.append(network.network.net.conv_head.weight.grad)
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_takes_the_same_step(drawn):
    losses, gradients = [], []
    for device in ("cpu", "cuda"):
        training = task(drawn, device=device, backbone={"head_epochs": 0})
        with torch.backends.cudnn.flags(allow_tf32=False):
            loss = training.loss(next(training.batches(0, 1)), step=0, steps=9).total
            loss.backward()
        losses.append(loss.item())
        gradients.append(training.network.network.net.conv_head.weight.grad.cpu())
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert torch.allclose(*gradients, rtol=1e-2, atol=1e-3 * gradients[0].abs().max().item())


# A model with a backbone of its own


def test_the_backbone_learns_and_is_found_again(trained, drawn, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(trained, moved)
    weights = load_file(moved / "backbone/model.safetensors")
    before = EfficientNetLite2().net.state_dict()
    changed = {name for name, value in weights.items() if not torch.equal(value, before[name].half())}
    assert changed
    assert all(name.startswith(("blocks.5", "blocks.6", "conv_head")) and "conv_dw" not in name for name in changed)
    retriever = han.load(moved)
    dataset, store = drawn
    extract(dataset, retriever.detector, tmp_path / "own")
    own = RegionStore.open(tmp_path / "own")
    assert own.fingerprint == load_matcher(moved).config.detector_fingerprint
    dev = dataset.split("dev")
    evaluate(load_matcher(moved), dev, own, progress=False)
    with pytest.raises(HANError, match="features with that detector: han extract DATASET --model MODEL"):
        evaluate(load_matcher(moved), dev, store, progress=False)
    # What the training saw of dev after the last epoch is what the saved model gives, but for its half precision.
    with pytest.raises(HANError, match=r"name the folder of its weights: --set backbone\.weights=MODEL/backbone"):
        backbone_of(own)
    assert backbone_of(own, str(moved / "backbone")).sizes == (64,)
    by_name = load_detector(f"grid+efficientnet-lite2:{moved / 'backbone'}", regions=5)
    assert by_name.fingerprint == own.fingerprint


def test_patience_begins_when_the_backbone_learns(drawn):
    learns = task(drawn, epochs=9, patience=2, backbone={"head_epochs": 3})
    after_one = SimpleNamespace(best={"epoch": 1})
    assert [bool(learns.reason_to_end(epoch, after_one)) for epoch in (2, 3, 4, 5)] == [False, False, False, True]


def test_the_trained_backbone_can_see_photos_at_another_size(trained, drawn, tmp_path):
    train(config(backbone={"final_size": 96}), *drawn, tmp_path / "model", progress=False)
    one, other = (folder / "backbone/model.safetensors" for folder in (trained, tmp_path / "model"))
    assert one.read_bytes() == other.read_bytes()
    assert efficientnet.EfficientNetBackbone(str(tmp_path / "model/backbone")).sizes == (96,)
    assert load_matcher(tmp_path / "model").config.detector_fingerprint.endswith("-96")


def test_rsum_while_the_matcher_learns_alone_is_of_the_size_that_is_saved(drawn):
    dataset, store = drawn
    dev = dataset.split("dev")
    photo_id = dev.photos[0].id
    with task(drawn)._regions_of(dev, 1) as same, task(drawn, backbone={"final_size": 96})._regions_of(dev, 1) as other:
        stored, found, larger = (each.read([photo_id])[0].features for each in (store, same, other))
    assert np.array_equal(found, stored)
    assert not np.allclose(larger, stored, atol=1e-2)


@pytest.mark.parametrize(
    ("detector", "size", "said"), [("grid", 96, "sees them at 224 and 448"), (DETECTOR, 5, "to 1024 pixels, not 5")]
)
def test_a_size_that_cannot_be_is_refused(detector, size, said, drawn, tmp_path):
    dataset, _ = drawn
    extract(dataset, load_detector(detector, regions=36), tmp_path / "features")
    with pytest.raises(HANError, match=said):
        task((dataset, RegionStore.open(tmp_path / "features")), backbone={"final_size": size})


def test_what_the_detector_gives_itself_stays_beside_it(drawn, tmp_path):
    dataset, _ = drawn
    extract(dataset, load_detector("grid+own+efficientnet-lite2:64", regions=5), tmp_path / "features")
    store = RegionStore.open(tmp_path / "features")
    plain = {"head_epochs": 0, "crop": 0.0, "flip": False, "colour": 0.0}
    training = task((dataset, store), backbone=plain, region_drop=0.0)
    batch = next(training.batches(0, 1))
    features = training._features(batch.regions, batch.photos)
    stored = store.batch([training.data.photo_ids[place] for place in batch.image_ids.tolist()]).features
    assert torch.equal(features[..., :1280], stored[..., :1280].float())
    assert torch.allclose(features[..., 1280:], stored[..., 1280:], atol=2e-3 * stored.abs().max().item())
    train(config(), dataset, store, tmp_path / "model", progress=False)
    detector = han.load(tmp_path / "model").detector
    extract(dataset, detector, tmp_path / "own")
    own = RegionStore.open(tmp_path / "own")
    assert own.fingerprint == load_matcher(tmp_path / "model").config.detector_fingerprint
    before, after = (each.batch(store.ids).features for each in (store, own))
    assert torch.equal(before[..., :1280], after[..., :1280])
    assert not torch.equal(before[..., 1280:], after[..., 1280:])
    evaluate(load_matcher(tmp_path / "model"), dataset.split("dev"), own, progress=False)


def test_an_index_is_made_with_it(trained, drawn, tmp_path, capsys):
    dataset, _ = drawn
    photos = dataset.photos[0].path.parent
    code, _, said = run_han(capsys, "index", photos, "--model", trained, "--out", tmp_path / "index")
    assert code == 0, said
    code, found, said = run_han(capsys, "search", tmp_path / "index", "a red ball", "--json")
    assert code == 0, said
    assert json.loads(found)


@pytest.mark.parametrize("step", [pytest.param(2, marks=pytest.mark.slow), 5])
def test_a_run_that_was_interrupted_ends_the_same(trained, drawn, tmp_path, step):
    """While the head learns alone, and afterwards."""
    options = config(checkpoint_minutes=EVERY_STEP)
    with interrupted_at(step):
        train(options, *drawn, tmp_path / "model", progress=False)
    train(options, *drawn, tmp_path / "model", resume=True, progress=False)
    assert same_run(trained, tmp_path / "model")
    ours, theirs = (load_file(each / "backbone/model.safetensors") for each in (tmp_path / "model", trained))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_from_the_command_line(drawn, tmp_path, capsys):
    dataset, store = drawn
    arguments = ["train", dataset.source.parent if dataset.source.is_file() else dataset.source]
    arguments += ["--features", store.path, "--out", tmp_path / "model", "--train-backbone"]
    small = ["epochs=1", "batch_size=8", "min_count=1", "model.joint_size=16", "model.word_size=8"]
    small += ["backbone.head_epochs=0", "backbone.frozen_stages=8"]
    code, printed, said = run_han(capsys, *arguments, *(word for each in small for word in ("--set", each)))
    assert code == 0, said
    assert json.loads(printed)["steps"] == 4
    assert (tmp_path / "model/backbone/README.md").read_text().count("on 12 photos")
    photos = arguments[1]
    code, _, said = run_han(capsys, "extract", photos, "--model", tmp_path / "model", "--out", tmp_path / "own")
    assert code == 0, said
    refused = ("extract", photos, "--model", tmp_path / "model", "--regions", 5, "--out", tmp_path / "no")
    assert run_han(capsys, *refused)[0] == 2
    own = ["--features", tmp_path / "own", "--split", "dev"]
    code, printed, said = run_han(capsys, "evaluate", tmp_path / "model", photos, *own)
    assert code == 0, said
    assert "rSum" in printed


# What is refused


def test_what_cannot_be_trained_along_is_refused(drawn, tmp_path):
    dataset, store = drawn
    with pytest.raises(HANError, match="efficientnet-lite2 alone is trained along: extract with --detector grid"):
        train(config(), *make_data(tmp_path), tmp_path / "a", progress=False)
    with pytest.raises(HANError, match="leave one out"):
        train(config(), dataset, store, tmp_path / "b", augmentations=[store], progress=False)
    with pytest.raises(HANError, match=r"of trained weights|no trained backbone"):
        train(config(backbone={"weights": "nowhere"}), dataset, store, tmp_path / "e", progress=False)
    with RegionStore.create(tmp_path / "c", fingerprint=store.fingerprint, feature_size=1280) as boxless:
        rows = zip(store.ids, store.read(store.ids), strict=True)
        boxless.append([RegionRow(each, None, type(regions)(regions.features)) for each, regions in rows])
    with pytest.raises(HANError, match="no boxes"):
        train(config(), dataset, boxless, tmp_path / "d", progress=False)
    for split, name in (("train", "h"), ("dev", "i")):
        lost = dataset.split(split).photos[1]
        photos = tuple(replace(photo, path=None) if photo.id == lost.id else photo for photo in dataset.photos)
        with pytest.raises(HANError, match=rf"photo '{lost.id}': the dataset names no file for it"):
            train(config(), replace(dataset, photos=photos), store, tmp_path / name, progress=False)
    with pytest.raises(HANError, match=r"head_epochs is 2 and epochs 2: the backbone would never learn"):
        train(config(backbone={"head_epochs": 2}), dataset, store, tmp_path / "f", progress=False)
    with pytest.raises(HANError, match="pooled takes something else of photos than their regions"):
        train(config(model={"matcher": "pooled"}), dataset, store, tmp_path / "g", progress=False)
    assert not any((tmp_path / name).exists() for name in "abdefghi")


def test_patches_are_refused(tmp_path):
    """Their features are means of cells, which are not those of a box."""
    fingerprint = load_detector("efficientnet-lite2:64", regions=5).fingerprint
    with RegionStore.create(tmp_path / "features", fingerprint=fingerprint, feature_size=1280) as store:
        pass
    with pytest.raises(HANError, match=r"features: its features are of patches .*: extract with --detector grid"):
        backbone_of(store)


@pytest.mark.parametrize("own", ["bottom-up-3-36-0a1b2c3d+own+efficientnet-lite2-1-4e5f6a7b-256", "grid-1-5"])
def test_other_features_than_the_model_s_own(own, drawn):
    """How to make those of a trained backbone is said in a way that works whatever the boxes are."""
    model = SimpleNamespace(config=SimpleNamespace(detector_fingerprint=own, region_size=1280))
    with pytest.raises(HANError) as refused:
        check_regions(model, drawn[1])
    assert ("han extract DATASET --model MODEL --out FEATURES" in str(refused.value)) == own.endswith("-256")
    assert "--detector" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("efficientnet-lite2:12", "photos are resized to 64 to 1024 pixels"),
        ("efficientnet-lite2:big", "a size in pixels or a folder"),
        ("efficientnet-lite2:/nowhere", "no trained backbone"),
    ],
)
def test_a_backbone_that_is_not_there(name, reason):
    with pytest.raises(HANError, match=reason):
        load_detector(f"grid+{name}", regions=5)


def test_damage_is_named(trained, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(trained, folder)
    file = folder / "backbone/model.safetensors"
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    with pytest.raises(HANError, match=r"model\.safetensors"):
        _ = han.load(folder).detector


def test_doctor_checks_it(trained, tmp_path, capsys):
    folder = tmp_path / "model"
    shutil.copytree(trained, folder)
    code, said, _ = run_han(capsys, "doctor", folder)
    assert (code, "backbone" in said) == (0, True)
    (folder / "backbone/model.safetensors").write_bytes(b"")
    code, said, wrong = run_han(capsys, "doctor", folder)
    assert code != 0
    assert "backbone/model.safetensors" in said + wrong


def test_grid_features_are_those_of_the_backbone(tmp_path):
    """The network that a store of ``grid`` is trained along with begins where the store's features are from."""
    for regions, sizes in ((11, (224,)), (12, (224, 448))):
        fingerprint = load_detector("grid", regions=regions).fingerprint
        store = RegionStore.create(tmp_path / str(regions), fingerprint=fingerprint, feature_size=1280)
        assert backbone_of(store).sizes == sizes
        store.close()
