"""Probabilities of scores: true where the truth is known, honest, and kept with the model they are of."""

from __future__ import annotations

import json

import numpy as np
import pytest
from damaging import without_checksums
from made_up import small_model
from pydantic import ValidationError
from scipy.special import expit, logit

from han_retrieval.errors import HANError
from han_retrieval.evaluation import Relevance
from han_retrieval.search import calibration as calibration_module
from han_retrieval.search.calibration import Calibration, calibrate

PHOTOS, CAPTIONS = 120, 5
# Slope, intercept, threshold and growth as of before sentences could be of several photos.
BEFORE = (2.342692746, -8.158094088, 0.04562952742, 0.8347817001)


def truth(photos: int = PHOTOS) -> Relevance:
    return Relevance.of([str(i) for i in range(photos)], [(i, k) for i in range(photos) for k in range(CAPTIONS)])


def scores_of(relevance: Relevance, *, lift: float, seed: int = 0) -> np.ndarray:
    """Noise, and so much more for a sentence's own photo."""
    scores = np.random.default_rng(seed).normal(size=(len(relevance.image_ids), len(relevance.caption_ids)))
    scores[relevance.caption_image, np.arange(len(relevance.caption_ids))] += lift
    return scores.astype(np.float32)


def calibration_of(lift: float = 3.0, **options) -> Calibration:
    relevance = truth()
    return calibrate(scores_of(relevance, lift=lift), relevance, model="m", split="dev", **options)


def test_probabilities_are_shares_of_what_was_not_fitted():
    fitted = calibration_of()
    relevance = truth()
    scores = scores_of(relevance, lift=3.0, seed=1)
    right = total = expected = 0.0
    for sentence, own in enumerate(relevance.caption_image):
        for collection in (scores[:, sentence], np.delete(scores[:, sentence], own)):
            top = np.argsort(-collection)[:10]
            probability = fitted.probability(collection[top])
            likely = probability > 0.5
            expected += probability[likely].sum()
            total += likely.sum()
            right += (top == own)[likely].sum() if len(collection) == PHOTOS else 0
    assert total > 100
    assert right / total == pytest.approx(expected / total, abs=0.08)


def test_figures_are_those_of_the_searches_by_hand():
    relevance = truth()
    scores = scores_of(relevance, lift=2.5)
    fitted = calibrate(scores, relevance, model="m", split=None, shown=7)
    assert (fitted.photos, fitted.sentences, fitted.shown) == (PHOTOS, PHOTOS * CAPTIONS, 7)
    assert fitted.pairs == 2 * 7 * PHOTOS * CAPTIONS == sum(each.pairs for each in fitted.reliability)
    own = np.arange(PHOTOS * CAPTIONS) // CAPTIONS
    rank = (scores > scores[own, np.arange(len(own))]).sum(0)
    # The halves' fits differ little, so the fit to all tells nearly the same.
    best = fitted.probability(np.sort(scores, axis=0)[-1])
    without = scores.copy()
    without[own, np.arange(len(own))] = -np.inf
    best_without = fitted.probability(without.max(0))
    there, answered = rank < 7, best >= fitted.threshold
    assert fitted.recall == pytest.approx(answered[there].mean(), abs=0.02)
    assert fitted.recall >= 0.95
    assert fitted.answered_without == pytest.approx((best_without >= fitted.threshold).mean(), abs=0.05)
    total = answered.sum() + (best_without >= fitted.threshold).sum()
    assert fitted.precision == pytest.approx((answered & there).sum() / total, abs=0.03)
    weighted = [abs(each.probability - each.right) * each.pairs for each in fitted.reliability]
    assert fitted.error == pytest.approx(sum(weighted) / fitted.pairs)


def test_a_better_model_is_surer_and_says_more_often_that_nothing_matches():
    weak, strong = calibration_of(1.0), calibration_of(6.0)
    assert strong.probability(6.0) > weak.probability(6.0)
    assert strong.precision > 0.9 > weak.precision
    assert strong.answered_without < 0.1 < weak.answered_without
    assert weak.error < 0.03


def shared(photos: int, groups: list[range]) -> Relevance:
    """Five sentences a photo; those of a group of photos are the group's."""
    of = {photo: group for group in groups for photo in group}
    captions = [(i, k) for i in range(photos) for k in range(CAPTIONS)]
    return Relevance.of([str(i) for i in range(photos)], captions, having=[of.get(i, [i]) for i, _ in captions])


def scores_of_shared(relevance: Relevance, *, lift: float) -> np.ndarray:
    scores = np.random.default_rng(0).normal(size=(len(relevance.image_ids), len(relevance.caption_ids)))
    for column, rows in enumerate(relevance.images_of()):
        scores[rows, column] += lift
    return scores.astype(np.float32)


def test_a_sentence_that_two_photos_have_is_right_for_both_and_left_out_of_both():
    relevance = shared(PHOTOS, [range(i, i + 2) for i in range(0, PHOTOS, 2)])
    scores = scores_of_shared(relevance, lift=20.0)
    found, right = calibration_module._searches(scores, relevance.images_of(), 10)
    assert right[0].sum(axis=1).tolist() == [2] * PHOTOS * CAPTIONS
    assert right[0][:, :2].all()
    assert not right[1].any()
    assert found[1].max() < 10 < found[0][:, :2].min()  # without both, nothing that fits is there
    fitted = calibrate(scores, relevance, model="m", split="dev")
    assert fitted.probability(20.0) > 0.99
    assert fitted.precision > 0.99
    assert fitted.answered_without < 0.01


def test_where_each_sentence_is_of_one_photo_nothing_changes():
    alone = truth()
    scores = scores_of(alone, lift=2.5)
    of_each = calibrate(scores, alone, model="m", split="dev")
    assert calibrate(scores, shared(PHOTOS, []), model="m", split="dev") == of_each
    assert (of_each.slope, of_each.intercept, of_each.threshold, of_each.growth) == pytest.approx(BEFORE, rel=1e-6)


def test_a_sentence_that_nearly_all_photos_have():
    relevance = shared(20, [range(17)])  # without them, three are left to show
    fitted = calibrate(scores_of_shared(relevance, lift=4.0), relevance, model="m", split="dev")
    assert np.isfinite([fitted.slope, fitted.intercept, fitted.error]).all()
    assert fitted.pairs == 20 * CAPTIONS * 10 + 17 * CAPTIONS * 3 + 3 * CAPTIONS * 10


def test_scores_that_tell_all_or_nothing():
    sure = calibration_of(100.0)
    assert np.isfinite([sure.slope, sure.intercept]).all()
    assert sure.probability(100.0) > 0.99
    assert sure.probability(0.0) < 0.01
    with pytest.raises(HANError, match=r"no likelier|not trained"):
        calibration_of(-3.0)
    with pytest.raises(HANError, match="not trained"):
        calibration_of(-100.0)
    relevance = truth(19)
    with pytest.raises(HANError, match="19 photos are too few"):
        calibrate(scores_of(relevance, lift=1.0), relevance, model="m", split=None)


def test_equal_scores_and_photos_without_sentences_are_refused():
    relevance = truth()
    with pytest.raises(HANError, match="all scores are equal"):
        calibrate(np.zeros((PHOTOS, PHOTOS * CAPTIONS), np.float32), relevance, model="m", split="dev")
    of_one = Relevance.of([str(i) for i in range(PHOTOS)], [(0, place) for place in range(4)])
    with pytest.raises(HANError, match="a half of the photos has no sentences"):
        calibrate(scores_of(of_one, lift=5.0), of_one, model="m", split="dev")


def test_it_is_kept_with_the_weights_it_is_of(tmp_path):
    from han_retrieval.matchers.saving import folder_hash

    small_model(region_size=5).save_pretrained(tmp_path)
    assert Calibration.read(tmp_path) is None
    relevance = truth()
    before = folder_hash(tmp_path)
    fitted = calibrate(scores_of(relevance, lift=3.0), relevance, model=before, split="dev")
    fitted.write(tmp_path)
    assert Calibration.read(tmp_path) == fitted
    assert folder_hash(tmp_path) == before
    small_model(region_size=6).save_pretrained(tmp_path)
    assert Calibration.read(tmp_path) is None
    without_checksums(tmp_path)
    for wrong in ("{", "[]", json.dumps({"slope": 1.0})):
        (tmp_path / "calibration.json").write_text(wrong)
        with pytest.raises(HANError, match=r"calibration.json.*; `han calibrate` writes it anew"):
            Calibration.read(tmp_path)


@pytest.mark.parametrize("change", [{"slope": np.nan}, {"threshold": np.inf}, {"photos": 0}, {"photos": 10**400}])
def test_what_gives_no_probability_is_refused(change):
    fields = calibration_of().model_dump()
    assert Calibration.model_validate(fields) == calibration_of()
    with pytest.raises(ValidationError):
        Calibration.model_validate({**fields, **change})


def test_probability_is_the_logistic_of_the_score():
    fitted = calibration_of()
    scores = np.linspace(-1, 5, 13)
    assert fitted.probability(scores) == pytest.approx(expit(fitted.slope * scores + fitted.intercept))
    # Twice the photos, half the odds of each.
    odds = [p / (1 - p) for p in (fitted.probability(scores, among=n) for n in (fitted.photos, 2 * fitted.photos))]
    assert odds[1] == pytest.approx(odds[0] / 2)
    assert fitted.probability(scores, among=fitted.photos) == pytest.approx(fitted.probability(scores))
    score = (logit(fitted.threshold) - fitted.intercept) / fitted.slope
    assert list(fitted.passes([score - 1e-6, score + 1e-6])) == [False, True]
    for probability, match in ((0.24, "likely"), (0.26, "strong"), (0.07, "weak"), (0.09, "likely")):
        assert fitted.match((logit(probability) - fitted.intercept) / fitted.slope) == match


@pytest.mark.parametrize(
    ("lift", "wanted"),
    [(1, (0.953103524, -2.899299500)), (3, (2.817497739, -6.578399436)), (100, (0.172315916, -9.831287771))],
)
def test_the_fit_is_that_of_scipy(lift, wanted):
    # By scipy 1.17's minimize(method="BFGS", options={"gtol": 1e-11}) on the same likelihood.
    random = np.random.default_rng(0)
    right = random.random(20_000) < 0.08
    scores = (random.normal(size=20_000) + lift * right).astype(np.float32)
    assert calibration_module._fit(scores, right) == pytest.approx(wanted, rel=1e-5)
