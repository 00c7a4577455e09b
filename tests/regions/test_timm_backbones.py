"""Backbones of timm: which tokens are taken, of photos of any shape, from folders and files."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from tiny_towers import MEAN, STD, noise, save_timm

from han_retrieval.errors import ConfigError, ModelError
from han_retrieval.regions import detector_for, load_detector
from han_retrieval.regions.backbones.backbone import load_backbone
from han_retrieval.regions.backbones.tower import Preprocessing, TowerBackbone

VIT = {"img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 2}
ANY_SHAPE = [
    ("vit_tiny_patch16_224", VIT),
    ("vit_tiny_patch16_224", {**VIT, "reg_tokens": 4, "global_pool": "avg"}),
    ("vit_tiny_patch16_224", {**VIT, "class_token": False, "global_pool": "map"}),
    ("eva02_tiny_patch14_224", {"img_size": 70, "embed_dim": 32, "depth": 2, "num_heads": 2}),
    ("naflexvit_base_patch16_gap", {"embed_dim": 32, "depth": 2, "num_heads": 2}),
    ("swin_tiny_patch4_window7_224", {"img_size": 64, "embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1,) * 4}),
    ("convnext_atto", {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}),
    ("resnet18", {"channels": (8, 16, 24, 32)}),
]


@pytest.mark.parametrize(("architecture", "options"), ANY_SHAPE)
def test_the_map_has_the_photos_proportions_and_belongs_to_its_photo_alone(architecture, options, tmp_path):
    backbone = load_backbone(f"timm:{save_timm(tmp_path, architecture, **options)}")
    wide, tall = noise(120, 60), noise(60, 120)
    tokens = backbone.encode([wide, tall, noise(120, 60, seed=1)])
    _, h, w = tokens[0].maps[0].shape
    assert w > h
    assert tokens[1].maps[0].shape == (backbone.feature_size, w, h)
    assert tokens[0].pooled.ndim == 1
    alone = backbone.encode([wide])[0]
    assert torch.allclose(alone.maps[0], tokens[0].maps[0], atol=1e-5)
    assert torch.allclose(alone.pooled, tokens[0].pooled, atol=1e-5)
    assert not torch.allclose(alone.maps[0], tokens[2].maps[0], atol=1e-3)


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_tokens_are_timms_own_after_the_last_norm_without_class_and_register_tokens(pool, tmp_path):
    options = {**VIT, "reg_tokens": 4, "global_pool": pool}
    save_timm(tmp_path, "vit_tiny_patch16_224", **options)
    backbone = load_backbone(f"timm:{tmp_path}")
    photo = noise(64, 64)
    network = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=0).eval()
    with torch.no_grad():
        for name in ("norm", "fc_norm"):  # so that a norm left out, or applied twice, is seen
            for module in (network, backbone.tower.network):
                norm = getattr(module, name)
                if not isinstance(norm, torch.nn.Identity):
                    norm.weight.copy_(torch.linspace(1, 3, 32))
        pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1).float() / 255
        pixels = ((pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)).unsqueeze(0)
        last, hidden = network.forward_intermediates(pixels, indices=1, norm=True)
        expected = hidden[0][0] if pool == "token" else network.fc_norm(hidden[0][0].permute(1, 2, 0)).permute(2, 0, 1)
        tokens = backbone.encode([photo])[0]
        assert tokens.maps[0].shape == (32, 4, 4)
        assert torch.allclose(tokens.maps[0], expected, atol=1e-5)
        assert torch.allclose(tokens.pooled, network.forward_head(last, pre_logits=True)[0], atol=1e-5)


def test_a_network_of_one_shape_gets_photos_stretched_to_it(tmp_path):
    backbone = load_backbone(f"timm:{save_timm(tmp_path, 'mixer_s32_224', img_size=224)}")
    assert [tokens.maps[0].shape for tokens in backbone.encode([noise(90, 30), noise(30, 90)])] == [(512, 7, 7)] * 2


def test_a_file_of_weights_gives_what_the_folder_gives(tmp_path):
    torch.manual_seed(0)
    network = timm.create_model("test_vit", pretrained=False)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    detector = load_detector(f"grid+timm:test_vit@{tmp_path / 'weights.safetensors'}", regions=5)
    found = detector.detect([noise(100, 50)])[0]
    assert found.features.shape == (5, detector.feature_size)
    again = detector_for(detector.fingerprint)
    assert again.fingerprint == detector.fingerprint
    assert np.array_equal(again.detect([noise(100, 50)])[0].features, found.features)


def test_weights_that_lie_elsewhere_now_are_known_again_and_others_are_refused(tmp_path):
    old = load_detector(f"timm:{save_timm(tmp_path / 'old', 'vit_tiny_patch16_224', **VIT)}", regions=5)
    save_timm(tmp_path / "new", "vit_tiny_patch16_224", **VIT)
    (tmp_path / "old").rename(tmp_path / "gone")
    with pytest.raises(ModelError, match=r"/old: no folder of a timm model.*; if the weights lie elsewhere now, say"):
        detector_for(old.fingerprint)
    moved = detector_for(old.fingerprint, name=f"timm:{tmp_path / 'new'}")
    assert moved.fingerprint == old.fingerprint
    photos = [noise(100, 50)]
    assert np.array_equal(moved.detect(photos)[0].features, old.detect(photos)[0].features)
    save_timm(tmp_path / "old", "vit_tiny_patch16_224", seed=1, **VIT)
    with pytest.raises(ModelError, match="the backbone's weights have changed since; name the revision"):
        detector_for(old.fingerprint)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("timm", ConfigError, "timm has many networks; name one, such as timm:vit"),
        ("timm:vit_base_patch16_dinov33", ConfigError, "no such model; did you mean .*vit_base_patch16_dinov3"),
        ("timm:resnet50.a9_in1k", ConfigError, "no such weights; of resnet50 it has .*resnet50.a1_in1k"),
        ("timm:test_vit@none.pth", ModelError, "none.pth: no such file; timm:test_vit@FILE"),
        ("timm:./none", ModelError, "none: no folder of a timm model, which has config.json"),
        ("timm:resnet50.a1_in1k@proj", ConfigError, "share no space with texts; name a CLIP with open_clip"),
        ("bottom-up+tmim:resnet50", ConfigError, "no backbone is called 'tmim'; did you mean 'timm'"),
        ("botom-up+timm:resnet50", ConfigError, "no detector is called 'botom-up'; did you mean 'bottom-up'"),
        ("patches", ConfigError, "patches are those of a backbone; name it: --detector timm:NAME"),
    ],
)
def test_names_that_mean_nothing_are_one_line(name, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        load_detector(name, regions=36)


def test_weights_that_are_not_here_and_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        ModelError, match=r"^timm:test_vit.r160_in1k: is not in the cache.*name its file: timm:test_vit"
    ):
        load_detector("timm:test_vit.r160_in1k", regions=5)
    with pytest.raises(ModelError, match=r"^timm:hf-hub:timm/none: is not in .* name its folder: timm:FOLDER$"):
        load_detector("timm:hf-hub:timm/none", regions=5)


@pytest.mark.parametrize("overflowing", ["maps", "pooled"])
def test_what_overflows_in_half_precision_is_computed_anew(overflowing, monkeypatch):
    class Overflowing:
        feature_size, preprocessing, calls = 2, Preprocessing(8, 8, 4, (0.5,) * 3, (0.5,) * 3), 0

        def modules(self):
            return [torch.nn.Identity()]

        def __call__(self, pixels):
            self.calls += 1
            found = {"maps": torch.ones(1, 2, 2, 2), "pooled": torch.ones(1, 2)}
            if self.calls == 1:
                found[overflowing].fill_(torch.inf)
            return found["maps"], found["pooled"]

    backbone = TowerBackbone(Overflowing(), name="x")
    backbone.device = torch.device("cuda")  # which need not be there
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    maps, pooled = backbone._run(torch.zeros(1, 3, 8, 8))
    assert maps.isfinite().all()
    assert pooled.isfinite().all()


def test_a_file_that_holds_something_else(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"something else")
    with pytest.raises(ModelError, match=r"^timm:test_vit@.*: cannot be loaded"):
        load_detector(f"timm:test_vit@{tmp_path / 'weights.safetensors'}", regions=5)
