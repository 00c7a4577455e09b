"""SCAN by hand: the formulas, number by number."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from closeness import assert_close, in_float64
from matchers_of_all_kinds import SENTENCES, random_regions, small_matcher


def alignment_by_hand(gatherers: np.ndarray, sources: np.ndarray, temperature: float) -> np.ndarray:
    """alpha (g, s) of unit tokens (g, d), (s, d)."""
    alpha = np.zeros((len(gatherers), len(sources)))
    clipped = [[x if (x := float(s @ g)) > 0 else 0.1 * x for g in gatherers] for s in sources]
    for i, row in enumerate(clipped):
        norm = math.sqrt(sum(x * x for x in row)) + 1e-8
        for j, x in enumerate(row):
            alpha[j, i] = math.exp(temperature * x / norm)
    return alpha / alpha.sum(1, keepdims=True)


def by_hand(regions: np.ndarray, words: np.ndarray, *, alignment: str, pooling: str) -> float:
    gatherers, sources = (words, regions) if alignment == "words" else (regions, words)
    alpha = alignment_by_hand(gatherers, sources, 4.0)
    matches = []
    for gatherer, row in zip(gatherers, alpha, strict=True):
        gathered = sum(weight * source for weight, source in zip(row, sources, strict=True))
        matches.append(float(gatherer @ gathered) / np.linalg.norm(gathered))
    if pooling == "mean":
        return sum(matches) / len(matches)
    return math.log(sum(math.exp(5.0 * r) for r in matches)) / 5.0


@pytest.mark.parametrize("backend", ["gram", "reference"])
@pytest.mark.parametrize("pooling", ["mean", "lse"])
@pytest.mark.parametrize("alignment", ["words", "regions", "both"])
@torch.inference_mode()
def test_scores_are_the_formulas(alignment, pooling, backend):
    options = {"alignment": alignment, "pooling": pooling, "alignment_temperature": 4.0, "lse_temperature": 5.0}
    model = small_matcher("scan", **options).double()
    regions, region_mask = random_regions(3, 5)
    words, word_mask = model.words(SENTENCES)
    scores = model.similarity(regions.double(), region_mask, words, word_mask, backend=backend)
    images = model.encode_images(regions.double(), region_mask)
    texts = model.encode_texts(words, word_mask)
    for i in range(3):
        for t in range(4):
            o, w = images[i, region_mask[i]].numpy(), texts[t, word_mask[t]].numpy()
            each = ("words", "regions") if alignment == "both" else (alignment,)
            wanted = np.mean([by_hand(o, w, alignment=way, pooling=pooling) for way in each])
            assert float(scores[i, t]) == pytest.approx(wanted, abs=1e-10)


@pytest.mark.parametrize("alignment", ["words", "regions"])
@torch.inference_mode()
def test_photos_are_compared_by_the_formulas_too(alignment):
    """Regions of the query attend to regions of the other photo, whichever side attends in scores."""
    model = small_matcher("scan", alignment=alignment, pooling="lse", alignment_temperature=4.0).double()
    regions, mask = random_regions(4, 5)
    photos = model.encode_images(regions.double(), mask)
    query = photos[0, mask[0]]
    found = model.compare_images(query, photos, mask)
    wanted = [
        by_hand(photo[there].numpy(), query.numpy(), alignment="words", pooling="mean")
        for photo, there in zip(photos, mask, strict=True)
    ]
    assert found.tolist() == pytest.approx(wanted, abs=1e-6)


@torch.inference_mode()
def test_evidence_is_of_the_score():
    model = small_matcher("scan", alignment_temperature=4.0)
    regions = torch.randn(4, 6)
    words = model.words(["a red ball"])[0][0]
    evidence = model.explain(regions, words)
    pair = regions[None], torch.ones(1, 4, dtype=torch.bool), words[None], torch.ones(1, 3, dtype=torch.bool)
    assert evidence.score == pytest.approx(float(model.similarity(*pair)), abs=1e-6)
    assert float(evidence.match.mean()) == pytest.approx(evidence.score, abs=1e-6)
    o, w = model.encode_images(*pair[:2])[0].numpy(), model.encode_texts(*pair[2:])[0].numpy()
    assert_close(evidence.alignment, torch.from_numpy(alignment_by_hand(w, o, 4.0)), 1e-5)
    assert evidence.attention.shape == (0, 7, 7)


@torch.inference_mode()
def test_a_stored_collection_gives_the_same_scores():
    model = small_matcher("scan")
    regions, region_mask = random_regions(5, 4)
    words, word_mask = model.words(["a red ball"])
    images, text = model.encode_images(regions, region_mask), model.encode_texts(words, word_mask)
    stored = model.store_images(images, region_mask, storage="float32").scores(text[0])
    exact = in_float64(model).score(images.double(), region_mask, text.double(), word_mask, backend="reference")
    assert_close(stored, exact[:, 0], 1e-5)
