"""What training a detector draws for each photo by its place in the batch, and losses over the photos of all ranks.

torchvision draws the boxes of a batch from one generator, so that they would depend on which photos are computed
together, and its losses are means over the boxes of one process.

Legend: K boxes of all photos.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.rpn import RegionProposalNetwork

from han_retrieval.ranks import ALONE, Ranks


class Draws(NamedTuple):
    """What a training step draws at random.

    Attributes:
        seeds: A seed a photo, for the boxes that are sampled.
        dropout: Values (K, ...), a share and (K,) numbers of boxes to the values without that share of them.
        first: The place of the first photo in the batch.
    """

    seeds: Sequence[int]
    dropout: Callable[[Tensor, float, Tensor], Tensor]
    first: int = 0

    def dropped(self, values: Tensor, share: float, counts: Sequence[int]) -> Tensor:
        """Values (K, ...) of boxes, so many a photo, without a share of them."""
        if not share:
            return values
        numbers = [(place << 16) + torch.arange(count) for place, count in enumerate(counts, start=self.first)]
        return self.dropout(values, share, torch.cat(numbers))


class Sampler(BalancedPositiveNegativeSampler):  # type: ignore[misc]
    """Samples the boxes of each photo with a seed of its own.

    Attributes:
        seeds: Those of the photos at hand.
    """

    seeds: Sequence[int] = ()

    def __call__(self, matched_idxs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Masks of the positive and of the negative boxes that are taken, a photo each."""
        positive, negative = [], []
        for seed, of_photo in zip(self.seeds, matched_idxs, strict=True):
            torch.manual_seed(seed)
            some, others = super().__call__([of_photo])
            positive += some
            negative += others
        return positive, negative


class Proposals(RegionProposalNetwork):  # type: ignore[misc]
    """torchvision's, with its losses over the boxes of all ranks.

    Attributes:
        ranks: Those that share the batch at hand.
    """

    ranks: Ranks = ALONE

    def __init__(self, *given: Any, batch_size_per_image: int, positive_fraction: float, **options: Any) -> None:
        sampling = {"batch_size_per_image": batch_size_per_image, "positive_fraction": positive_fraction}
        super().__init__(*given, **sampling, **options)
        self.fg_bg_sampler = Sampler(batch_size_per_image, positive_fraction)

    def compute_loss(
        self, objectness: Tensor, pred_bbox_deltas: Tensor, labels: list[Tensor], regression_targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The losses of objectness and of offsets, from the anchors of all photos, (anchors, 1) and (anchors, 4)."""
        positive, negative = (torch.where(torch.cat(masks))[0] for masks in self.fg_bg_sampler(labels))
        sampled = torch.cat([positive, negative])
        count = self.ranks.total(torch.tensor(len(sampled), device=sampled.device)).clamp(min=1)
        distance = functional.smooth_l1_loss(
            pred_bbox_deltas[positive], torch.cat(regression_targets)[positive], beta=1 / 9, reduction="sum"
        )
        entropy = functional.binary_cross_entropy_with_logits(
            objectness.flatten()[sampled], torch.cat(labels)[sampled], reduction="sum"
        )
        return self.ranks.total(entropy) / count, self.ranks.total(distance) / count
