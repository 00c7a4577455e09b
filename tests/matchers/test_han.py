"""HAN by hand: the formulas, number by number, in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from closeness import assert_close
from pydantic import ValidationError
from random_items import random_model

from han_retrieval.errors import ConfigError
from han_retrieval.matchers import HAN, HANConfig
from han_retrieval.text import BiGRU


def by_hand(model: HAN, o: np.ndarray, w: np.ndarray) -> float:
    """S of one image's tokens (m, d) and one text's (n, d), with loops and no masks."""

    def linear(layer, x):
        return layer.weight.detach().numpy() @ x + layer.bias.detach().numpy()

    def softmax(x):
        e = np.exp(np.array(x) - max(x))
        return e / e.sum()

    def cos(x, y):
        return x @ y / (np.linalg.norm(x) * np.linalg.norm(y))

    tokens = [*o, *w]
    for block in model.blocks:
        q, k, v = ([linear(layer, h) for h in tokens] for layer in (block.query, block.key, block.value))
        beta, over = model.config.attention_temperature, model.config.attention_over
        weights = []
        for i, q_i in enumerate(q):
            is_own = [(i < len(o)) == (j < len(o)) for j in range(len(k))]
            one_way = over == "one-way" and i >= len(o)  # a word
            seen = [over == "both" or one_way or own == (over != "other") for own in is_own]
            logits = [beta * (q_i @ k_j) if s else -np.inf for k_j, s in zip(k, seen, strict=True)]
            weights.append(softmax(logits))
        sums = [sum(a * v_j for a, v_j in zip(row, v, strict=True)) for row in weights]
        tokens = [linear(block.output, s) + q_i for s, q_i in zip(sums, q, strict=True)]
    regions, words = tokens[: len(o)], tokens[len(o) :]
    matches = []
    for word in words:
        alpha = softmax([model.config.alignment_temperature * cos(word, region) for region in regions])
        matches.append(cos(word, sum(a * region for a, region in zip(alpha, regions, strict=True))))
    return float(np.mean(matches))


@pytest.mark.parametrize(
    ("blocks", "over"),
    [(0, "both"), (1, "both"), (2, "both"), (1, "own"), (1, "other"), (1, "one-way"), (2, "one-way")],
)
@pytest.mark.parametrize("backend", ["reference", "gram"])
@torch.inference_mode()
def test_scores_are_the_formulas(blocks, over, backend):
    torch.manual_seed(blocks)
    sizes = {"region_size": 5, "vocabulary_size": 9, "word_size": 4, "joint_size": 6}
    model = HAN(HANConfig(**sizes, blocks=blocks, attention_over=over)).double()
    for parameter in model.blocks.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    regions, words = torch.randn(2, 4, 5, dtype=torch.float64), torch.randint(1, 9, (3, 3))
    region_mask, word_mask = torch.ones(2, 4, dtype=torch.bool), torch.ones(3, 3, dtype=torch.bool)
    scores = model.similarity(regions, region_mask, words, word_mask, backend=backend)
    o, w = model.encode_images(regions, region_mask).numpy(), model.encode_texts(words, word_mask).numpy()
    for i in range(2):
        for t in range(3):
            assert abs(float(scores[i, t]) - by_hand(model, o[i], w[t])) < 1e-12


@torch.no_grad()
def test_blocks_start_near_the_identity():
    torch.manual_seed(0)
    model = HAN(HANConfig(region_size=5, vocabulary_size=9, word_size=4, joint_size=64))
    for name in ("query", "key", "value", "output"):
        linear = getattr(model.blocks[0], name)
        assert (linear.weight - torch.eye(64)).abs().max() < 0.1
        assert not linear.bias.any()


@torch.inference_mode()
def test_the_reference_computes_no_words_of_padding_and_each_map_once():
    model = HAN(HANConfig(region_size=5, vocabulary_size=9, word_size=4, joint_size=6)).eval()
    mapped = []
    for linear in model.blocks[0].children():
        linear.register_forward_hook(lambda _, given, __: mapped.append(tuple(given[0].shape)))
    lengths = torch.tensor([1, 4, 2])
    word_mask = torch.arange(4) < lengths.unsqueeze(1)
    regions, region_mask = torch.randn(2, 3, 5), torch.ones(2, 3, dtype=torch.bool)
    model.similarity(regions, region_mask, torch.randint(1, 9, (3, 4)), word_mask, backend="reference")
    assert mapped == [(2, 3 + n, 6) for n in lengths.tolist() for _ in ("query", "key", "value", "output")]


@torch.inference_mode()
def test_evidence_is_of_the_score():
    torch.manual_seed(0)
    model = HAN(HANConfig(region_size=5, vocabulary_size=9, word_size=4, joint_size=6, blocks=2)).eval()
    regions, words = torch.randn(4, 5), torch.tensor([5, 2, 7])
    evidence = model.explain(regions, words)
    pair = regions[None], torch.ones(1, 4, dtype=torch.bool), words[None], torch.ones(1, 3, dtype=torch.bool)
    assert evidence.score == pytest.approx(float(model.similarity(*pair)), abs=1e-6)
    assert float(evidence.match.mean()) == pytest.approx(evidence.score, abs=1e-6)
    assert evidence.alignment.shape == (3, 4)
    assert evidence.attention.shape == (2, 7, 7)
    assert torch.allclose(evidence.alignment.sum(1), torch.ones(3))
    assert torch.allclose(evidence.attention.sum(2), torch.ones(2, 7))


@pytest.mark.parametrize("options", [{}, {"attention_over": "one-way"}, {"blocks": 2}], ids=str)
def test_sentences_of_one_photo_are_aligned_as_each_alone(options):
    torch.manual_seed(0)
    model = random_model(joint_size=16, **options)
    regions, sentences = torch.randn(6, 5), [torch.randint(1, 9, (n,)) for n in (3, 1, 7)]
    found = model.alignments(regions, sentences)
    assert [each.shape for each in found] == [(3, 6), (1, 6), (7, 6)]
    for each, ids in zip(found, sentences, strict=True):
        assert torch.allclose(each, model.explain(regions, ids).alignment, atol=1e-6)
    assert model.alignments(regions, []) == []


@torch.inference_mode()
def test_tokens_have_unit_length_and_padding_none():
    model = HAN(HANConfig(region_size=5, vocabulary_size=9, word_size=4, joint_size=6)).eval()
    mask = torch.tensor([[True, False, True]])
    images = model.encode_images(torch.randn(1, 3, 5), mask)
    texts = model.encode_texts(torch.tensor([[3, 4, 5]]), mask)
    for tokens in (images, texts):
        assert torch.allclose(tokens.norm(dim=-1), mask.float())


@torch.inference_mode()
def test_gaps_do_not_reach_the_gru():
    encoder = BiGRU(12, 4, 6)
    gapped = encoder(torch.tensor([[5, 9, 6, 7]]), torch.tensor([[True, False, True, True]]))
    plain = encoder(torch.tensor([[5, 6, 7]]), torch.ones(1, 3, dtype=torch.bool))
    assert_close(gapped[:, [0, 2, 3]], plain, 1e-6)


def test_unknown_and_impossible_options_are_refused():
    with pytest.raises(ValidationError) as error:
        HANConfig(region_size=-1, vocabulary_size=5, temprature=3, residual="none")
    assert {e["loc"][0] for e in error.value.errors()} == {"region_size", "temprature", "residual"}
    with pytest.raises(ConfigError, match="region_size is not set"):
        HAN(HANConfig(vocabulary_size=5))
