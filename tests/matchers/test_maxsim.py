"""MaxSim: each word with the region most like it; and in a space that two towers share, without parameters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matchers_of_all_kinds import SENTENCES, random_regions, small_matcher
from two_towers import register_towers

from han_retrieval.errors import HANError
from han_retrieval.evidence import evidence_from_regions
from han_retrieval.matchers import load_matcher
from han_retrieval.regions import Regions


def shared():
    return small_matcher("maxsim", shared_space=True, text_encoder=register_towers())


@torch.inference_mode()
def test_a_word_is_aligned_with_its_best_region_alone():
    model = small_matcher("maxsim")
    features = torch.randn(7, 6, generator=torch.Generator().manual_seed(3))
    (words, mask), there = model.words(SENTENCES[1:2]), torch.ones(1, 7, dtype=torch.bool)
    pair = model.explain(features, words[0])
    o = model.encode_images(features.unsqueeze(0), there)[0]
    cosines = model.encode_texts(words, mask)[0] @ o.T  # (n, m)
    assert torch.equal(pair.alignment.argmax(1), cosines.argmax(1))
    assert torch.equal(pair.alignment.sort(1).values, torch.tensor([0.0] * 6 + [1.0]).expand(len(cosines), -1))
    torch.testing.assert_close(pair.match, cosines.amax(1))
    assert pair.score == pytest.approx(float(cosines.amax(1).mean()), abs=1e-6)

    regions = Regions(features.half().numpy(), np.zeros((7, 4), np.float32), 10, 10)
    evidence = evidence_from_regions(model, regions, SENTENCES[1])
    assert {round(weight, 6) for weight in evidence.alignment.max(1).tolist()} == {1.0}


@torch.inference_mode()
def test_long_and_short_sentences_have_scores_on_one_scale():
    model = small_matcher("maxsim")
    regions, mask = random_regions(3, 5)
    once, thrice = (model.similarity(regions, mask, *_as_text(model, times)) for times in (1, 3))
    torch.testing.assert_close(once, thrice)


def _as_text(model, times):
    """One word, said several times, without a state that goes from one to the next."""
    token = torch.nn.functional.normalize(torch.ones(1, times, 8), dim=-1)
    model.encode_texts = lambda words, word_mask: token
    return torch.ones(1, times, dtype=torch.int64), torch.ones(1, times, dtype=torch.bool)


@torch.inference_mode()
def test_photos_are_compared_by_their_best_regions():
    model = small_matcher("maxsim")
    regions, mask = random_regions(4, 5)
    tokens = model.encode_images(regions, mask)
    query = tokens[1][mask[1]]
    found = model.compare_images(query, tokens, mask)
    wanted = [(query @ tokens[i][mask[i]].T).amax(1).mean() for i in range(4)]
    torch.testing.assert_close(found, torch.stack(wanted))
    assert float(found[1]) == pytest.approx(1.0)


def test_a_shared_space_needs_no_parameters(tmp_path):
    model = shared()
    assert not [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert model.config.joint_size == model.config.region_size == 6
    regions, mask = random_regions(3, 4)
    words, word_mask = model.words(SENTENCES)
    scores = model.similarity(regions, mask, words, word_mask)
    frozen = model.text_encoder.frozen_tokens(words, word_mask)
    assert torch.equal(model.similarity(regions, mask, frozen, word_mask), scores)
    text, image = frozen[0][word_mask[0]], regions[0][mask[0]]
    cosines = torch.nn.functional.cosine_similarity(text.unsqueeze(1), image, dim=-1)
    assert float(scores[0, 0]) == pytest.approx(float(cosines.amax(1).mean()), abs=1e-5)
    model.save_pretrained(tmp_path)
    assert torch.equal(load_matcher(tmp_path).similarity(regions, mask, words, word_mask), scores)


def test_what_shares_no_space_is_refused_in_one_line():
    with pytest.raises(HANError, match=r"shared_space: the tokens of towers:4/4 have 4 numbers .*features 6"):
        small_matcher("maxsim", shared_space=True, text_encoder=f"{register_towers()}:4/4")
    with pytest.raises(HANError, match="text encoder bigru has no frozen tokens"):
        small_matcher("maxsim", shared_space=True)
