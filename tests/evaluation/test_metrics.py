import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from han_retrieval.errors import HANError
from han_retrieval.evaluation import metrics
from han_retrieval.evaluation.metrics import expected_recalls, fold_results, query_results, recall_sum, summarise
from han_retrieval.evaluation.relevance import Relevance


def relevance_for(caption_image, images):
    seen = [0] * images
    places = []
    for row in caption_image:
        places.append((row, seen[row]))
        seen[row] += 1
    return Relevance.of([f"image {row}" for row in range(images)], places)


def adverse(scores, relevant):
    """(rank, AP@R, R-Precision, nDCG@10) by sorting, relevant items last among equals: the definitions."""
    ranking = sorted(range(len(scores)), key=lambda item: (-scores[item], item in relevant))
    hits = [item in relevant for item in ranking]
    total = len(relevant)
    precisions = [sum(hits[: place + 1]) / (place + 1) for place in range(total) if hits[place]]
    gain, best = (
        sum(hit / math.log2(2 + place) for place, hit in enumerate(order[:10]))
        for order in (hits, sorted(hits, reverse=True))
    )
    return 1 + hits.index(True), sum(precisions) / total, sum(hits[:total]) / total, gain / best


def oracle(scores, caption_image):
    """For each query of each direction what ``adverse`` says, None for an image without captions."""
    images = []
    for row, line in enumerate(scores):
        own = {column for column, image in enumerate(caption_image) if image == row}
        images.append(adverse(line, own) if own else None)
    captions = [adverse([line[column] for line in scores], {image}) for column, image in enumerate(caption_image)]
    return images, captions


@st.composite
def tasks(draw):
    images = draw(st.integers(1, 6))
    caption_image = draw(st.lists(st.integers(0, images - 1), min_size=1, max_size=14))
    cell = st.sampled_from([-1.5, -0.0, 0.0, 0.25, 2.0]) | st.floats(-10, 10, width=32)
    scores = draw(st.lists(st.lists(cell, min_size=len(caption_image), max_size=len(caption_image)),
                           min_size=images, max_size=images))  # fmt: skip
    return scores, caption_image


def check(results, scores, caption_image):
    images, captions = oracle(scores, caption_image)
    for queries, expected in (
        (results["image_to_text"], [found for found in images if found]),
        (results["text_to_image"], captions),
    ):
        assert queries.rank.tolist() == [found[0] for found in expected]
        assert queries.average_precision == pytest.approx([found[1] for found in expected])
        assert queries.r_precision == pytest.approx([found[2] for found in expected])
        assert queries.ndcg == pytest.approx([found[3] for found in expected])


@given(tasks(), st.sampled_from([1, 7, 2**20]))
@settings(deadline=None)
def test_equals_the_brute_force_oracle_with_ties_and_any_chunk(task, cells):
    scores, caption_image = task
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "CHUNK_CELLS", cells)
        results = query_results(np.array(scores, dtype=np.float32), relevance_for(caption_image, len(scores)))
    check(results, scores, caption_image)


def test_summary_is_the_mean_and_the_median_over_the_oracle():
    rng = np.random.default_rng(3)
    caption_image = rng.integers(0, 20, size=60)
    scores = rng.integers(0, 30, size=(20, 60)).astype(np.float32)
    found = summarise(query_results(scores, relevance_for(caption_image, 20)))
    images, captions = oracle(scores.tolist(), caption_image.tolist())
    for way, expected in (("image_to_text", [e for e in images if e]), ("text_to_image", captions)):
        ranks = [rank for rank, *_ in expected]
        assert found[way]["median_rank"] == np.median(ranks)
        assert found[way]["mean_rank"] == pytest.approx(np.mean(ranks))
        for k in (1, 5, 10):
            assert found[way][f"R@{k}"] == pytest.approx(100 * np.mean([rank <= k for rank in ranks]))
        assert found[way]["mAP@R"] == pytest.approx(100 * np.mean([precision for _, precision, *_ in expected]))
        assert found[way]["R-Precision"] == pytest.approx(100 * np.mean([share for _, _, share, _ in expected]))
        assert found[way]["nDCG@10"] == pytest.approx(100 * np.mean([ndcg for *_, ndcg in expected]))
    recalls = [found[way][f"R@{k}"] for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)]
    assert recall_sum(found) == pytest.approx(sum(recalls))


def test_equal_scores_everywhere_are_the_worst_ranks():
    relevance = relevance_for([0, 0, 1, 2], 3)
    results = query_results(np.zeros((3, 4), dtype=np.float32), relevance)
    assert results["image_to_text"].rank.tolist() == [3, 4, 4]  # after every caption of another image
    assert results["text_to_image"].rank.tolist() == [3, 3, 3, 3]
    assert results["image_to_text"].r_precision.tolist() == [0, 0, 0]


def test_order_of_images_and_captions_changes_nothing():
    rng = np.random.default_rng(5)
    caption_image = rng.integers(0, 12, size=40)
    scores = rng.integers(0, 9, size=(12, 40)).astype(np.float32)
    rows, columns = rng.permutation(12), rng.permutation(40)
    moved = np.argsort(rows)[caption_image[columns]]
    a = summarise(query_results(scores, relevance_for(caption_image, 12)))
    b = summarise(query_results(scores[rows][:, columns], relevance_for(moved, 12)))
    assert all(a[way] == pytest.approx(b[way]) for way in a)


@given(st.integers(0, 7), st.integers(0, 11), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_a_score_that_is_not_finite_is_refused_by_the_name_of_its_pair(row, column, wrong):
    scores = np.zeros((8, 12), dtype=np.float32)
    scores[row, column] = wrong
    scores[7, 11] = wrong  # a later one is not the first
    relevance = relevance_for([column % 8 for column in range(12)], 8)
    with pytest.raises(HANError, match=rf"'image {row}' .*'{relevance.caption_ids[column]}' .*never ranked"):
        query_results(scores, relevance)


def test_scores_may_lie_in_a_file(tmp_path):
    scores = np.memmap(tmp_path / "scores", dtype=np.float32, mode="w+", shape=(5, 9))
    scores[:] = np.random.default_rng(0).integers(0, 4, size=(5, 9))
    caption_image = [4, 0, 1, 2, 3, 4, 4, 0, 1]
    check(query_results(scores, relevance_for(caption_image, 5)), scores.tolist(), caption_image)


def test_images_without_captions_are_ranked_but_ask_nothing():
    results = query_results(np.array([[1.0], [2.0]], dtype=np.float32), relevance_for([0], 2))
    assert results["image_to_text"].ids == ("image 0",)
    assert results["text_to_image"].rank.tolist() == [2]
    with pytest.raises(HANError, match="no caption"):
        query_results(np.zeros((2, 0), dtype=np.float32), relevance_for([], 2))


def test_folds_are_evaluations_of_their_own_and_the_figure_is_their_mean():
    rng = np.random.default_rng(1)
    caption_image = np.sort(rng.integers(0, 12, size=50))
    scores = rng.standard_normal((12, 50)).astype(np.float32)
    relevance = relevance_for(caption_image, 12)
    together = fold_results(scores, relevance, folds=3)
    apart = []
    for start in (0, 4, 8):
        columns = np.flatnonzero((caption_image >= start) & (caption_image < start + 4))
        part = relevance_for(caption_image[columns] - start, 4)
        apart.append(query_results(scores[start : start + 4][:, columns], part))
    for way in together:
        assert together[way].rank.tolist() == [rank for part in apart for rank in part[way].rank.tolist()]
        assert sorted(set(together[way].fold.tolist())) == [0, 1, 2]
        for name, value in summarise(together)[way].items():
            assert value == pytest.approx(np.mean([summarise(part)[way][name] for part in apart]))


def test_folds_keep_the_ids_and_need_a_divisor():
    relevance = relevance_for([3, 0, 1, 2, 0], 4)
    found = fold_results(np.zeros((4, 5), dtype=np.float32), relevance, folds=2)
    assert found["text_to_image"].ids == ("image 0#0", "image 1#0", "image 0#1", "image 3#0", "image 2#0")
    assert found["text_to_image"].images == ("image 0", "image 1", "image 0", "image 3", "image 2")
    for folds in (0, 3, 8):
        with pytest.raises(HANError, match=f"4 images do not make {folds} equal folds"):
            relevance.folds(folds)


def test_relevance_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="caption_image"):
        Relevance(("a",), ("a#0", "a#1"), np.zeros(1, dtype=np.int64))
    with pytest.raises(ValueError, match="caption_image"):
        Relevance(("a",), ("a#0",), np.ones(1, dtype=np.int64))
    with pytest.raises(ValueError, match="scores"):
        query_results(np.zeros((2, 2), dtype=np.float32), relevance_for([0], 1))


@pytest.mark.slow
def test_memory_beside_the_scores_is_small():
    import tracemalloc

    rng = np.random.default_rng(0)
    scores = rng.standard_normal((2000, 10_000), dtype=np.float32)
    relevance = relevance_for(np.repeat(np.arange(2000), 5), 2000)
    tracemalloc.start()
    query_results(scores, relevance)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < scores.nbytes // 2


@given(tasks(), st.data())
def test_captions_that_match_several_images(task, data):
    """Every image that a caption is relevant to counts, in both directions; ties still count against the system."""
    scores, caption_image = task
    images = len(scores)
    having = [sorted({image, *data.draw(st.lists(st.integers(0, images - 1), max_size=3))}) for image in caption_image]
    relevance = relevance_for(caption_image, images)
    relevance = Relevance(relevance.image_ids, relevance.caption_ids, relevance.caption_image,
                          tuple(np.array(each) for each in having))  # fmt: skip
    results = query_results(np.array(scores, dtype=np.float32), relevance)
    rounded = np.array(scores, dtype=np.float32).tolist()
    of_images = [
        adverse(line, own)
        for row, line in enumerate(rounded)
        if (own := {column for column, rows in enumerate(having) if row in rows})
    ]
    of_captions = [adverse([line[c] for line in rounded], set(rows)) for c, rows in enumerate(having)]
    for way, expected in (("image_to_text", of_images), ("text_to_image", of_captions)):
        queries = results[way]
        found = zip(queries.rank, queries.average_precision, queries.r_precision, queries.ndcg, strict=True)
        assert [pytest.approx(each) for each in expected] == list(found)


def test_recalls_with_ties_at_random():
    """By the definition: the mean over all orders of what ties."""
    scores = np.array([[0.5, 0.5, 0.5, 0.1], [0.5, 0.2, 0.9, 0.9]], dtype=np.float32)
    relevance = relevance_for([0, 0, 1, 1], 2)
    found = expected_recalls(scores, relevance)
    # The first image: two of the three that tie are its own. The second: its own two come first.
    assert found["image_to_text"]["R@1"] == pytest.approx(100 * (2 / 3 + 1) / 2)
    # The first caption ties between its image and the other.
    assert found["text_to_image"]["R@1"] == pytest.approx(100 * (1 / 2 + 1 + 1 + 1) / 4)
    assert found["text_to_image"]["R@5"] == found["image_to_text"]["R@5"] == 100


@given(tasks())
def test_no_order_of_ties_is_worse_than_the_one_that_counts(task):
    scores, caption_image = task
    relevance = relevance_for(caption_image, len(scores))
    values = np.array(scores, dtype=np.float32)
    worst = summarise(query_results(values, relevance))
    for way, expected in expected_recalls(values, relevance).items():
        for name, value in expected.items():
            assert value >= worst[way][name] - 1e-9
