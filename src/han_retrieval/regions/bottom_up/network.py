"""A Faster R-CNN whose heads predict a noun and attributes for each region, as bottom-up attention does.

Ren et al., "Faster R-CNN" (NeurIPS 2015), with a feature pyramid (Lin et al., CVPR 2017) and the attributes of Anderson
et al., "Bottom-Up and Top-Down Attention" (CVPR 2018). The backbone is frozen: trained on a few thousand photos, it
would overfit and forget ImageNet.

Legend: B photos, k boxes of one photo, K boxes of all photos, h, w pixels, N nouns, A attributes, C channels of the
pyramid, F numbers a representation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import AnchorGenerator, RPNHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign, clip_boxes_to_image
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from han_retrieval.ranks import ALONE, Ranks
from han_retrieval.regions.bottom_up.names import Names
from han_retrieval.regions.bottom_up.sampling import Draws, Proposals, Sampler
from han_retrieval.regions.efficientnet_lite import CHANNELS, LEVEL_CHANNELS, EfficientNetLite2, mean_in_boxes

# Sides of anchors in pixels at strides 8, 16, 32 and 64, and their proportions; as many on each, for one head.
_ANCHORS = ((24, 34, 48), (64, 90, 128), (160, 200, 250), (300, 350, 400))
_PROPORTIONS = (0.5, 1.0, 2.0)
CELLS = 7  # a side, of a box that is pooled from the pyramid


class BottomUpConfig(BaseModel):
    """The shape of a detector.

    Attributes:
        names: The nouns and attributes that it predicts.
        channels: C.
        representation: F.
        dropout: Share of a box's pooled numbers that training leaves out.
        size: Photos are resized to about this size squared, at their proportions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: Names
    channels: int = Field(default=96, ge=1, le=10_000)
    representation: int = Field(default=512, ge=1, le=100_000)
    dropout: float = Field(default=0.3, ge=0, lt=1)
    size: int = Field(default=416, ge=64, le=8192, multiple_of=32)


class BoxTargets(NamedTuple):
    """The annotated boxes of one photo.

    Attributes:
        boxes: (k, 4) float, x0 y0 x1 y1 in pixels of the photo as the network gets it; k may be 0.
        nouns: (k, N) float: the share of each noun in the phrases about the box.
        attributes: (k, A) bool: the attributes in those phrases.
    """

    boxes: Tensor
    nouns: Tensor
    attributes: Tensor


class BoxPredictions(NamedTuple):
    """The outputs of the heads for boxes.

    Attributes:
        representation: (K, F).
        nouns: (K, 1 + N) logits, the first of the background.
        attributes: (K, A) logits.
        offsets: (K, 4) to the refined box, encoded as in Faster R-CNN.
    """

    representation: Tensor
    nouns: Tensor
    attributes: Tensor
    offsets: Tensor


Maps = dict[str, Tensor]


class BottomUp(nn.Module):
    """The network: photos to proposals; boxes to representations, nouns, attributes and refined boxes."""

    def __init__(self, config: BottomUpConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = EfficientNetLite2()
        self.pyramid = FeaturePyramidNetwork(list(LEVEL_CHANNELS), config.channels, extra_blocks=LastLevelMaxPool())
        self.proposals = Proposals(
            AnchorGenerator(_ANCHORS, (_PROPORTIONS,) * len(_ANCHORS)),
            RPNHead(config.channels, len(_ANCHORS[0]) * len(_PROPORTIONS)),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=128,
            positive_fraction=0.5,
            pre_nms_top_n={"training": 600, "testing": 600},
            post_nms_top_n={"training": 300, "testing": 300},
            nms_thresh=0.7,
        )
        self.heads = Heads(config)

    def train(self, mode: bool = True) -> BottomUp:
        """Training mode, but for the backbone."""
        super().train(mode)
        self.backbone.eval()
        return self

    def maps(self, photos: Tensor) -> Maps:
        """The pyramid's maps of (B, 3, h, w) RGB from 0 to 255, sides multiples of 32; the backbone's last as "top"."""
        *levels, top = self.backbone.levels(photos)
        return {**self.pyramid({str(place): level for place, level in enumerate(levels)}), "top": top}

    def losses(
        self, photos: Tensor, targets: Sequence[BoxTargets], *, draws: Draws, ranks: Ranks = ALONE
    ) -> dict[str, Tensor]:
        """The training losses, scalars by name.

        Args:
            photos: As ``maps`` takes them.
            targets: Their boxes.
            draws: What is drawn for them.
            ranks: The processes that share the batch, each with photos of its own; the losses are those of all.
        """
        maps = self.maps(photos)
        self.proposals.ranks, self.proposals.fg_bg_sampler.seeds = ranks, draws.seeds
        self.heads.fg_bg_sampler.seeds = [seed + 1 for seed in draws.seeds]
        proposals, losses = self._propose(photos, maps, [{"boxes": each.boxes} for each in targets])
        return {
            "objectness": losses["loss_objectness"],
            "proposals": losses["loss_rpn_box_reg"],
            **self.heads.losses(maps, proposals, photos, targets, draws=draws, ranks=ranks),
        }

    def propose(self, photos: Tensor, maps: Maps) -> list[Tensor]:
        """Boxes (k, 4) of possible objects for each photo, at most 300, likeliest first."""
        return self._propose(photos, maps, None)[0]

    def predict(self, maps: Maps, boxes: list[Tensor], photos: Tensor) -> BoxPredictions:
        """The heads' outputs for boxes (k, 4) of each photo."""
        predicted: BoxPredictions = self.heads(maps, boxes, photos)
        return predicted

    def refine(self, predicted: BoxPredictions, boxes: list[Tensor], photos: Tensor) -> list[Tensor]:
        """The boxes moved by the predicted offsets, clipped to the photo."""
        moved: Tensor = self.heads.box_coder.decode(predicted.offsets, boxes).squeeze(1)  # (K, 4)
        within: Tensor = clip_boxes_to_image(moved, _shape(photos))
        return list(within.split([len(b) for b in boxes]))

    def _propose(
        self, photos: Tensor, maps: Maps, targets: list[dict[str, Tensor]] | None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        levels = {name: level for name, level in maps.items() if name != "top"}
        found: tuple[list[Tensor], dict[str, Tensor]] = self.proposals(
            ImageList(photos, [_shape(photos)] * len(photos)), levels, targets
        )
        return found

    def learned(self) -> dict[str, Tensor]:
        """The state without the backbone, which comes from its own package."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("backbone.")}


class Heads(RoIHeads):  # type: ignore[misc]
    """Predictions for a box from its cells of the pyramid and the mean of the backbone's last map inside it.

    The sampling of training boxes and the encoding of offsets are torchvision's.
    """

    def __init__(self, config: BottomUpConfig) -> None:
        pool = MultiScaleRoIAlign(["0", "1", "2"], output_size=CELLS, sampling_ratio=2)
        super().__init__(
            pool, None, None, fg_iou_thresh=0.5, bg_iou_thresh=0.5, batch_size_per_image=64, positive_fraction=0.5,
            bbox_reg_weights=None, score_thresh=0.0, nms_thresh=0.5, detections_per_img=100,
        )  # fmt: skip
        self.fg_bg_sampler = Sampler(64, 0.5)
        size = config.representation
        self.cells = nn.Linear(config.channels * CELLS**2, size)
        self.mean = nn.Linear(CHANNELS, size)
        self.dropout = nn.Dropout(config.dropout)
        self.both = nn.Linear(2 * size, size)
        self.nouns = nn.Linear(size, 1 + len(config.names.nouns))
        self.attributes = nn.Linear(size, len(config.names.attributes))
        self.offsets = nn.Linear(size, 4)
        for layer in (self.nouns, self.attributes, self.offsets):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(  # type: ignore[override]
        self, maps: Maps, boxes: list[Tensor], photos: Tensor, draws: Draws | None = None
    ) -> BoxPredictions:
        """The heads' outputs for boxes (k, 4) of each photo; with ``draws``, those of a training step."""
        dropped: Callable[[Tensor], Tensor] = self.dropout
        if draws is not None:
            dropped = partial(draws.dropped, share=self.dropout.p, counts=[len(each) for each in boxes])
        cells = self.box_roi_pool(maps, boxes, [_shape(photos)] * len(boxes)).flatten(1)  # (K, C 7 7)
        mean = mean_in_boxes(maps["top"], boxes)
        parts = [self.cells(dropped(cells)).relu(), self.mean(dropped(mean)).relu()]
        representation = self.both(dropped(torch.cat(parts, dim=1))).relu()  # (K, F)
        return BoxPredictions(
            representation, self.nouns(representation), self.attributes(representation), self.offsets(representation)
        )

    def losses(
        self,
        maps: Maps,
        proposals: list[Tensor],
        photos: Tensor,
        targets: Sequence[BoxTargets],
        *,
        draws: Draws,
        ranks: Ranks,
    ) -> dict[str, Tensor]:
        """Cross entropy of nouns, binary cross entropy of attributes, smooth L1 distance of offsets."""
        annotated: list[dict[str, Any]] = [
            {"boxes": each.boxes, "labels": torch.ones(len(each.boxes), dtype=torch.int64, device=each.boxes.device)}
            for each in targets
        ]
        boxes, matched, labels, offsets = self.select_training_samples(proposals, annotated)
        predicted = self(maps, boxes, photos, draws)
        is_region = torch.cat(labels) > 0  # (K,) bool, not background
        nouns = torch.cat([_rows(each.nouns, place) for each, place in zip(targets, matched, strict=True)])
        attributes = torch.cat([_rows(each.attributes, place) for each, place in zip(targets, matched, strict=True)])
        shares = torch.cat([(~is_region).float().unsqueeze(1), nouns * is_region.unsqueeze(1)], dim=1)  # (K, 1 + N)
        distance = functional.smooth_l1_loss(
            predicted.offsets[is_region], torch.cat(offsets)[is_region], beta=1 / 9, reduction="sum"
        )
        nouns_entropy = functional.cross_entropy(predicted.nouns, shares, reduction="sum")
        attributes_entropy = functional.binary_cross_entropy_with_logits(
            predicted.attributes[is_region], attributes[is_region].float(), reduction="sum"
        )
        sampled, of_regions = ranks.total(torch.stack([torch.ones_like(is_region).sum(), is_region.sum()])).clamp(min=1)
        return {
            "nouns": ranks.total(nouns_entropy) / sampled,
            "attributes": ranks.total(attributes_entropy) / of_regions,
            "boxes": ranks.total(distance) / sampled,
        }


def _rows(values: Tensor, places: Tensor) -> Tensor:
    """Rows of (k, n) at ``places``; zeros for a photo without boxes."""
    return values[places] if len(values) else values.new_zeros(len(places), values.shape[1])


def _shape(photos: Tensor) -> tuple[int, int]:
    return photos.shape[-2], photos.shape[-1]
