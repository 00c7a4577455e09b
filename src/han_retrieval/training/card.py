"""The model card: what a model was made of, how, and how good it is."""

from __future__ import annotations

import platform
from typing import Any

import torch

from han_retrieval.matchers import MatcherConfig
from han_retrieval.training.config import TrainingConfig
from han_retrieval.version import __version__

ALIGNING = "cross-attention, visual-grounding"

# By matcher: the heading, the tags, what it does and after whom.
ABOUT = {
    "han": (
        "A Heterogeneous Attention Network",
        ALIGNING,
        "Matches photos and sentences by their regions and words (HAN, Yu et al., SIGIR 2021)",
    ),
    "scan": (
        "A stacked cross attention network",
        ALIGNING,
        "Matches photos and sentences by their regions and words (SCAN, Lee et al., ECCV 2018)",
    ),
    "vse++": (
        "A visual-semantic embedding",
        "joint-embedding",
        "Matches photos and sentences by a vector each: mean regions, and a GRU's last state (VSE++, Faghri et al., "
        "BMVC 2018)",
    ),
    "vse-infinity": (
        "A visual-semantic embedding with learned pooling",
        "joint-embedding",
        "Matches photos and sentences by a vector each, pooled by learned operators (VSE-infinity, Chen et al., "
        "CVPR 2021)",
    ),
}


def model_card(
    config: TrainingConfig, shape: MatcherConfig, *, facts: dict[str, Any], best: dict[str, Any], command: str
) -> str:
    """A README.md for the model folder.

    Args:
        config: How it was trained.
        shape: What it is.
        facts: Its data: dataset, format, photos, captions.
        best: The epoch whose weights these are, with its dev figures and of how many photos they are.
        command: The command line, or "" where there was none.
    """
    heading, tags, what = ABOUT[shape.matcher]
    lines = [
        "---",
        "library_name: han-retrieval",
        f"tags: [image-text-retrieval, {tags}]",
        "---",
        "",
        f"# {heading}",
        "",
        f"{what}, trained by han-retrieval {__version__}.",
        "",
        "```python",
        "from han_retrieval.matchers import load_matcher",
        "model = load_matcher(folder)",
        "```",
        "",
        "## Data",
        "",
        f"- Training: {facts['photos']} photos and {facts['captions']} captions, split `{config.train_split}` of "
        f"`{facts['dataset']}` ({facts['format']})."
        + (f" {facts['without_regions']} more photos had no regions." if facts["without_regions"] else ""),
        *(
            [f"- Phrases: the boxes of those of {facts['grounded_captions']} captions taught words where to look."]
            if "grounded_captions" in facts
            else []
        ),
        *(
            f"- More views: of {count} training photos, features of `{fingerprint}`."
            for fingerprint, count in facts.get("views", ())
        ),
        f"- Regions: detector `{shape.detector_fingerprint}`, {shape.region_size} numbers each.",
        f"- Vocabulary: {shape.vocabulary_size} words: "
        + (
            "those of the text encoder's start"
            if config.text_start
            else f"those that stand there at least {config.minimum_count} times"
        )
        + (f", and of the {config.more_words} most frequent of {config.word_vectors}." if config.more_words else "."),
        "- Word vectors at the start: "
        + (
            f"none. Text encoder at the start: trained on captions alone, `{config.text_start}`."
            if config.text_start
            else f"{config.word_vectors or 'none'}."
        ),
        "",
        "The licence of the photos and captions binds the model as well.",
        "",
        "## Figures",
        "",
        *_figures(config, best),
        "",
        *made_by(command, seed=config.seed),
    ]
    return "\n".join(lines) + "\n"


def made_by(command: str, *, seed: int) -> list[str]:
    """The last lines of a card: with what command and seed, and where."""
    return [
        "## Made by",
        "",
        f"- Command: `{command}`" if command else "- Made through the Python interface.",
        f"- Seed {seed}; torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}.",
        "- Configuration: `training/config.json` beside this file, and `config.json`.",
    ]


def _figures(config: TrainingConfig, best: dict[str, Any]) -> list[str]:
    figures = best.get("figures")
    if not figures:
        return [f"Not watched while training; these are the weights after epoch {best['epoch']}."]
    rows = [
        f"| {way.replace('_', ' ')} | " + " | ".join(f"{figures[way][f'R@{k}']:.1f}" for k in (1, 5, 10)) + " |"
        for way in ("image_to_text", "text_to_image")
    ]
    return [
        f"Recall in percent among {best['photos']} photos of split `{config.dev_split}`, "
        f"after epoch {best['epoch']} of {config.epochs}"
        + (", the epoch being chosen by these figures" if config.keep == "best" else "")
        + (", of the model as it was trained, without the further words" if config.more_words else "")
        + f" (rSum {best['rsum']:.1f}):",
        "",
        "| | R@1 | R@5 | R@10 |",
        "|---|---|---|---|",
        *rows,
    ]
