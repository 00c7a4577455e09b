"""What runs without torch gives what runs with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from han_retrieval.light.encoder import layer_norm, softmax
from han_retrieval.light.model import LightMap, LightModel
from han_retrieval.matchers import HAN, HANConfig, load_matcher, model_folder
from han_retrieval.search.pooling import MeanPooling, TextMap
from han_retrieval.text import Vocabulary
from han_retrieval.text.vocabulary import SPECIAL_WORDS

WORDS = ("a", "red", "blue", "dog", "cat", "and", "runs")
SENTENCES = ("a red dog", "dog", "A blue cat, and a zebra runs!", "the unknowable")


def saved(folder, **options):
    torch.manual_seed(0)
    vocabulary = Vocabulary((*SPECIAL_WORDS, *WORDS))
    sizes = {"region_size": 12, "vocabulary_size": len(vocabulary), "word_size": 8, "joint_size": 16}
    model = HAN(HANConfig(**sizes, **options), vocabulary=vocabulary)
    for name, parameter in model.named_parameters():
        if "trained_backbone" in name:  # near what it knows, as after a training
            parameter.data += 0.02 * torch.randn_like(parameter)
        elif parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return model.eval()


OPTIONS = [
    {},
    {"text_encoder": "gru", "bos_eos": True},
    {"residual": "token"},
    {"attention_over": "own"},
    {"attention_over": "other"},
    {"attention_over": "one-way"},
    {"text_encoder": "minilm"},
    {"text_encoder": "minilm", "text_layers": "last", "text_head": "linear"},
    {"text_encoder": "minilm", "text_backbone": "layers"},
    {"text_encoder": "minilm", "text_backbone": "trained"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@torch.no_grad()
def test_tokens_and_scores_are_those_of_the_model(options, tmp_path):
    model = saved(tmp_path / "model", **options)
    light = LightModel.load(tmp_path / "model")
    mask = torch.arange(5) < torch.tensor([5, 1, 3]).unsqueeze(1)
    photos = model.encode_images(torch.randn(3, 5, 12), mask)
    for sentence in SENTENCES:
        words, word_mask = model.words([sentence])
        wanted = model.encode_texts(words, word_mask)
        tokens = light.tokens(sentence)
        np.testing.assert_allclose(tokens, wanted[0].numpy(), atol=1e-5)
        scores = light.scores(photos.numpy(), mask.numpy(), tokens)
        reference = model.score(photos, mask, wanted, word_mask, backend="reference")[:, 0]
        np.testing.assert_allclose(scores, reference.numpy(), atol=1e-5)


def test_words_are_known_as_they_are_to_the_model(tmp_path):
    for encoder in ("bigru", "minilm"):
        model, light = saved(tmp_path / encoder, text_encoder=encoder), LightModel.load(tmp_path / encoder)
        assert light.known_words(SENTENCES[2]) == model.known_words(SENTENCES[2])
    assert LightModel.load(tmp_path / "bigru").known_words("zebra") == {}
    assert LightModel.load(tmp_path / "minilm").known_words("...") == {}


@pytest.mark.parametrize("options", [{"blocks": 2}, {"blocks": 0}, {"alignment": "both"}, {"pooling": "lse"}], ids=str)
def test_other_models_take_torch(options, tmp_path):
    saved(tmp_path / "model", **options)
    assert LightModel.load(tmp_path / "model") is None


def test_a_damaged_model_and_another_language_model_are_left_to_torch(tmp_path):
    saved(tmp_path / "damaged")
    weights = tmp_path / "damaged" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert LightModel.load(tmp_path / "damaged") is None
    model = saved(tmp_path / "other", text_encoder="minilm")
    model.text_encoder.fingerprint = "minilm-1-0000000000000000"
    model.save_pretrained(tmp_path / "other")
    assert LightModel.load(tmp_path / "other") is None
    assert LightModel.load(tmp_path / "nothing") is None


@torch.no_grad()
def test_the_map_of_sentences_is_that_of_the_index(tmp_path):
    saved(tmp_path)
    tokens = torch.randn(3, 16)
    assert np.allclose(LightMap(tmp_path, model="hash").pool(tokens.numpy()), _pooled(tokens, None), atol=1e-6)
    text_map = TextMap(torch.randn(16, 16), torch.randn(16))
    text_map.write(tmp_path, model="hash")
    assert np.allclose(LightMap(tmp_path, model="hash").pool(tokens.numpy()), _pooled(tokens, text_map), atol=1e-5)
    assert np.allclose(LightMap(tmp_path, model="other").pool(tokens.numpy()), _pooled(tokens, None), atol=1e-6)


def _pooled(tokens, text_map):
    mask = torch.ones(1, len(tokens), dtype=torch.bool)
    return MeanPooling(text_map).texts(tokens.unsqueeze(0), mask)[0].numpy()


@torch.no_grad()
def test_the_model_that_ships_runs_without_torch():
    light, model = LightModel.load(model_folder("default")), load_matcher()
    for sentence in ("two dogs in the snow", "a child's 3.5-year-old (red) t-shirt — don't!"):
        words, mask = model.words([sentence])
        np.testing.assert_allclose(light.tokens(sentence), model.encode_texts(words, mask)[0].numpy(), atol=1e-5)


def test_layer_norm_and_softmax_are_torch_s():
    x = torch.randn(3, 7) * 30
    np.testing.assert_allclose(layer_norm(x.numpy(), 1e-5), torch.nn.functional.layer_norm(x, (7,)), atol=1e-5)
    np.testing.assert_allclose(softmax(x.numpy()), x.softmax(-1), atol=1e-6)
