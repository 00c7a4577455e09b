"""Image towers of open_clip, from folders as it writes them."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from tiny_towers import MEAN, STD, noise, save_open_clip

from han_retrieval.errors import ConfigError, ModelError
from han_retrieval.regions import detector_for, load_detector
from han_retrieval.regions.backbones.backbone import load_backbone

open_clip = pytest.importorskip("open_clip")
VIT = {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}
TRUNK = {"image_size": 64, "timm_model_pretrained": False}
KINDS = {
    "vit": VIT,
    "norm-after-pooling": {**VIT, "final_ln_after_pool": True, "pool_type": "avg"},
    "resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
    "timm-vit": {**TRUNK, "timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": "linear"},
    "timm-vit-avg": {**TRUNK, "timm_model_name": "test_vit", "timm_pool": "avg", "timm_proj": "linear"},
    "timm-convnext": {**TRUNK, "timm_model_name": "test_convnext", "timm_pool": "", "timm_proj": "linear"},
}


def save(folder, kind):
    return save_open_clip(folder, KINDS[kind], custom_text=kind.startswith("timm"))


def model_of(folder):
    return open_clip.create_model(f"local-dir:{folder}").eval()


def pixels(backbone, photo):
    prepare = backbone.tower.preprocessing
    assert (prepare.mean, prepare.std) == (tuple(MEAN), tuple(STD))
    return prepare.pixels([photo], prepare.shape_for(photo), torch.device("cpu"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_pooled_vector_is_the_image_embedding_and_any_shape_goes_through(kind, tmp_path):
    backbone = load_backbone(f"open_clip:{save(tmp_path, kind)}")
    side = backbone.tower.preprocessing.width
    photo = noise(side, side)
    with torch.inference_mode():
        expected = model_of(tmp_path).encode_image(pixels(backbone, photo))[0]
    tokens = backbone.encode([photo, noise(2 * side, side)])
    assert torch.allclose(tokens[0].pooled, expected, atol=1e-4)
    _, h, w = tokens[1].maps[0].shape
    assert (w > h) is (kind != "resnet")
    assert tokens[1].maps[0].shape[0] == backbone.feature_size
    again = backbone.encode([photo])[0]  # after another shape
    assert torch.allclose(again.maps[0], tokens[0].maps[0], atol=1e-5)
    assert torch.allclose(again.pooled, expected, atol=1e-4)


def test_patches_are_those_behind_the_last_norm_and_projected_where_asked_for(tmp_path):
    folder, photo = save(tmp_path, "vit"), noise(64, 64)
    raw, shared = load_backbone(f"open_clip:{folder}"), load_backbone(f"open_clip:{folder}@proj")
    visual = model_of(folder).visual
    visual.output_tokens = True
    with torch.inference_mode():
        _, patches = visual(pixels(raw, photo))
        projected = patches[0] @ visual.proj
    assert torch.allclose(raw.encode([photo])[0].maps[0].flatten(1).mT, patches[0], atol=1e-4)
    assert torch.allclose(shared.encode([photo])[0].maps[0].flatten(1).mT, projected, atol=1e-4)
    assert detector_for(f"patches-1-5+{shared.fingerprint}").feature_size == 24


def test_the_same_weights_with_another_activation_are_another_backbone(tmp_path):
    folder, found = save(tmp_path, "vit"), []
    for quick in (False, True):
        config = json.loads((folder / "open_clip_config.json").read_text())
        config["model_cfg"]["quick_gelu"] = quick
        (folder / "open_clip_config.json").write_text(json.dumps(config))
        backbone = load_backbone(f"open_clip:{folder}")
        found.append((backbone.fingerprint, backbone.encode([noise(64, 64)])[0].pooled))
    (plain, features), (other, others) = found
    assert not torch.allclose(features, others, atol=1e-4)
    assert plain != other


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("timm") or kind == "resnet"])
def test_a_photo_of_one_cell_is_projected_as_the_photo_is(kind, tmp_path):
    """Where all cells are alike, the pooled vector is each cell's, but for a class token, which is no cell."""
    backbone = load_backbone(f"open_clip:{save(tmp_path, kind)}@proj")
    assert backbone.feature_size == 24
    tokens = backbone.encode([noise(64, 64)])[0]
    assert tokens.maps[0].shape[0] == 24
    if kind == "timm-convnext":
        visual, trunk = backbone.tower.visual, backbone.tower.visual.trunk
        with torch.inference_mode():
            cell = trunk.forward_features(pixels(backbone, noise(64, 64)))[:, :, :1, :1]
            assert torch.allclose(tokens.maps[0][:, 0, 0], visual.head(trunk.forward_head(cell))[0], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("open_clip", ConfigError, "open_clip has many models; name one with its weights, such as open_clip:ViT-B-16/"),
        ("open_clip:ViT-B-17/openai", ConfigError, "has no model 'ViT-B-17'; did you mean .*ViT-B-16"),
        ("open_clip:ViT-B-16/openay", ConfigError, "no weights 'openay', nor is that a file; .*openai"),
        ("open_clip:ViT-B-16", ConfigError, "no weights are named; .*openai"),
        ("open_clip:./none", ModelError, "none: no folder of an open_clip model, which has open_clip_config.json"),
    ],
)
def test_names_that_mean_nothing(name, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        load_detector(name, regions=5)


def test_no_network_no_weights_no_library(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        ModelError, match=r"^open_clip:ViT-B-16/laion2b_s34b_b88k: is not in the cache.*open_clip:FOLDER"
    ):
        load_detector("open_clip:ViT-B-16/laion2b_s34b_b88k", regions=5)
    folder = save(tmp_path / "model", "vit")
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"^open_clip:/.*: cannot be loaded"):
        load_detector(f"open_clip:{folder}", regions=5)
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ModelError, match=r"needs open_clip .*pip install 'han-retrieval\[open-clip\]'"):
        load_detector("open_clip:ViT-B-16/openai", regions=5)
