"""VSE++ and VSE-infinity by hand: pooling, cosine, and the pooling operator number by number."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from closeness import assert_close, in_float64
from matchers_of_all_kinds import SENTENCES, random_regions, small_matcher

from han_retrieval.errors import HANError
from han_retrieval.matchers.gpo import GPO, last, mean, position_codes
from han_retrieval.matchers.vse import PooledMatcher


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


def pooled_by_hand(gpo: GPO, tokens: torch.Tensor) -> np.ndarray:
    """GPO of one set (t, d) without padding: each dimension sorted by itself, then weighted by rank."""
    t, size = len(tokens), gpo.logit.in_features
    codes = torch.zeros(1, t, size, dtype=tokens.dtype)
    for k in range(t):
        for i in range(0, size, 2):
            angle = k / 10000 ** (i / size)
            codes[0, k, i], codes[0, k, i + 1] = math.sin(angle), math.cos(angle)
    states = gpo.gru(codes)[0][0]  # (t, 2 p)
    weight = gpo.logit.weight[0]
    logits = [float(weight @ (state[:size] + state[size:]) / 2) / gpo.temperature for state in states]
    theta = [math.exp(x) / sum(map(math.exp, logits)) for x in logits]
    pooled = []
    for numbers in tokens.numpy().T:
        pooled.append(sum(share * x for share, x in zip(theta, sorted(numbers, reverse=True), strict=True)))
    return np.array(pooled)


@torch.inference_mode()
def test_the_pooling_operator_is_a_sort_and_a_weighted_sum():
    torch.manual_seed(0)
    gpo = GPO(6, temperature=0.1).double()
    mask = torch.tensor([[1, 1, 1, 0, 1], [0, 1, 0, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 1, 0]]).bool()
    tokens = torch.randn(4, 5, 7, dtype=torch.float64)
    pooled = gpo(tokens.masked_fill(~mask.unsqueeze(-1), 0), mask)
    for of_set, there, found in zip(tokens, mask, pooled, strict=True):
        assert np.allclose(found.numpy(), pooled_by_hand(gpo, of_set[there]), atol=1e-6)  # codes are float32
    theta = gpo.weights(torch.tensor([1, 4]), 5)
    assert torch.allclose(theta.sum(1), torch.ones(2, dtype=torch.float64))
    assert theta[0].tolist() == [1, 0, 0, 0, 0]
    assert theta[1, 4] == 0


@torch.inference_mode()
def test_mean_and_greatest_are_pooling_operators():
    gpo = GPO(4, temperature=0.1)
    tokens, mask = torch.randn(2, 5, 3), torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0]]).bool()
    tokens = tokens.masked_fill(~mask.unsqueeze(-1), 0)
    torch.nn.init.zeros_(gpo.logit.weight)
    assert_close(gpo(tokens, mask), mean(tokens.double(), mask), 1e-5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpo, "weights", lambda sizes, t: torch.eye(t)[:1].expand(len(sizes), t))
        greatest = tokens.masked_fill(~mask.unsqueeze(-1), -torch.inf).amax(1)
        assert torch.equal(gpo(tokens, mask), greatest)


def test_codes_of_positions():
    codes = position_codes(3, 4)
    wanted = [[0, 1, 0, 1], [math.sin(1), math.cos(1), math.sin(0.01), math.cos(0.01)]]
    assert np.allclose(codes[:2], wanted, atol=1e-6)


def test_mean_and_last_leave_padding_out():
    tokens = torch.tensor([[[1.0], [2.0], [0.0]], [[0.0], [5.0], [7.0]]])
    mask = torch.tensor([[True, True, False], [False, True, True]])
    assert mean(tokens, mask).tolist() == [[1.5], [6.0]]
    assert last(tokens, mask).tolist() == [[2.0], [7.0]]


@torch.inference_mode()
def test_vse_is_the_cosine_of_mean_regions_and_the_last_state():
    model = small_matcher("vse++").double()
    assert isinstance(model, PooledMatcher)
    regions, region_mask = random_regions(3, 5)
    words, word_mask = model.words(SENTENCES)
    scores = model.similarity(regions.double(), region_mask, words, word_mask)
    for i in range(3):
        image = model.image_encoder.projection(regions[i, region_mask[i]].double()).mean(0)
        for t in range(4):
            ids = words[t, word_mask[t]]
            _, state = model.text_encoder.gru(model.text_encoder.embedding(ids).unsqueeze(0))
            assert float(scores[i, t]) == pytest.approx(cosine(image.numpy(), state[0, 0].numpy()), abs=1e-12)


@torch.inference_mode()
def test_vse_infinity_is_the_cosine_of_pooled_sets():
    model = small_matcher("vse-infinity", position_size=6).double()
    regions, region_mask = random_regions(3, 5)
    words, word_mask = model.words(SENTENCES)
    scores = model.similarity(regions.double(), region_mask, words, word_mask)
    narrow, norm, _, wide = model.image_encoder.perceptron
    for i in range(3):
        x = regions[i, region_mask[i]].double()
        hidden = (narrow(x) - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
        image = pooled_by_hand(model.image_pooling, model.image_encoder.projection(x) + wide(hidden.clamp(min=0)))
        for t in range(4):
            states = model.text_encoder.gru(model.text_encoder.embedding(words[t, word_mask[t]]).unsqueeze(0))[0][0]
            text = pooled_by_hand(model.text_pooling, (states[:, :8] + states[:, 8:]) / 2)
            assert float(scores[i, t]) == pytest.approx(cosine(image, text), abs=1e-6)


def test_padding_is_no_part_of_a_batch_s_statistics():
    model = small_matcher("vse-infinity").train()
    regions, region_mask = random_regions(5, 7)
    padded = torch.cat([regions, torch.full((5, 3, 6), 1e3)], 1), torch.cat([region_mask, torch.zeros(5, 3).bool()], 1)
    exact = in_float64(model).encode_images(regions.double(), region_mask)
    assert_close(model.encode_images(*padded), exact, 1e-5)


@pytest.mark.parametrize("name", ["vse++", "vse-infinity"])
def test_pooled_items_are_one_unit_vector_and_have_no_evidence(name):
    model = small_matcher(name)
    images, texts = model.encode_images(*random_regions(3, 5)), model.encode_texts(*model.words(SENTENCES))
    assert (images.shape, texts.shape) == ((3, 1, 8), (4, 1, 8))
    for tokens in (images, texts):
        assert torch.allclose(tokens.norm(dim=-1), torch.ones(len(tokens), 1))
    with pytest.raises(HANError, match="no evidence by word and region; take a han, scan or maxsim model") as error:
        model.explain(torch.randn(3, 6), torch.tensor([4, 5]))
    assert name in str(error.value)
