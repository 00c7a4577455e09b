"""Means of a map of features inside boxes.

Legend: D numbers a feature, h, w cells of the map, k boxes.
"""

from __future__ import annotations

import torch
from torch import Tensor

LARGE_SHARE = 1 / 6  # of a photo's area, from which a box is large
_SAMPLES = 8  # points a side whose mean is that of a box, at least


def mean_in_boxes(feature_map: Tensor, boxes: Tensor, *, samples: int = _SAMPLES) -> Tensor:
    """(k, D): the mean of a map (D, h, w) in boxes (k, 4), x0 y0 x1 y1 in cells from the map's upper left corner.

    The mean of ``samples`` x ``samples`` points of a box, interpolated as RoI align does, so that a box smaller than a
    cell gets what is at its place. It is linear in the map: each box has a weight for each cell, the product of its
    row's and its column's, so that all means are one small matrix product.
    """
    weights = box_weights(boxes, *feature_map.shape[-2:], samples=samples)
    return weights @ feature_map.flatten(1).mT


def box_weights(boxes: Tensor, h: int, w: int, *, samples: int = _SAMPLES) -> Tensor:
    """(k, h w): the weight of each cell of a map in the means of ``mean_in_boxes``."""
    left, top, right, bottom = (boxes - 0.5).unbind(1)  # (k,), 0 at the centre of the first cell
    weights = _share(top, bottom, h, samples).unsqueeze(2) * _share(left, right, w, samples).unsqueeze(1)  # (k, h, w)
    return weights.flatten(1)


def mean_of_cells(feature_map: Tensor, *, columns: int, rows: int) -> Tensor:
    """(rows columns, D): a map (D, h, w) pooled to fewer cells, row by row; each old cell counts by its overlap."""
    h, w = feature_map.shape[-2:]
    down, across = _overlap(h, rows, like=feature_map), _overlap(w, columns, like=feature_map)
    return torch.einsum("rh,dhw,cw->rcd", down, feature_map, across).flatten(0, 1)


def _share(low: Tensor, high: Tensor, cells: int, samples: int) -> Tensor:
    """(k, cells): the weight of each cell of a line in the mean of points from ``low`` to ``high``, (k,) each."""
    places = (torch.arange(samples, device=low.device) + 0.5) / samples
    points = (low.unsqueeze(1) + (high - low).unsqueeze(1) * places).clamp(0, cells - 1)  # (k, samples)
    distance = (points.unsqueeze(2) - torch.arange(cells, device=low.device)).abs()
    return (1 - distance).clamp(min=0).mean(1)


def _overlap(cells: int, parts: int, *, like: Tensor) -> Tensor:
    """(parts, cells): the share that each cell of a line has of each of ``parts`` equal parts of the line."""
    starts = torch.arange(parts, device=like.device).unsqueeze(1) * cells / parts  # (parts, 1)
    cell = torch.arange(cells, device=like.device)
    common = torch.minimum(starts + cells / parts, cell + 1) - torch.maximum(starts, cell)
    return (common.clamp(min=0) * parts / cells).to(like.dtype)
