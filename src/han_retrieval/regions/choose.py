"""Selection of a photo's regions among its raw detections; the whole photo comes first.

Legend: k raw detections, n of them kept, boxes x0 y0 x1 y1 in pixels of the photo.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

PHOTO = "photo"  # the label of the whole photo
_LEAST_SIDE = 1.0  # of a box, in pixels


def choose(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    *,
    regions: int,
    width: float,
    height: float,
    overlap: float = 0.5,
    coinciding: float = 0.9,
) -> Tensor:
    """Select detections, best score first; of equal scores the earlier one.

    Dropped are boxes less than a pixel wide or high within the photo, or not finite; boxes that nearly cover the whole
    photo; boxes that overlap a better box of their own class; and boxes that nearly coincide with a better box of any
    class. ``photo_first`` clips the others to the photo.

    Args:
        boxes: (k, 4) float.
        scores: (k,) float.
        labels: (k,) integer classes.
        regions: m; at most m - 1 are kept, since the whole photo is always the first region.
        width, height: Size of the photo in the pixels that boxes are in.
        overlap: IoU above which two boxes of one class are detections of the same object.
        coinciding: IoU above which two boxes, or a box and the whole photo, are one region whatever their classes.

    Returns:
        The detections' places, (n,) int64 on the device of ``boxes``, n <= m - 1.
    """
    from torchvision.ops import batched_nms, nms  # takes a second to import

    clipped = _within(boxes, width, height)
    sides = clipped[:, 2:] - clipped[:, :2]  # (k, 2)
    # A comparison with NaN is false, which drops boxes that are not finite; the area's share is the IoU with the photo.
    wanted = (sides >= _LEAST_SIDE).all(1) & (sides.prod(1) <= coinciding * width * height) & scores.isfinite()
    places = wanted.nonzero()[:, 0]
    places = places[scores[places].argsort(descending=True, stable=True)]
    # Both return places among ``places``; sorting them restores the order of scores where scores are equal.
    places = places[batched_nms(clipped[places], scores[places].float(), labels[places], overlap).sort().values]
    places = places[nms(clipped[places], scores[places].float(), coinciding).sort().values]
    return places[: regions - 1]


def photo_first(
    boxes: Tensor, scores: Tensor, labels: Sequence[str], *, width: float, height: float
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """The selected detections of a photo after the whole photo, which is region 0 of every photo.

    Args:
        boxes: (n, 4) float, clipped to the photo here.
        scores: (n,) float.
        labels: n names.
        width, height: Size of the photo in the pixels that boxes are in.

    Returns:
        Boxes (1 + n, 4) float32, scores (1 + n,) float32 and 1 + n names: first 0, 0, ``width``, ``height`` with score
        1.0 and the name "photo".
    """
    whole = torch.tensor([[0.0, 0.0, width, height]], device=boxes.device)
    with_photo = torch.cat([whole, _within(boxes, width, height)])
    return with_photo, torch.cat([whole.new_ones(1), scores.float()]), (PHOTO, *labels)


def _within(boxes: Tensor, width: float, height: float) -> Tensor:
    """The boxes in float32, clipped to the photo."""
    from torchvision.ops import clip_boxes_to_image

    return clip_boxes_to_image(boxes.float(), (height, width))  # type: ignore[no-any-return]
