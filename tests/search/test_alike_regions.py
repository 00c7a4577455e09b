"""Which pairs of regions say why two photos are alike."""

from __future__ import annotations

import numpy as np
import torch

from han_retrieval.search.similarity import RegionPair, alike_regions

WHOLE = [0, 0, 1, 1]
LEFT, RIGHT, TOP = [0, 0, 0.4, 1], [0.6, 0, 1, 1], [0.4, 0, 0.6, 0.3]
DIRECTIONS = torch.eye(4)


def boxes(*given: list[float]) -> np.ndarray:
    return np.array(given, np.float32)


def test_the_most_alike_come_first_and_each_region_once():
    tokens = torch.stack([DIRECTIONS[0], DIRECTIONS[1], DIRECTIONS[2]])
    others = torch.stack([DIRECTIONS[1] + 0.5 * DIRECTIONS[3], 3 * DIRECTIONS[0], -DIRECTIONS[2]])
    pairs = alike_regions(tokens, boxes(LEFT, RIGHT, TOP), others, boxes(LEFT, RIGHT, TOP))
    assert [(pair.region, pair.other) for pair in pairs] == [(0, 1), (1, 0)]  # the third are opposites
    assert [round(pair.cosine, 3) for pair in pairs] == [1, 0.894]
    assert alike_regions(tokens, boxes(LEFT, RIGHT, TOP), others, boxes(LEFT, RIGHT, TOP), k=1) == pairs[:1]


def test_boxes_of_the_same_thing_count_once():
    tokens = torch.stack([DIRECTIONS[0], DIRECTIONS[0] + 0.1 * DIRECTIONS[1], DIRECTIONS[1]])
    nearly = [0, 0, 0.4, 0.9]
    for here, there in (
        (boxes(LEFT, nearly, RIGHT), boxes(LEFT, TOP, RIGHT)),
        (boxes(LEFT, TOP, RIGHT), boxes(LEFT, nearly, RIGHT)),
    ):
        pairs = alike_regions(tokens, here, tokens, there)
        assert [(pair.region, pair.other) for pair in pairs] == [(0, 0), (2, 2)]


def test_the_whole_photo_counts_where_there_is_nothing_else():
    tokens = torch.stack([DIRECTIONS[0], DIRECTIONS[1]])
    assert [pair.region for pair in alike_regions(tokens, boxes(WHOLE, LEFT), tokens, boxes(WHOLE, LEFT))] == [1]
    assert alike_regions(tokens[:1], boxes(WHOLE), tokens[:1], boxes(WHOLE)) == [RegionPair(0, 0, 1.0)]
