from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import SENTENCE, made_up, small_model
from PIL import Image

from han_retrieval.errors import DataError, HANError
from han_retrieval.evidence import evidence_from_regions, evidence_from_tokens
from han_retrieval.evidence.colours import region_colours
from han_retrieval.regions import Regions
from han_retrieval.text import WordTokenizer


def regions_of(m: int, *, size: int = 12, boxes: bool = True) -> Regions:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 50, (m, 2))
    found = np.concatenate([corner, corner + 10], 1).astype(np.float32) if boxes else None
    return Regions(rng.standard_normal((m, size)).astype(np.float16), found, 100, 80)


@pytest.mark.parametrize("bos_eos", [False, True])
def test_the_evidence_is_the_model_s_for_the_words_alone(bos_eos: bool) -> None:
    model, regions = small_model(region_size=12, bos_eos=bos_eos), regions_of(7)
    evidence = evidence_from_regions(model, regions, SENTENCE)
    assert evidence.words == ("a", "red", "ball", "to", "the", "left", "of", "a", "blue", "house")
    assert evidence.alignment.shape == (10, 7)
    assert np.allclose(evidence.alignment.sum(1), 1, atol=1e-6)
    features = torch.tensor(regions.features, dtype=torch.float32)
    ids, mask = model.words([SENTENCE])
    with torch.no_grad():
        score = model.similarity(features[None], torch.ones(1, 7, dtype=torch.bool), ids, mask).item()
    assert evidence.score == pytest.approx(score, abs=1e-6)
    if not bos_eos:
        assert evidence.score == pytest.approx(float(evidence.match.mean()), abs=1e-6)
    assert (evidence.width, evidence.height) == (100, 80)


@pytest.mark.parametrize("bos_eos", [False, True])
def test_stored_tokens_give_the_evidence_that_regions_give(bos_eos: bool) -> None:
    model, regions = small_model(region_size=12, bos_eos=bos_eos), regions_of(7)
    wanted = evidence_from_regions(model, regions, SENTENCE)
    with torch.no_grad():
        features = torch.tensor(regions.features, dtype=torch.float32)[None]
        tokens = model.encode_images(features, torch.ones(1, 7, dtype=torch.bool))[0]
    evidence = evidence_from_tokens(model, tokens, SENTENCE, boxes=regions.boxes, width=100, height=80)
    assert (evidence.words, evidence.known, evidence.score) == (wanted.words, wanted.known, wanted.score)
    assert np.array_equal(evidence.alignment, wanted.alignment)
    assert np.array_equal(evidence.match, wanted.match)
    with pytest.raises(HANError, match="no boxes"):
        evidence_from_tokens(model, tokens, SENTENCE, boxes=None, width=100, height=80)


def test_as_json_it_says_the_words_their_regions_and_the_phrases() -> None:
    evidence = made_up(regions=5)
    found = json.loads(json.dumps(evidence.to_dict()))
    assert (found["sentence"], found["score"]) == (evidence.sentence, evidence.score)
    assert (found["width"], found["height"]) == (evidence.width, evidence.height)
    assert np.allclose(found["boxes"], evidence.boxes, atol=0.06)
    assert np.allclose(found["alignment"], evidence.alignment, atol=6e-4)
    assert [each["word"] for each in found["words"]] == list(evidence.words)
    assert [each["known"] for each in found["words"]] == list(evidence.known)
    for i, word in enumerate(found["words"]):
        assert word["region"] == evidence.word_regions[i]
        assert word["weight"] == pytest.approx(evidence.alignment[i].max())
        assert word["match"] == pytest.approx(evidence.match[i])
    for each in found["words"] + found["phrases"]:
        assert each["box"] == found["boxes"][each["region"]]
    assert [word for phrase in found["phrases"] for word in phrase["words"]] == list(evidence.words)
    assert [each["region"] for each in found["phrases"]] == [each.region for each in evidence.phrases()]


@pytest.mark.parametrize("as_path", [False, True])
def test_it_draws_a_picture_or_a_page(as_path: bool, tmp_path: Path) -> None:
    photo = Image.new("RGB", (200, 150), (90, 120, 60))
    photo.save(tmp_path / "photo.png")
    evidence = made_up(photo=tmp_path / "photo.png" if as_path else photo)
    picture = evidence.draw(tmp_path / "evidence.png", width=400)
    assert picture.width == Image.open(tmp_path / "evidence.png").width == 400
    evidence.draw(tmp_path / "evidence.html")
    assert (tmp_path / "evidence.html").read_text().startswith("<!doctype html>")
    bare = made_up()
    assert bare.draw(photo=str(tmp_path / "photo.png"), width=400).tobytes() == picture.tobytes()
    with pytest.raises(DataError, match="no photo"):
        bare.draw()
    with pytest.raises(DataError, match=r"x\.xyz"):
        evidence.draw(tmp_path / "x.xyz")
    with pytest.raises(HANError, match="gone"):
        bare.draw(photo=tmp_path / "gone.png")


def test_unknown_words_are_marked_and_only_unknown_ones_refused() -> None:
    model, regions = small_model(region_size=12), regions_of(4)
    assert evidence_from_regions(model, regions, "a zebra, red").known == (True, False, True)
    with pytest.raises(HANError, match="none of the words in 'zebra quagga'"):
        evidence_from_regions(model, regions, "zebra quagga")
    with pytest.raises(HANError, match="no words"):
        evidence_from_regions(model, regions, "...")
    for unplaced in (regions_of(4, boxes=False), replace(regions_of(4), width=0, height=0)):
        with pytest.raises(HANError, match="no boxes"):
            evidence_from_regions(model, unplaced, "a red ball")


class GuessingTokenizer(WordTokenizer):
    """Gives each word an id, as a language model that knows parts of words."""

    def encode(self, sentence):
        encoded = super().encode(sentence)
        return encoded._replace(known=(True,) * len(encoded.words))


def test_words_that_the_text_encoder_guesses_at_are_unknown_as_in_a_search(tmp_path) -> None:
    model, regions = small_model(region_size=12), regions_of(4)
    model.text_encoder.tokenizer = GuessingTokenizer(model.vocabulary)
    model.text_encoder.guesses = True
    evidence = evidence_from_regions(model, regions, "a zebra, red", photo=Image.new("RGB", (100, 80)))
    assert evidence.known == (True, False, True)
    assert set(region_colours(evidence)) == {evidence.word_regions[2]}
    evidence.draw(tmp_path / "evidence.html")
    page = (tmp_path / "evidence.html").read_text()
    assert 'class="chip unknown"' in page
    assert 'aria-label="zebra, the model does not know it"' in page
    with torch.no_grad():
        tokens = model.encode_images(torch.tensor(regions.features)[None].float(), torch.ones(1, 4, dtype=torch.bool))[
            0
        ]
    of_tokens = evidence_from_tokens(model, tokens, "a zebra, red", boxes=regions.boxes, width=100, height=80)
    assert of_tokens.known == evidence.known
    alone = evidence_from_regions(model, regions, "zebra quagga", photo=Image.new("RGB", (100, 80)))
    assert region_colours(alone) == {}
    alone.draw(tmp_path / "alone.html")


@pytest.mark.parametrize("seed", range(8))
def test_phrases_are_the_words_in_order_split_where_the_region_changes(seed: int) -> None:
    evidence = made_up(seed=seed)
    phrases = evidence.phrases()
    assert [i for phrase in phrases for i in range(phrase.start, phrase.end)] == list(range(len(evidence.words)))
    assert all(a.region != b.region for a, b in pairwise(phrases))
    for phrase in phrases:
        assert set(evidence.word_regions[phrase.start : phrase.end].tolist()) == {phrase.region}
        assert phrase.weight == pytest.approx(evidence.alignment[phrase.start : phrase.end, phrase.region].mean())


@pytest.mark.parametrize("most", [1, 3, 6, 99])
def test_colours_are_given_to_aligned_regions(most: int) -> None:
    evidence = made_up(regions=12)
    colours = region_colours(evidence, regions=most)
    assert 1 <= len(colours) <= most
    assert set(colours) <= set(evidence.word_regions.tolist())
    assert len(set(colours.values())) == len(colours)
