from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from han_retrieval.errors import HANError
from han_retrieval.evaluation.metrics import fold_results, recall_sum, summarise
from han_retrieval.evaluation.relevance import Relevance
from han_retrieval.evaluation.significance import compare, intervals

ARRAYS = ("rank", "average_precision", "r_precision", "ndcg", "fold")


def system(images, *, strength, seed, folds=1, captions=3):
    """Per-query results of a simulated system; the same captions for every seed."""
    relevance = Relevance.of([f"{i}" for i in range(images)],
                             [(i, k) for i in range(images) for k in range(1 + i % captions)])  # fmt: skip
    scores = np.random.default_rng(seed).standard_normal((images, len(relevance.caption_ids))).astype(np.float32)
    scores[relevance.caption_image, np.arange(len(relevance.caption_ids))] += strength
    return fold_results(scores, relevance, folds=folds)


def shuffled(per_query, seed):
    rng = np.random.default_rng(seed)

    def move(queries):
        order = rng.permutation(len(queries.ids))
        return replace(
            queries,
            ids=tuple(queries.ids[i] for i in order),
            images=tuple(queries.images[i] for i in order),
            **{name: getattr(queries, name)[order] for name in ARRAYS},
        )

    return {way: move(queries) for way, queries in per_query.items()}


def by_metric(differences):
    return {row.metric: row for row in differences}


@pytest.mark.parametrize("folds", [1, 2])
def test_identical_systems_do_not_differ(folds):
    a = system(40, strength=1.5, seed=0, folds=folds)
    for row in compare(a, a, resamples=200):
        assert (row.difference, row.low, row.high, row.p_value) == (0, 0, 0, 1)


@pytest.mark.parametrize("folds", [1, 4])
def test_figures_are_those_of_each_system(folds):
    a, b = (system(40, strength=s, seed=i, folds=folds) for i, s in enumerate((1.0, 2.0)))
    rows = by_metric(compare(a, b, resamples=50))
    of_a, of_b = summarise(a), summarise(b)
    assert rows["rsum"].a == pytest.approx(recall_sum(of_a))
    assert rows["rsum"].b == pytest.approx(recall_sum(of_b))
    for way, values in of_a.items():
        for name, value in values.items():
            row = rows[f"{way} {name}"]
            assert row.a == pytest.approx(value)
            assert row.b == pytest.approx(of_b[way][name])
            assert row.difference == pytest.approx(of_b[way][name] - value)
    assert len(rows) == 1 + sum(len(values) for values in of_a.values())


def test_a_better_system_is_found_better_and_the_other_way_round():
    a, b = system(80, strength=1.0, seed=0), system(80, strength=2.0, seed=1)
    forth, back = by_metric(compare(a, b, resamples=400)), by_metric(compare(b, a, resamples=400))
    for metric in ("rsum", "image_to_text R@5", "text_to_image R@10", "text_to_image mAP@R"):
        assert forth[metric].low > 0
        assert forth[metric].p_value == 1 / 401
        assert back[metric].difference == pytest.approx(-forth[metric].difference)
        assert back[metric].p_value == forth[metric].p_value
    for metric in ("image_to_text mean_rank", "text_to_image median_rank"):
        assert forth[metric].high < 0


def test_the_order_of_queries_and_the_run_change_nothing():
    a, b = system(30, strength=1.0, seed=0, folds=2), system(30, strength=1.3, seed=1, folds=2)
    once = compare(a, b, resamples=100, seed=7)
    assert once == compare(a, b, resamples=100, seed=7)
    assert once == compare(a, shuffled(b, 3), resamples=100, seed=7)
    assert once != compare(a, b, resamples=100, seed=8)


def test_agrees_with_scipy_where_both_apply():
    a, b = system(60, strength=1.0, seed=0), system(60, strength=1.4, seed=1)
    row = by_metric(compare(a, b, resamples=20_000))["image_to_text mean_rank"]
    difference = (b["image_to_text"].rank - a["image_to_text"].rank).astype(float)
    interval = stats.bootstrap((difference,), np.mean, n_resamples=20_000, method="percentile").confidence_interval
    spread = difference.std() / np.sqrt(60)
    assert row.low == pytest.approx(interval.low, abs=0.1 * spread)
    assert row.high == pytest.approx(interval.high, abs=0.1 * spread)
    # scipy doubles the smaller tail, ours counts both: the same for a null that is symmetric, as swapping makes it.
    test = stats.permutation_test((difference,), np.mean, permutation_type="samples", n_resamples=20_000)
    assert row.p_value == pytest.approx(test.pvalue, abs=0.02)


def test_swapping_is_exact_on_a_case_counted_by_hand():
    # Two images, A always ahead: of the four ways to swap, two give |difference| >= the observed one.
    relevance = Relevance.of(["x", "y"], [(0, 0), (1, 0)])
    right = fold_results(np.array([[1, 0], [0, 1]], dtype=np.float32), relevance)
    wrong = fold_results(np.array([[0, 1], [1, 0]], dtype=np.float32), relevance)
    row = by_metric(compare(right, wrong, resamples=4000))["image_to_text R@1"]
    assert row.difference == -100
    assert row.p_value == pytest.approx(0.5, abs=0.04)


def test_captions_of_an_image_are_resampled_together():
    """With every caption doubled nothing new is known, so the interval must not shrink."""
    few = system(60, strength=1.5, seed=0, captions=1)
    doubled = {
        way: replace(
            queries,
            ids=queries.ids + tuple(f"{name}'" for name in queries.ids),
            images=queries.images * 2,
            **{n: np.tile(getattr(queries, n), 2) for n in ARRAYS},
        ) if way == "text_to_image" else queries
        for way, queries in few.items()
    }  # fmt: skip
    a, b = intervals(few, resamples=500), intervals(doubled, resamples=500)
    assert a["text_to_image R@5"] == pytest.approx(b["text_to_image R@5"])
    assert a["rsum"] == pytest.approx(b["rsum"])
    low, high = a["rsum"]
    assert low < recall_sum(summarise(few)) < high


def test_different_queries_or_folds_are_refused():
    a = system(10, strength=1, seed=0)
    with pytest.raises(HANError, match="different queries"):
        compare(a, system(11, strength=1, seed=0))
    with pytest.raises(HANError, match="different queries"):
        compare(system(11, strength=1, seed=0), a)
    with pytest.raises(HANError, match="different folds"):
        compare(a, system(10, strength=1, seed=0, folds=2))


@pytest.mark.slow
def test_the_interval_covers_the_truth_and_the_test_keeps_its_level():
    """Images come from a population with a known mean difference; captions of an image are strongly alike."""
    rng = np.random.default_rng(0)
    images, trials = 150, 300
    covered = rejected = 0
    ids = [f"{i}" for i in range(images)]
    relevance = Relevance.of(ids, [(i, k) for i in range(images) for k in range(4)])
    for trial in range(trials):
        chance = rng.uniform(0.1, 0.7, size=(images, 1)) + np.array([[0.0, 0.1]])  # of a hit: A, then B
        alike = rng.uniform(size=(images, 2))

        def results(system, alike=alike, chance=chance):
            rank = np.where(alike[:, system] < chance[:, system], 1, 20)
            queries = fold_results(np.zeros((images, images * 4), dtype=np.float32), relevance)
            captions = queries["text_to_image"]
            return queries | {"text_to_image": replace(captions, rank=rank[relevance.caption_image])}

        a, b = results(0), results(1)
        row = by_metric(compare(a, b, resamples=600, seed=trial))["text_to_image R@1"]
        covered += row.low <= 10.0 <= row.high
        null = np.where(rng.uniform(size=images) < 0.5, 0, 1)  # which system an image's results come from
        mixed = [np.stack([a["text_to_image"].rank, b["text_to_image"].rank])] * 2
        picked = null[relevance.caption_image], 1 - null[relevance.caption_image]
        columns = np.arange(len(relevance.caption_ids))
        pair = [
            a | {"text_to_image": replace(a["text_to_image"], rank=ranks[which, columns])}
            for ranks, which in zip(mixed, picked, strict=True)
        ]
        rejected += by_metric(compare(*pair, resamples=400, seed=trial))["text_to_image R@1"].p_value <= 0.05
    assert 0.91 <= covered / trials <= 0.985
    assert rejected / trials <= 0.09
