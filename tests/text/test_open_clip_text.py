"""Text towers of open_clip: that they read what they were trained to read, padding, the shared space."""

from __future__ import annotations

import json
import shutil

import open_clip
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from tiny_language_models import SENTENCES, tiny_language_model

from han_retrieval.errors import ConfigError, ModelError
from han_retrieval.matchers import HAN, HANConfig
from han_retrieval.regions.backbones.open_clip_tower import full_name, resolve_name
from han_retrieval.text import make_text_encoder, pad_rows, tokenize

TEXT = {
    "clip": {"context_length": 32, "vocab_size": 49408},
    "siglip": {
        "context_length": 32,
        "vocab_size": 100,
        "no_causal_mask": True,
        "pool_type": "last",
        "proj_bias": True,
        "hf_tokenizer_name": "here",
        "tokenizer_kwargs": {"clean": "canonicalize"},
    },
    "coca": {"context_length": 32, "vocab_size": 49408, "embed_cls": True, "pad_id": 0},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {kind: tiny_model(tmp_path_factory.mktemp("open-clip") / kind, kind) for kind in TEXT}


def tiny_model(folder, kind):
    torch.manual_seed(0)
    if kind == "siglip":
        tiny_language_model(folder, "siglip")
        (folder / "model.safetensors").unlink()
    folder.mkdir(exist_ok=True)
    vision = {"image_size": 8, "patch_size": 4, "width": 16, "layers": 1, "head_width": 8}
    text = {"width": 16, "heads": 2, "layers": 2, **TEXT[kind]}
    config = {
        "embed_dim": 12,
        "vision_cfg": vision,
        "text_cfg": text,
        **({"custom_text": True} if kind != "clip" else {}),
    }
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    made = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    with torch.no_grad():
        for weight in made.parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.3)
    torch.save(made.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


def encoder(folder, **options):
    torch.manual_seed(1)
    plain = {"text_layers": "last", "text_head": "linear"}
    config = HANConfig(joint_size=8, text_encoder=f"open_clip:{folder}", **(plain | options))
    return make_text_encoder(config.text_encoder, config).eval()


def rows(model, sentences):
    return pad_rows([torch.tensor(model.tokenizer.encode(sentence).ids) for sentence in sentences])


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize("layers", ["last", "mix"])
def test_tokens_do_not_depend_on_padding_or_on_other_sentences(folders, kind, layers):
    model = encoder(folders[kind], text_layers=layers)
    words, mask = rows(model, SENTENCES)
    with torch.no_grad():
        together = model(words, mask)
        for one, there, tokens in zip(words, mask, together, strict=True):
            alone = model(one[there].unsqueeze(0), there[there].unsqueeze(0))[0]
            assert (alone - tokens[there]).abs().max() < 1e-5
            assert alone.std() > 0.01


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_sentences_are_read_as_open_clip_reads_them(folders, kind):
    model, tokenizer = encoder(folders[kind]), open_clip.get_tokenizer(f"local-dir:{folders[kind]}")
    theirs = open_clip.create_model(f"local-dir:{folders[kind]}").eval()
    whole = [sentence for sentence in SENTENCES if not model.tokenizer.encode(sentence).left_out]
    assert len(whole) >= 3
    words, mask = rows(model, whole)
    ids, valid, _ = model._sequences(words, mask)
    expected = tokenizer(whole)
    assert torch.equal(ids[valid], expected[:, : ids.shape[1]][valid])
    with torch.no_grad():
        assert (theirs.encode_text(expected) - model.pooled(words, mask)).abs().max() < 1e-5
    for sentence in whole:
        assert list(model.tokenizer.encode(sentence).words) == tokenize(sentence)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize("space", ["\xa0", "\u2009", "\u2028"])
def test_spaces_of_all_kinds_are_spaces(folders, kind, space):
    model = encoder(folders[kind])
    assert model.tokenizer.encode(f"Two{space}Dogs").ids == model.tokenizer.encode("Two Dogs").ids


def test_what_cannot_be_cleaned_in_place_is_read_in_lower_case(folders):
    model = encoder(folders["clip"])
    assert model.tokenizer.encode("Two ﬁsh").ids == model.tokenizer.encode("two ﬁsh").ids


def test_a_half_of_a_character_is_no_word(folders):
    for kind in ("clip", "siglip"):
        encoded = encoder(folders[kind]).tokenizer.encode("a red \ud83d ball")
        assert encoded.words == ("a", "red", "ball")


def test_the_shared_space(folders):
    model = encoder(f"{folders['clip']}@proj")
    words, mask = rows(model, ["a red ball"])
    ids, valid, _ = model._sequences(words, mask)
    states = model.backbone.states(ids, valid, every=False)[0, 0]
    assert (states[-1] - model.pooled(words, mask)[0]).abs().max() < 1e-5
    assert model.frozen_tokens(words, mask).shape == (1, 3, 12)


def test_the_name_finds_the_model_again_from_any_folder(folders, tmp_path, monkeypatch):
    folder = shutil.copytree(folders["clip"], tmp_path / "clip")
    monkeypatch.chdir(tmp_path)
    for given, name in (("./clip", folder), ("clip@proj", f"{folder}@proj")):
        model = encoder(given)
        assert model.name == f"open_clip:{name}"
        assert encoder(name).fingerprint == model.fingerprint
    weights = tmp_path / "w.pt"
    weights.touch()
    assert full_name(*resolve_name("RN50/w.pt", open_clip)[:2]) == f"open_clip:RN50/{weights}"


def test_the_model_s_own_folder_may_hold_it(folders, tmp_path):
    clip = shutil.copytree(folders["clip"], tmp_path / "clip")
    config = HANConfig(region_size=6, vocabulary_size=4, joint_size=8, text_encoder=f"open_clip:{clip}@proj")
    HAN(config).save_pretrained(tmp_path / "model")
    shutil.move(clip, tmp_path / "model/clip")
    assert HAN.from_pretrained(tmp_path / "model").text_encoder.name == f"open_clip:{tmp_path / 'model/clip'}@proj"


def test_without_a_network_what_can_be_named_instead_is_told(monkeypatch):
    def unreachable(*_, **__):
        raise LocalEntryNotFoundError("of\nmany\nlines")

    monkeypatch.setattr(open_clip, "create_model", unreachable)
    with pytest.raises(ModelError, match=r"without a network, name its folder: open_clip:FOLDER$"):
        encoder("hf-hub:timm/ViT-B-16-SigLIP")
    with pytest.raises(ModelError, match=r"name its file or folder: open_clip:ViT-B-16/FILE or open_clip:FOLDER$"):
        encoder("ViT-B-16/openai")


def test_what_is_not_known_is_told(folders):
    with pytest.raises(ModelError, match="its text tower, a TextTransformer, is not known here"):
        encoder(folders["coca"])
    with pytest.raises(ConfigError, match="open_clip has no model 'ViT-B-17'; did you mean"):
        encoder("ViT-B-17/openai")
    with pytest.raises(ConfigError, match="no weights 'nobody', nor is that a file"):
        encoder("ViT-B-16/nobody")
