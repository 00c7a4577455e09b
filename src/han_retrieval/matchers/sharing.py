"""Models sent to the Hugging Face Hub, with a card whose metadata are in the Hub's form: YAML atop README.md."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from han_retrieval.errors import DataError, ModelError, first_line
from han_retrieval.matchers import hub
from han_retrieval.matchers.saving import CARD, CONFIG, config_fields
from han_retrieval.parsing import read_text

LIBRARY = "han-retrieval"
PIPELINE = "image-feature-extraction"
"""The nearest of the Hub's tasks; it has none for image-text retrieval."""
TASK = "image-text-retrieval"
_DIRECTIONS = {"image_to_text": "image to text", "text_to_image": "text to image"}
_RECALLS = ("R@1", "R@5", "R@10")
# A path as an argument, as in hf:/FOLDER, timm:NAME@/FILE and open_clip:NAME//FILE, and open_clip:NAME/FILE, whose
# weights have other names on the Hub.
_PLACE = re.compile(
    r"[:@/](?:[/\\.~]|[A-Za-z]:[/\\])|^open_clip:[^/]+(?:$|/.*\.(?:pt|pth|bin|ckpt|safetensors)(?:@proj)?$)"
)


def push_folder(
    folder: Path,
    name: str,
    *,
    private: bool = False,
    message: str | None = None,
    keeps_backbone: bool = False,
    **metadata: Any,
) -> str:
    """Upload the folder of a model, with the files that `han calibrate` and `han distil` wrote; returns its address.

    Args:
        folder, name, private, message, keeps_backbone: See ``hub.upload``.
        metadata: Of the card: ``license``, ``language``, ``datasets``, ``results``; see ``hub_card``.

    Raises:
        ModelError: It is no model's folder, damaged, names a folder of this machine, or cannot be uploaded.
        ConfigError: ``name`` is no name on the Hub.
        DataError: The results are not those of an evaluation.
    """
    fields = config_fields(folder)
    matcher = str(fields["matcher"])
    for field in ("text_encoder", "detector_fingerprint"):
        if _PLACE.search(str(fields.get(field))):
            raise ModelError(
                f"{folder / CONFIG}: {field} is {fields[field]}, a place on this machine, where nobody else finds it; "
                "train with a name of the Hub"
            )
    hub.check_name(name)
    file = folder / CARD
    card = read_text(file, kind=ModelError) if file.is_file() else _plain_card(name, matcher)
    card = hub_card(card, name=name.rpartition("/")[2], tags=(matcher,), **metadata)
    return hub.upload(folder, name, card=card, private=private, message=message, keeps_backbone=keeps_backbone)


def hub_card(
    card: str,
    *,
    name: str,
    tags: Sequence[str] = (),
    license: str | None = None,
    language: str | None = None,
    datasets: Sequence[str] = (),
    results: Sequence[Mapping[str, Any]] = (),
) -> str:
    """A card with the Hub's metadata; what it had in its own stays, unless it is given here.

    Args:
        card: The README.md as it is.
        name: The model's, for its figures.
        tags: Added to those of the card.
        license: The Hub's name of it, such as "apache-2.0", or "other".
        language: Of the captions, as a code: "en".
        datasets: Those that the model was trained on, by their names on the Hub.
        results: What ``han evaluate --json`` wrote: recalls and rSum become the ``model-index``.

    Raises:
        ModelError: The card's own metadata are no YAML, or huggingface_hub is not installed.
        DataError: The results are not those of an evaluation.
    """
    try:
        from huggingface_hub import ModelCard, ModelCardData
    except ImportError:
        raise ModelError(f"{name}: to use the Hugging Face Hub: {hub.INSTALL}") from None

    if not card.lstrip().startswith("---"):
        card = f"---\nlibrary_name: {LIBRARY}\n---\n\n{card}"
    try:
        old = ModelCard(card)
        held = old.data.to_dict()
    except Exception as error:  # of YAML, and of the Hub's checks
        raise ModelError(
            f"the card's metadata, between the lines --- of README.md, cannot be read ({first_line(error)})"
        ) from None
    held["tags"] = list(dict.fromkeys([*(held.get("tags") or []), TASK, *tags]))
    held["library_name"] = LIBRARY
    held.setdefault("pipeline_tag", PIPELINE)
    given = {"license": license, "language": language, "datasets": list(datasets)}
    held |= {key: value for key, value in given.items() if value}
    if results:
        held.pop("model-index", None)
        held |= {"model_name": name, "eval_results": [each for found in results for each in _figures(found)]}
    old.data = ModelCardData(**held)
    return str(old)


def _plain_card(name: str, matcher: str) -> str:
    user = f'import han_retrieval as han\n\nretriever = han.load("{name}")'
    return f"# {name.rpartition('/')[2]}\n\nA {matcher} model of han-retrieval.\n\n```python\n{user}\n```\n"


def _figures(found: Mapping[str, Any]) -> list[Any]:
    """The figures of an evaluation, as the Hub has them."""
    from huggingface_hub import EvalResult

    dataset, split = str(found.get("dataset") or "unknown"), found.get("split")
    counted = ", equal captions relevant" if found.get("equal_captions") == "relevant" else ""
    try:
        values = {
            (f"{way}_{recall}".lower().replace("@", "_at_"), f"{told} {recall}"): float(found[way][recall])
            for way, told in _DIRECTIONS.items()
            for recall in _RECALLS
        }
        values["rsum", "rSum"] = float(found["rsum"])
    except (KeyError, TypeError, ValueError):
        raise DataError("the results lack recalls or rSum; give a file that `han evaluate --json` wrote") from None
    return [
        EvalResult(
            task_type=TASK,
            task_name="image-text retrieval",
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_split=None if split is None else str(split),
            metric_type=kind,
            metric_name=name + counted,
            metric_value=round(value, 2),
        )
        for (kind, name), value in values.items()
    ]
