"""Which detections are kept: against a plain greedy loop, and each rule by itself."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou

from han_retrieval.regions.choose import choose, photo_first

WIDTH, HEIGHT = 200, 100


def kept(boxes, scores=None, labels=None, *, regions=36, **limits):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    scores = torch.linspace(0.9, 0.1, len(boxes)) if scores is None else torch.tensor(scores)
    labels = torch.zeros(len(boxes), dtype=torch.int64) if labels is None else torch.tensor(labels)
    return choose(boxes, scores, labels, regions=regions, width=WIDTH, height=HEIGHT, **limits).tolist()


def one_by_one(boxes, scores, labels, *, regions):
    """The same rules as a loop over boxes, best first."""
    whole = torch.tensor([[0.0, 0, WIDTH, HEIGHT]])
    clipped = boxes.clamp(min=0).minimum(torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT]))
    order = scores.argsort(descending=True, stable=True).tolist()
    order = [i for i in order if (clipped[i, 2:] - clipped[i, :2] >= 1).all()]
    order = [i for i in order if box_iou(clipped[i : i + 1], whole).item() <= 0.9]
    for same_class, limit in ((True, 0.5), (False, 0.9)):
        best: list[int] = []
        for i in order:
            rivals = [j for j in best if not same_class or labels[i] == labels[j]]
            if not rivals or box_iou(clipped[[i]], clipped[rivals]).max() <= limit:
                best.append(i)
        order = best
    return order[: regions - 1]


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 80), regions=st.integers(1, 40))
def test_it_is_what_a_loop_over_boxes_keeps(seed, count, regions):
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform(-30, 230, (count, 2, 2)).astype(np.float32) * [1, 0.5], axis=1)
    boxes = torch.from_numpy(corners.reshape(count, 4)).float()
    scores = torch.from_numpy(rng.integers(0, 12, count) / 12).float()  # with ties
    labels = torch.from_numpy(rng.integers(0, 3, count))
    found = choose(boxes, scores, labels, regions=regions, width=WIDTH, height=HEIGHT)
    assert found.dtype == torch.int64
    assert found.tolist() == one_by_one(boxes, scores, labels, regions=regions)


def test_what_is_no_box_within_the_photo_is_dropped():
    inside, nan = [10, 10, 50, 50], float("nan")
    no_boxes = [[-50, 10, -5, 40], [210, 10, 250, 50], [60, 60, 60.5, 90], [50, 50, 20, 80], [nan, 0, 9, 9]]
    assert kept([*no_boxes, inside]) == [5]
    assert kept([inside, [100, 10, 140, 50]], scores=[nan, 0.5]) == [1]
    assert kept([[-40, -40, 60, 60]]) == [0]  # what hangs over the edge is a box


def test_no_detections_is_no_fault():
    assert kept([]) == []
    assert kept([[10, 10, 50, 50]], regions=1) == []


def test_a_class_suppresses_its_own_and_coinciding_boxes_of_others():
    box, half_over, nearly = [10, 10, 60, 60], [22, 10, 72, 60], [11, 10, 61, 60]
    assert kept([box, half_over]) == [0]  # IoU 0.61
    assert kept([box, half_over], labels=[0, 1]) == [0, 1]
    assert kept([box, nearly], labels=[0, 1]) == [0]
    assert kept([box, nearly], scores=[0.2, 0.8], labels=[0, 1]) == [1]
    assert kept([box, nearly], labels=[0, 1], coinciding=0.99) == [0, 1]
    assert kept([box, half_over], overlap=0.7) == [0, 1]


def test_the_whole_photo_is_not_found_twice_and_suppresses_nothing():
    nearly_all, more_than_half = [2, 2, 199, 99], [0, 0, 150, 90]
    assert kept([nearly_all, more_than_half]) == [1]


def test_the_best_are_kept_best_first():
    boxes = [[20 * i, 10, 20 * i + 15, 30] for i in range(8)]
    scores = [0.1, 0.8, 0.3, 0.9, 0.9, 0.2, 0.7, 0.05]
    assert kept(boxes, scores=scores, regions=5) == [3, 4, 1, 6]


def test_the_whole_photo_comes_first_and_boxes_end_at_its_edge():
    boxes, scores = torch.tensor([[-10.0, 20, 250, 80], [5, 5, 20, 20]], dtype=torch.float64), torch.tensor([0.8, 0.4])
    boxes, scores, names = photo_first(boxes, scores, ["dog", "ball"], width=WIDTH, height=HEIGHT)
    assert boxes.tolist() == [[0, 0, WIDTH, HEIGHT], [0, 20, WIDTH, 80], [5, 5, 20, 20]]
    assert boxes.dtype == scores.dtype == torch.float32
    assert np.allclose(scores, [1, 0.8, 0.4])
    assert names == ("photo", "dog", "ball")
    boxes, scores, names = photo_first(torch.zeros(0, 4), torch.zeros(0), [], width=WIDTH, height=HEIGHT)
    assert (boxes.tolist(), scores.tolist(), names) == ([[0, 0, WIDTH, HEIGHT]], [1], ("photo",))
