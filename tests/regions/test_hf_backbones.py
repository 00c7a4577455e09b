"""Vision towers and object detectors of transformers, from folders as ``save_pretrained`` writes them."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_towers import noise, save_hf

from han_retrieval.errors import ConfigError, HANError, ModelError
from han_retrieval.regions import detector_for, load_detector
from han_retrieval.regions.backbones.backbone import load_backbone

transformers = pytest.importorskip("transformers")
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
TEXT = {**SMALL, "vocab_size": 50, "max_position_embeddings": 8, "bos_token_id": 1, "eos_token_id": 2}
VIT = {**SMALL, "image_size": 64, "patch_size": 16}
SQUARE = {"size": {"height": 64, "width": 64}}
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}


def spread(model):
    """Random weights with norms that differ from the identity, so that one left out or applied twice is seen."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name.lower() and weight.ndim == 1 and name.endswith("weight"):
                weight.copy_(torch.linspace(1, 3, len(weight)))
    return model


def tower(kind):
    torch.manual_seed(0)
    t = transformers
    vit = t.ViTImageProcessor(**SQUARE)
    cropping = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}
    clip = t.CLIPImageProcessor(**cropping)
    made = {
        "clip": lambda: (t.CLIPModel(t.CLIPConfig(text_config=TEXT, vision_config=VIT, projection_dim=24)), clip),
        "clip-vision": lambda: (
            t.CLIPVisionModelWithProjection(t.CLIPVisionConfig(**VIT, projection_dim=24)),
            clip,
        ),
        "siglip": lambda: (
            t.SiglipModel(t.SiglipConfig(text_config=TEXT, vision_config=VIT)),
            t.SiglipImageProcessor(**SQUARE),
        ),
        "siglip2": lambda: (
            t.Siglip2Model(
                t.Siglip2Config(text_config=TEXT, vision_config={**SMALL, "num_patches": 16, "patch_size": 16})
            ),
            t.Siglip2ImageProcessor(patch_size=16, max_num_patches=16),
        ),
        "dinov2": lambda: (
            t.Dinov2WithRegistersModel(
                t.Dinov2WithRegistersConfig(
                    hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=64, patch_size=16
                )
            ),
            t.BitImageProcessor(**cropping),
        ),
        "dinov3": lambda: (
            t.DINOv3ViTModel(t.DINOv3ViTConfig(**VIT, num_register_tokens=4)),
            t.DINOv3ViTImageProcessor(**SQUARE),
        ),
        "vit": lambda: (t.ViTModel(t.ViTConfig(**VIT)), vit),
        "beit": lambda: (t.BeitModel(t.BeitConfig(**VIT)), vit),
        "convnext": lambda: (
            t.ConvNextModel(t.ConvNextConfig(**STAGES)),
            t.ConvNextImageProcessor(size={"shortest_edge": 64}),
        ),
        "resnet": lambda: (
            t.ResNetModel(t.ResNetConfig(embedding_size=8, layer_type="basic", **STAGES)),
            t.ConvNextImageProcessor(size={"shortest_edge": 64}),
        ),
        "swin": lambda: (
            t.SwinModel(t.SwinConfig(image_size=64, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4)),
            vit,
        ),
    }
    model, processor = made[kind]()
    return spread(model).eval(), processor


# What the library itself gives for a photo of the tower's own shape: patches after the last norm, the photo's vector.
def last(m, x):
    return m(pixel_values=x).last_hidden_state


REFERENCES = {
    "clip": lambda m, x: (
        m.vision_model.post_layernorm(last(m.vision_model, x))[:, 1:],
        m.get_image_features(pixel_values=x).pooler_output,
    ),
    "clip-vision": lambda m, x: (
        m.vision_model.post_layernorm(last(m, x))[:, 1:],
        m(pixel_values=x).image_embeds,
    ),
    "siglip": lambda m, x: (last(m.vision_model, x), m.get_image_features(pixel_values=x).pooler_output),
    "dinov2": lambda m, x: (last(m, x)[:, 5:], last(m, x)[:, 0]),
    "dinov3": lambda m, x: (last(m, x)[:, 5:], last(m, x)[:, 0]),
    "vit": lambda m, x: (last(m, x)[:, 1:], last(m, x)[:, 0]),
    "beit": lambda m, x: (m.pooler.layernorm(last(m, x))[:, 1:], m.pooler.layernorm(last(m, x)[:, 0])),
    "convnext": lambda m, x: (m.layernorm(last(m, x).flatten(2).mT), None),
    "resnet": lambda m, x: (last(m, x).flatten(2).mT, m(pixel_values=x).pooler_output.flatten(1)),
    "swin": lambda m, x: (last(m, x), m(pixel_values=x).pooler_output),
}


@pytest.mark.parametrize("kind", [*REFERENCES, "siglip2"])
def test_tokens_are_the_librarys_own(kind, tmp_path):
    model, processor = tower(kind)
    backbone = load_backbone(f"hf:{save_hf(tmp_path, model, processor)}")
    photo = noise(64, 64)
    inputs = processor(images=photo, return_tensors="pt")
    with torch.inference_mode():
        if kind == "siglip2":
            found = model.get_image_features(**inputs)
            patches, pooled = found.last_hidden_state, found.pooler_output
        else:
            pixels = inputs["pixel_values"]
            if kind in ("convnext", "resnet"):  # whose image processor cuts off the photo's edges
                pixels = backbone.tower.preprocessing.pixels([photo], (64, 64), torch.device("cpu"))
            patches, pooled = REFERENCES[kind](model, pixels)
    tokens = backbone.encode([photo])[0]
    assert torch.allclose(tokens.maps[0].flatten(1).mT, patches[0], atol=1e-4)
    if pooled is not None:
        assert torch.allclose(tokens.pooled, pooled[0], atol=1e-4)
    wide, _ = backbone.encode([noise(128, 64), noise(64, 128)])
    assert wide.maps[0].shape[0] == backbone.feature_size
    assert (wide.maps[0].shape[2] > wide.maps[0].shape[1]) is (kind != "swin")
    assert torch.allclose(backbone.encode([photo, noise(64, 64, 1)])[0].maps[0], tokens.maps[0], rtol=1e-4, atol=1e-4)


def test_padding_of_the_librarys_own_batches_changes_nothing_that_is_left_out_here(tmp_path):
    model, processor = tower("siglip2")
    backbone = load_backbone(f"hf:{save_hf(tmp_path, model, processor)}")
    photo = noise(80, 48)  # 5 x 3 of 16 patches at most, as it is: the library pads to 16
    inputs = processor(images=photo, return_tensors="pt")
    real = inputs["pixel_attention_mask"][0].bool()
    assert not real.all()
    with torch.inference_mode():
        expected = model.get_image_features(**inputs)
    tokens = backbone.encode([photo])[0]
    assert tokens.maps[0].shape[1:] == tuple(inputs["spatial_shapes"][0]) == (3, 5)
    assert torch.allclose(tokens.maps[0].flatten(1).mT, expected.last_hidden_state[0, real], atol=1e-4)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_patches_in_the_space_of_texts(kind, tmp_path):
    model, processor = tower(kind)
    backbone = load_backbone(f"hf:{save_hf(tmp_path, model, processor)}@proj")
    photo = noise(64, 64)
    with torch.inference_mode():
        patches, pooled = REFERENCES[kind](model, processor(images=photo, return_tensors="pt")["pixel_values"])
        alone = model.visual_projection(patches[0]) if kind == "clip" else model.vision_model.head(patches[0][:, None])
    tokens = backbone.encode([photo])[0]
    assert torch.allclose(tokens.maps[0].flatten(1).mT, alone, atol=1e-4)
    assert tokens.pooled.shape == alone[0].shape == (backbone.feature_size,)
    assert torch.allclose(tokens.pooled, pooled[0], atol=1e-4)
    assert detector_for(f"patches-1-5+{backbone.fingerprint}").feature_size == backbone.feature_size


def test_boxes_of_an_object_detector_described_by_a_tower(tmp_path):
    torch.manual_seed(0)
    config = transformers.YolosConfig(
        **{**VIT, "image_size": [64, 64]}, num_detection_tokens=8, id2label={0: "dog", 1: "cat"}
    )
    eyes = save_hf(
        tmp_path / "detector-50-1",
        transformers.YolosForObjectDetection(config),
        transformers.YolosImageProcessor(size={"shortest_edge": 64, "longest_edge": 320}),
    )
    model, processor = tower("vit")
    save_hf(tmp_path / "vit-16-224", model, processor)
    detector = load_detector(f"hf:{eyes}+hf:{tmp_path / 'vit-16-224'}", regions=5)
    photos = [noise(120, 60), noise(60, 90)]
    found = detector.detect(photos)
    for photo, regions in zip(photos, found, strict=True):
        assert regions.boxes[0].tolist() == [0, 0, *photo.size]
        assert 1 < len(regions.boxes) <= 5
        assert set(regions.labels[1:]) <= {"dog", "cat"}
        assert regions.features.shape == (len(regions.boxes), 32)
        assert regions.pooled.shape == (32,)
        assert regions.pooled.dtype == np.float16
    for strip in detector.detect([noise(300, 1), noise(2, 300)]):  # as web pages have them for space
        assert (strip.boxes <= [strip.width, strip.height] * 2).all()
    again = detector_for(detector.fingerprint)
    assert again.fingerprint == detector.fingerprint
    assert np.allclose(again.detect(photos[:1])[0].features, found[0].features, atol=2e-3)
    transformers.YolosImageProcessor(size={"shortest_edge": 32, "longest_edge": 96}).save_pretrained(eyes)
    with pytest.raises(HANError, match=r"the features were made by .*-1-5-.* gives"):
        detector_for(detector.fingerprint)
    with pytest.raises(ConfigError, match="is an object detector, which gives boxes; name what describes them: hf:"):
        load_detector(f"hf:{eyes}", regions=5)
    with pytest.raises(ConfigError, match=r"a vit is no object detector; for its own patches: patches\+hf:"):
        load_detector(f"hf:{tmp_path / 'vit-16-224'}+efficientnet-lite2", regions=5)


def test_folders_that_lack_something(tmp_path):
    with pytest.raises(ModelError, match=r"no folder of a transformers model, which has config.json"):
        load_detector(f"hf:{tmp_path}", regions=5)
    model, processor = tower("vit")
    save_hf(tmp_path, model, processor)
    with pytest.raises(ConfigError, match="a vit shares no space with texts; leave @proj out"):
        load_detector(f"hf:{tmp_path}@proj", regions=5)
    weights = transformers.modeling_utils.load_state_dict(tmp_path / "model.safetensors")
    weights = {name: value for name, value in weights.items() if "embeddings.position" not in name}
    from safetensors.torch import save_file

    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"^hf:/.*: its files lack 1 weights of the model, such as embeddings.position"
    ):
        load_detector(f"hf:{tmp_path}", regions=5)
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(ModelError, match=r"^hf:/.*: cannot be loaded"):
        load_detector(f"hf:{tmp_path}", regions=5)
    (tmp_path / "preprocessor_config.json").unlink(missing_ok=True)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vitt"}))
    with pytest.raises(ModelError, match=r"^hf:/.*: cannot be loaded"):
        load_detector(f"hf:{tmp_path}", regions=5)


def test_an_old_friend_that_is_not_here_gated_or_without_its_library(monkeypatch):
    from huggingface_hub import errors

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"^hf:no/such: is not in the cache, and the Hub cannot be reached; without a"):
        load_detector("hf:no/such", regions=5)

    def refuse(kind):
        def from_pretrained(*args, **kwargs):
            response = SimpleNamespace(headers={}, request=None, status_code=403)
            try:
                raise kind("no", response=response)
            except errors.HfHubHTTPError as error:
                raise OSError("You are trying to access a gated repo.\nMake sure ...") from error

        return from_pretrained

    for kind, message in [
        (
            errors.GatedRepoError,
            r"hf:a/b: its owner lets only some people in: accept its terms .* then `hf auth login`",
        ),
        (errors.RepositoryNotFoundError, r"hf:a/b: the Hub has none of that name, or it is private"),
        (errors.RevisionNotFoundError, r"hf:a/b: the Hub has no such revision"),
    ]:
        monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", refuse(kind))
        with pytest.raises(ModelError, match=message):
            load_detector("hf:a/b", regions=5)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError, match=r"hf:a/b: needs transformers .*pip install 'han-retrieval\[hf\]'"):
        load_detector("hf:a/b", regions=5)
    with pytest.raises(ConfigError, match="'hf'"):
        load_detector("boxes+hff:a/b", regions=5)
