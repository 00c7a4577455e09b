"""Boxes of one source described by others: pooling, patches, names and fingerprints."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_towers import noise, save_timm
from torchvision.ops import roi_align

from han_retrieval.errors import HANError
from han_retrieval.regions import RegionStore, detector_for, extract, load_detector
from han_retrieval.regions.combined import cells_for
from han_retrieval.regions.names import Sources, split_fingerprint, split_name
from han_retrieval.regions.pooling import mean_in_boxes, mean_of_cells

VIT = {"img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 2}


def test_the_mean_in_a_box_is_that_of_roi_align():
    torch.manual_seed(0)
    feature_map = torch.randn(5, 7, 9)
    boxes = torch.tensor([[0, 0, 9, 7], [1.3, 2.1, 5.9, 6.6], [3.2, 3.3, 3.4, 3.5], [8.9, 6.9, 9, 7]])
    expected = roi_align(feature_map[None], [boxes], output_size=1, sampling_ratio=8, aligned=True)
    assert torch.allclose(mean_in_boxes(feature_map, boxes), expected[:, :, 0, 0], atol=1e-5)


def test_cells_are_means_by_overlap():
    feature_map = torch.arange(12.0).reshape(1, 2, 6)
    assert mean_of_cells(feature_map, columns=6, rows=2).flatten().tolist() == pytest.approx(list(range(12)))
    assert mean_of_cells(feature_map, columns=1, rows=1).flatten().tolist() == pytest.approx([5.5])
    assert mean_of_cells(feature_map[:, :1], columns=4, rows=1).flatten().tolist() == pytest.approx(
        [1 / 3, 5 / 3, 10 / 3, 14 / 3]
    )


@pytest.mark.parametrize(
    ("size", "most", "cells"),
    [((14, 14), 35, (5, 7)), ((20, 15), 35, (7, 5)), ((3, 2), 35, (3, 2)), ((40, 2), 35, (35, 1)),
     ((14, 14), 0, (0, 0)), ((14, 14), 1, (1, 1)), ((14, 14), 196, (14, 14))],
)  # fmt: skip
def test_patches_are_pooled_to_cells_of_about_square_shape(size, most, cells):
    assert cells_for(*size, most=most) == cells


def test_patches_are_the_whole_photo_and_cells_that_fill_it(tmp_path):
    name = f"timm:{save_timm(tmp_path, 'vit_tiny_patch16_224', **VIT)}"
    photo = noise(160, 80)
    detector = load_detector(name, regions=9)
    found = detector.detect([photo])[0]
    assert found.boxes.tolist()[0] == [0, 0, 160, 80]
    widths, heights = (found.boxes[1:, 2:] - found.boxes[1:, :2]).T
    assert len(found.boxes) == 9
    assert (widths * heights).sum() == pytest.approx(160 * 80)
    assert np.allclose(found.features[0], found.features[1:].astype(float).mean(0), atol=2e-3)
    assert found.pooled.shape == (32,)
    assert load_detector(f"patches+{name}", regions=9).fingerprint == detector.fingerprint
    assert len(load_detector(name, regions=1).detect([photo])[0].features) == 1
    most = load_detector(name, regions=100).detect([photo])[0]  # all that there are
    assert len(most.features) == 1 + 6 * 3


def test_several_backbones_stand_side_by_side_and_the_first_ones_vector_is_stored(tmp_path):
    one = f"timm:{save_timm(tmp_path / 'one', 'vit_tiny_patch16_224', **VIT)}"
    two = f"timm:{save_timm(tmp_path / 'two', 'resnet18', channels=(8, 16, 24, 32))}"
    photos = [noise(90, 60), noise(64, 64)]
    both = load_detector(f"grid+{one}+{two}+efficientnet-lite2", regions=12).detect(photos)
    alone = [load_detector(f"grid+{each}", regions=12).detect(photos) for each in (one, two, "efficientnet-lite2")]
    for i, regions in enumerate(both):
        parts = [each[i].features for each in alone]
        assert np.array_equal(regions.features, np.concatenate(parts, axis=1))
        assert np.array_equal(regions.pooled, alone[0][i].pooled)
        assert alone[2][i].pooled is None
    patches = load_detector(f"{one}+{two}", regions=12).detect(photos)[0]
    assert patches.features.shape == (12 if len(patches.boxes) == 12 else len(patches.boxes), 64)


def test_the_detectors_own_features_can_stand_before_those_of_a_backbone(tmp_path):
    name = f"timm:{save_timm(tmp_path, 'vit_tiny_patch16_224', **VIT)}"
    photos = [noise(90, 60), noise(64, 64)]
    detector = load_detector(f"grid+own+{name}", regions=12)
    alone = [load_detector(each, regions=12).detect(photos) for each in ("grid", f"grid+{name}")]
    for i, regions in enumerate(detector.detect(photos)):
        assert np.array_equal(regions.features, np.concatenate([each[i].features for each in alone], axis=1))
        assert regions.features.shape[1] == detector.feature_size
    assert detector.fingerprint != load_detector(f"grid+{name}", regions=12).fingerprint
    assert detector_for(detector.fingerprint).fingerprint == detector.fingerprint


def test_the_own_features_of_bottom_up_are_those_of_one_pass_over_the_photo():
    photo = noise(320, 240)
    alone, beside = (load_detector(f"bottom-up{rest}", regions=6) for rest in ("", "+own+efficientnet-lite2:64"))
    [twice], [once] = alone.detect([photo]), beside.detect([photo])
    own = once.features[:, : alone.feature_size]
    large = (twice.boxes[:, 2:] - twice.boxes[:, :2]).prod(1) >= 320 * 240 / 6
    assert np.array_equal(once.boxes, twice.boxes)
    assert large.any()
    assert not large.all()
    assert np.array_equal(own[~large], twice.features[~large])
    assert np.array_equal(own[large, 1280:], twice.features[large, 1280:])
    assert not np.array_equal(own[large, :1280], twice.features[large, :1280])


def test_a_large_photo_is_decoded_at_the_scale_that_all_parts_need(tmp_path):
    timm = f"timm:{save_timm(tmp_path, 'vit_tiny_patch16_224', **VIT)}"
    assert load_detector("bottom-up+own+efficientnet-lite2:224", regions=6).size_needed(4000, 4000) == (416, 416)
    assert load_detector("grid+efficientnet-lite2:640", regions=6).size_needed(4000, 4000) == (640, 640)
    assert load_detector(f"grid+efficientnet-lite2+{timm}", regions=6).size_needed is None


def test_the_network_of_grid_gives_what_grid_gives_and_boxes_come_with_names():
    photos = [noise(320, 240), noise(240, 320, seed=1)]
    for own, combined in zip(
        load_detector("grid", regions=36).detect(photos),
        load_detector("grid+efficientnet-lite2", regions=36).detect(photos),
        strict=True,
    ):
        assert np.array_equal(own.boxes, combined.boxes)
        assert np.allclose(own.features, combined.features, atol=4e-3)
    own = load_detector("bottom-up", regions=6).detect(photos[:1])[0]
    combined = load_detector("bottom-up+efficientnet-lite2", regions=6).detect(photos[:1])[0]
    assert np.allclose(own.boxes, combined.boxes)
    assert own.labels == combined.labels
    assert np.allclose(own.scores, combined.scores)
    assert combined.features.shape == (len(own.boxes), 1280)


def test_a_store_keeps_features_boxes_vector_and_fingerprint(tmp_path):
    from fake_detector import make_photos

    detector = load_detector(f"timm:{save_timm(tmp_path / 'tower', 'vit_tiny_patch16_224', **VIT)}", regions=5)
    extract(make_photos(tmp_path / "photos", 3), detector, tmp_path / "features")
    store = RegionStore.open(tmp_path / "features")
    assert store.fingerprint == detector.fingerprint
    batch = store.batch(store.ids)
    assert batch.features.shape == (3, 5, 32)
    assert batch.pooled.shape == (3, 32)


@pytest.mark.parametrize(
    ("name", "sources"),
    [
        ("grid", ("grid", ())),
        ("bottom-up:/a+b/c", ("bottom-up:/a+b/c", ())),
        ("timm:a", ("patches", ("timm:a",))),
        ("hf:a/b", ("patches", ("hf:a/b",))),
        ("hf:a/b+hf:c", ("hf:a/b", ("hf:c",))),
        ("timm:a+hf:c", ("patches", ("timm:a", "hf:c"))),
        ("patches+hf:a+timm:b", ("patches", ("hf:a", "timm:b"))),
        ("torchvision:x@y+open_clip:ViT-B-16/openai@proj", ("torchvision:x@y", ("open_clip:ViT-B-16/openai@proj",))),
        ("efficientnet-lite2", ("patches", ("efficientnet-lite2",))),
        ("grid+efficientnet-lite2+timm:a", ("grid", ("efficientnet-lite2", "timm:a"))),
        ("bottom-up+own+timm:a", ("bottom-up", ("timm:a",), True)),
        ("bottom-up:/a+own+b+own+hf:a", ("bottom-up:/a+own+b", ("hf:a",), True)),
    ],
)
def test_the_sources_in_a_name(name, sources):
    assert split_name(name) == Sources(*sources)
    assert split_name(name).described_by(*sources[1]).endswith(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("grid+timm:a+own+hf:b", r"BOXES\+own\+FEATURES"),
        ("timm:a+own+timm:b", "patches have no features of their own"),
        ("grid+own", "no backbone is called 'own'"),
        ("own+timm:a", "no detector is called 'own'"),
    ],
)
def test_own_features_stand_before_those_of_backbones(name, reason):
    with pytest.raises(HANError, match=reason):
        load_detector(name, regions=5)


def test_boxes_without_features_have_none_to_keep(tmp_path):
    (tmp_path / "boxes.jsonl").write_text('{"photo": "a.jpg", "boxes": [[1, 2, 30, 40]]}\n')
    with pytest.raises(HANError, match="no features of its own"):
        load_detector(f"boxes:{tmp_path / 'boxes.jsonl'}+own+efficientnet-lite2", regions=5)


def test_the_sources_in_a_fingerprint():
    grid = "grid-1-36-efficientnet-lite2-9656183e-224+448"
    towers = [
        "hf:google/vit-base-patch16-224-1-0a1b2c3d-224x224.16.bicubic.6cb9",
        "efficientnet-lite2-1-9656183e-224.448",
    ]
    assert split_fingerprint(grid) == Sources(grid, ())
    assert split_fingerprint("+".join([grid, *towers])) == Sources(grid, tuple(towers))
    assert split_fingerprint("+".join([grid, "own", *towers])) == Sources(grid, tuple(towers), keeps_own=True)
