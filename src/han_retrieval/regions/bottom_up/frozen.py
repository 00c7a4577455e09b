"""A ``BottomUp`` network that only computes, on the CPU: what training does not need is left out.

The outputs are those of the network, but for the rounding of bfloat16 where the processor is faster in it.

Legend: k boxes of a photo, h, w pixels, n cells of all maps of the pyramid, C channels of the pyramid, F numbers a
representation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import clip_boxes_to_image, nms, remove_small_boxes

from han_retrieval.regions.bottom_up.network import CELLS, BottomUp, BoxPredictions, Maps
from han_retrieval.regions.convolution import FrozenConvolution, FrozenLinear
from han_retrieval.regions.efficientnet_lite import STRIDE, FrozenEfficientNet
from han_retrieval.regions.pooling import box_weights

_SAMPLES = 2  # a side of a cell that is pooled
_POOLED = ("0", "1", "2")  # the maps that boxes are pooled from
_FIRST_STRIDE = 8
# A box of this side, in pixels, is pooled from the map of stride 16; from the next ones where it is half or twice that.
_SIDE, _SIDE_LEVEL = 224.0, 1


class FrozenBottomUp:
    """Photos to proposals; boxes to predictions. A photo at a time is quickest, since its maps fit caches.

    The methods are those of ``BottomUp`` of the same name, for one photo; its maps hold more than those of the network.

    Args:
        network: In evaluation mode, on the CPU; its weights are copied.
        dtype: Of the large products and the maps: float32, or bfloat16 where the processor is faster in it.
    """

    def __init__(self, network: BottomUp, *, dtype: torch.dtype) -> None:
        self.dtype, self.refine, self._network = dtype, network.refine, network
        self.backbone = FrozenEfficientNet(network.backbone, dtype=dtype)
        self._inner, self._outer = (
            [FrozenConvolution(block[0], activation="none", dtype=dtype) for block in blocks]
            for blocks in (network.pyramid.inner_blocks, network.pyramid.layer_blocks)
        )
        head = network.proposals.head
        self._objectness = FrozenConvolution(head.conv[0][0], activation="relu", dtype=dtype)
        # Two small convolutions of 1 x 1 as one product, in float32, which tells boxes of nearly equal scores apart.
        self._scores_and_offsets = (
            torch.cat([each.weight.detach().flatten(1) for each in (head.cls_logits, head.bbox_pred)]),
            torch.cat([each.bias.detach() for each in (head.cls_logits, head.bbox_pred)]),
        )
        self._anchors_a_cell = len(head.cls_logits.weight)
        heads = network.heads
        # Cells first, channels last, as they are pooled here.
        of_cells = heads.cells.weight.detach().unflatten(1, (-1, CELLS**2)).mT.flatten(1)
        boxes = network.proposals.post_nms_top_n()
        self._cells = FrozenLinear(of_cells, heads.cells.bias, dtype=dtype, rows=boxes)
        self._both = FrozenLinear(heads.both.weight, None, dtype=dtype, rows=boxes)
        self._mean = FrozenLinear(heads.mean.weight, None, dtype=dtype, rows=boxes)
        self._known: tuple[tuple[int, int], list[Tensor]] | None = None

    def maps(self, photos: Tensor) -> Maps:
        """See ``BottomUp.maps``; (1, 3, h, w)."""
        *levels, top = self.backbone.levels(photos)
        inner = [convolution(level) for convolution, level in zip(self._inner, levels, strict=True)]
        for place in (1, 0):
            inner[place] += functional.interpolate(inner[place + 1], size=inner[place].shape[-2:], mode="nearest")
        maps = {str(place): self._outer[place](each) for place, each in enumerate(inner)}
        return {**maps, "pool": maps[_POOLED[-1]][:, :, ::2, ::2], "top": top, **self._for_boxes(maps, top)}

    def _for_boxes(self, maps: Maps, top: Tensor) -> Maps:
        """What all boxes are described from: the pooled maps as a table (n, C), and the top, projected: (h w, F)."""
        table = torch.cat([maps[name].permute(0, 2, 3, 1).flatten(0, 2) for name in _POOLED])
        # The mean of a map in a box, projected, is the mean of the projected map: fewer products.
        return {"table": table.float(), "projected": self._mean(top.permute(0, 2, 3, 1).flatten(0, 2)).float()}

    def propose(self, photos: Tensor, maps: Maps) -> list[Tensor]:
        """See ``BottomUp.propose``; anchors become boxes only where their scores are among the best."""
        shape, proposals = (photos.shape[-2], photos.shape[-1]), self._network.proposals
        levels = [maps[name] for name in (*_POOLED, "pool")]
        kept, scored = [], []
        for level, anchors in zip(levels, self._anchors(shape, levels), strict=True):
            cells = self._objectness(level.contiguous(memory_format=torch.channels_last)).permute(0, 2, 3, 1)
            found = functional.linear(cells.float().flatten(0, 2), *self._scores_and_offsets)
            logits = found[:, : self._anchors_a_cell].flatten()
            offsets = found[:, self._anchors_a_cell :].reshape(-1, 4)
            logits, best = logits.topk(min(proposals.pre_nms_top_n(), len(logits)))
            moved = proposals.box_coder.decode(offsets[best], [anchors[best]]).squeeze(1)
            boxes = clip_boxes_to_image(moved, shape)
            large = remove_small_boxes(boxes, proposals.min_size)
            boxes, logits = boxes[large], logits[large]
            places = nms(boxes, logits, proposals.nms_thresh)
            kept.append(boxes[places])
            scored.append(logits[places])
        scores = torch.cat(scored)
        best = scores.argsort(descending=True, stable=True)[: proposals.post_nms_top_n()]
        return [torch.cat(kept)[best]]

    def predict(self, maps: Maps, boxes: Sequence[Tensor], photos: Tensor) -> BoxPredictions:
        """See ``BottomUp.predict``; (k, 4) of one photo."""
        (of_photo,) = boxes
        heads = self._network.heads
        cells = self._cells(self._pool(maps, of_photo).to(self.dtype)).relu_()
        weights = box_weights(of_photo / STRIDE, *maps["top"].shape[-2:])
        mean = torch.addmm(heads.mean.bias, weights, maps["projected"]).relu_().to(self.dtype)
        representation = self._both(torch.cat([cells, mean], dim=1)).float()
        representation = representation.add_(heads.both.bias).relu_()
        return BoxPredictions(
            representation,
            heads.nouns(representation),
            heads.attributes(representation),
            heads.offsets(representation),
        )

    def _anchors(self, shape: tuple[int, int], levels: Sequence[Tensor]) -> list[Tensor]:
        """(cells times anchors a cell, 4) of each map; those of the last shape are kept."""
        known = self._known  # threads may put another one in its place meanwhile
        if known is None or known[0] != shape:
            generator = self._network.proposals.anchor_generator
            sizes = [(level.shape[-2], level.shape[-1]) for level in levels]
            strides = [[torch.tensor(side // cells) for side, cells in zip(shape, size, strict=True)] for size in sizes]
            generator.set_cell_anchors(torch.float32, torch.device("cpu"))
            self._known = known = shape, generator.grid_anchors(sizes, strides)
        return known[1]

    def _pool(self, maps: Maps, boxes: Tensor) -> Tensor:
        """(k, 49 C): RoI align of ``MultiScaleRoIAlign``, as weighted sums of the cells of all maps together."""
        levels = [maps[name] for name in _POOLED]
        heights, widths = (torch.tensor([level.shape[side] for level in levels]) for side in (-2, -1))
        firsts = (heights * widths).cumsum(0) - heights * widths
        sides = (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt()
        level = (sides / _SIDE).log2().add_(_SIDE_LEVEL + 1e-6).floor_().clamp_(0, len(levels) - 1).long()  # (k,)
        scaled = boxes / (_FIRST_STRIDE * 2.0**level).unsqueeze(1)
        down, down_weights = _samples(scaled[:, 1], scaled[:, 3], heights[level])
        across, across_weights = _samples(scaled[:, 0], scaled[:, 2], widths[level])
        rows = down * widths[level][:, None, None] + firsts[level][:, None, None]
        places = rows[:, :, None, :, None] + across[:, None, :, None, :]  # (k, 7, 7, 4, 4)
        weights = down_weights[:, :, None, :, None] * across_weights[:, None, :, None, :]
        found = functional.embedding_bag(
            places.flatten(3).flatten(0, 2), maps["table"], mode="sum",
            per_sample_weights=weights.flatten(3).flatten(0, 2),
        )  # fmt: skip
        return found.unflatten(0, (len(boxes), -1)).flatten(1)


def _samples(low: Tensor, high: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """The cells of a line that the points of RoI align lie between, and their weights: int64 and float (k, 7, 4).

    Args:
        low, high: (k,), where each box begins and ends, in cells.
        cells: (k,), the cells of its line.
    """
    count = CELLS * _SAMPLES
    size = (high - low).clamp(min=1.0)
    points = low.unsqueeze(1) + (torch.arange(count) + 0.5) / count * size.unsqueeze(1)  # (k, 14)
    last = (cells - 1).unsqueeze(1)
    inside = (points <= cells.unsqueeze(1)) & (points >= -1.0)
    points = points.clamp(min=0.0).minimum(last)
    before = points.long()
    share = points - before
    places = torch.stack([before, (before + 1).minimum(last)], dim=-1)
    weights = torch.stack([1 - share, share], dim=-1) * inside.unsqueeze(-1) / _SAMPLES
    return places.unflatten(1, (CELLS, _SAMPLES)).flatten(2), weights.unflatten(1, (CELLS, _SAMPLES)).flatten(2)
