from __future__ import annotations

import numpy as np
import torch
from torchvision.ops import box_iou

from han_retrieval.data import EntitiesPhoto, overlapping, to_stored_size
from han_retrieval.data.boxes import iou, show_same


def boxes(random: np.random.Generator, count: int) -> np.ndarray:
    return random.uniform(0, 100, (count, 2, 2)).round().cumsum(1).reshape(count, 4)


def test_a_region_overlaps_a_box_from_half_their_union_on() -> None:
    regions = np.array([[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 4.9], [5, 5, 5, 5], [20, 20, 30, 30]], float)
    assert overlapping(regions, np.array([[0, 0, 10, 10]], float)).tolist() == [True, True, False, False, False]
    assert overlapping(regions, np.zeros((0, 4))).tolist() == [False] * 5
    assert overlapping(regions[3:4], regions[3:4]).tolist() == [False]  # neither has an area


def test_overlaps_are_those_of_torchvision() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        regions, others = boxes(random, 12), boxes(random, 7)
        expected = (box_iou(torch.from_numpy(regions), torch.from_numpy(others)) >= 0.5).any(1)
        assert overlapping(regions, others).tolist() == expected.tolist()


def test_boxes_follow_the_size_of_the_stored_photo() -> None:
    photo = EntitiesPhoto("a.jpg", 100, 200, ())
    annotated = np.array([[10, 20, 30, 40]], np.float32)
    assert to_stored_size(annotated, photo, width=50, height=400).tolist() == [[5, 40, 15, 80]]
    assert to_stored_size(annotated, photo, width=0, height=0).tolist() == annotated.tolist()


def test_boxes_show_the_same_where_they_overlap_or_lie_within():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 9, 10], [2, 2, 8, 8], [4, 4, 6, 6], [20, 20, 30, 30], [5, 0, 5, 10]])
    near = show_same(boxes, boxes[0], within=0.7)
    assert near.tolist() == [True, True, True, False, False, False]  # the fourth is a 25th of it
    assert iou(boxes, boxes[0]).round(2).tolist() == [1, 0.9, 0.36, 0.04, 0, 0]


def test_empty_boxes_show_nothing_in_common():
    empty = np.array([[10.0, 10, 10, 50], [200, 200, 200, 240]])
    assert not show_same(empty[:1], empty[1], within=0.7).any()
    assert not show_same(empty[:0], empty[1], within=0.7).any()
