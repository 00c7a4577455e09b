"""The card of a trained model: a README.md that says what it is, what data made it, and how good it is."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import torch

from han_retrieval.matchers import Matcher, MatcherConfig
from han_retrieval.training.config import LoopConfig, TrainingConfig
from han_retrieval.version import __version__


def card(
    config: LoopConfig,
    *,
    title: str,
    tags: Sequence[str],
    summary: str,
    code: str,
    data: Sequence[str],
    results: Sequence[str],
    command: str,
    limits: str = "",
) -> str:
    """A README.md.

    Args:
        config, command: How it was trained, and the command line, "" where there was none.
        title, tags: The heading, and tags for the Hugging Face Hub.
        summary: What it does and after which paper, as the start of a sentence.
        code: A code block that uses it, with its fences.
        data, results: Lines on the data, and on how good it is.
        limits: What it is bad at, where that is known.
    """
    lines = [
        "---",
        "library_name: han-retrieval",
        f"tags: [{', '.join(tags)}]",
        "---",
        "",
        f"# {title}",
        "",
        f"{summary}, trained by han-retrieval {__version__}.",
        "",
        code,
        "",
        "## Data",
        "",
        *(f"- {line}" for line in data),
        "",
        "The licence of the photos and captions also binds what was trained on them.",
        "",
        "## Results",
        "",
        *results,
        "",
        *(["## Limits", "", limits, ""] if limits else []),
        "## Made by",
        "",
        f"- Command: `{command}`" if command else "- Made through the Python interface.",
        f"- Seed {config.seed}; torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}.",
        "- Configuration: `config.json`; of the training: `training/config.json` in the folder that it wrote.",
    ]
    return "\n".join(lines) + "\n"


def model_card(
    matcher: type[Matcher],
    config: TrainingConfig,
    shape: MatcherConfig,
    *,
    facts: dict[str, Any],
    best: dict[str, Any],
    command: str,
) -> str:
    """The card of a matcher of this class and shape.

    Args:
        matcher, shape, config: Its class, its sizes and options, and how it was trained.
        facts: Its data: dataset, format, photos, captions.
        best: The epoch whose weights these are, with its dev metrics and the number of dev photos.
        command: As in ``card``.
    """
    return card(
        config,
        title=matcher.title,
        tags=("image-text-retrieval", *matcher.tags),
        summary=matcher.summary,
        code="```python\nfrom han_retrieval.matchers import load_matcher\nmodel = load_matcher(folder)\n```",
        data=_data(config, shape, facts),
        results=_results(config, best),
        command=command,
    )


def not_evaluated(best: dict[str, Any]) -> list[str]:
    """The results of a run without a dev split."""
    if not best["epoch"]:
        return ["Nothing was trained, and nothing evaluated."]
    return [f"Not evaluated during training; these are the weights after epoch {best['epoch']}."]


def _data(config: TrainingConfig, shape: MatcherConfig, facts: dict[str, Any]) -> list[str]:
    training = (
        f"Training: {facts['photos']:,} photos and {facts['captions']:,} captions, split `{config.train_split}` of "
        f"`{facts['dataset']}` ({facts['format']})."
    )
    if facts["without_regions"]:
        training += f" {facts['without_regions']:,} more photos had no regions and were left out."
    lines = [training]
    if "grounded_captions" in facts:
        lines.append(
            f"Annotations: the boxes of phrases in {facts['grounded_captions']:,} captions, for the alignment loss."
        )
    for fingerprint, count in facts.get("augmentations", ()):
        lines.append(f"Augmentation: features of `{fingerprint}` for {count:,} of the training photos.")
    lines.append(f"Regions: detector `{shape.detector_fingerprint}`, {shape.region_size:,} numbers each.")
    source = (
        "those of the pre-trained text encoder"
        if config.pretrained_text
        else f"those that occur at least {config.min_count} times in the training captions"
    )
    if config.vocabulary_expansion:
        source += f", and the {config.vocabulary_expansion:,} most frequent of {config.word_vectors}"
    if shape.text_encoder_fingerprint is not None:
        how = "its tokens are frozen" if shape.text_backbone == "frozen" else "it was trained along"
        lines.append(
            f"Text encoder: the language model `{shape.text_encoder}` (`{shape.text_encoder_fingerprint}`); {how}. "
            "Loading this model needs it."
        )
    lines.append(f"Vocabulary: {shape.vocabulary_size:,} words: {source}.")
    if shape.text_encoder_fingerprint is not None and not config.pretrained_text:
        return lines
    if config.pretrained_text:
        lines.append(f"Text encoder: pre-trained on captions alone, `{config.pretrained_text}`.")
    else:
        lines.append(f"Pre-trained word vectors: {config.word_vectors or 'none'}.")
    return lines


def _results(config: TrainingConfig, best: dict[str, Any]) -> list[str]:
    metrics = best.get("figures")
    if not metrics:
        return not_evaluated(best)
    rows = [
        f"| {way.replace('_', ' ')} | " + " | ".join(f"{metrics[way][f'R@{k}']:.1f}" for k in (1, 5, 10)) + " |"
        for way in ("image_to_text", "text_to_image")
    ]
    trained = f"after epoch {best['epoch']} of {config.epochs}" if best["epoch"] else "without training"
    return [
        f"Recall in percent among {best['photos']:,} photos of split `{config.dev_split}`, {trained}"
        + (", the epoch being chosen by these numbers" if config.keep == "best" and best["epoch"] else "")
        + (", of the model before the vocabulary expansion" if config.vocabulary_expansion else "")
        + f" (rSum {best['rsum']:.1f}):",
        "",
        "| | R@1 | R@5 | R@10 |",
        "|---|---|---|---|",
        *rows,
    ]
