"""Matchers by name: make one, load one, and the type of a field that configures one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from han_retrieval.errors import ConfigError, ModelError
from han_retrieval.matchers.aligning import AligningMatcher
from han_retrieval.matchers.base import Matcher, MatcherConfig, matcher_class
from han_retrieval.matchers.saving import CONFIG, DEFAULT_MODEL, matcher_name, model_folder
from han_retrieval.text import Vocabulary


def _validated(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    try:
        kind = MatcherConfig.resolve(value)
    except ConfigError as error:  # what pydantic reports with the field's name, beside what else is wrong
        wrong = PydanticCustomError("matcher", "{reason}", {"reason": str(error)})
        details = InitErrorDetails(type=wrong, loc=("matcher",), input=value.get("matcher"))
        raise ValidationError.from_exception_data("configuration", [details]) from None
    return kind.model_validate(value)


AnyMatcherConfig = Annotated[SerializeAsAny[MatcherConfig], BeforeValidator(_validated)]
"""The type of a pydantic field that holds the configuration of any registered matcher."""


def make_matcher(
    config: MatcherConfig, *, vocabulary: Vocabulary, region_size: int, detector_fingerprint: str | None
) -> Matcher:
    """A new matcher of the kind that a configuration names, for regions of ``region_size`` numbers of a detector."""
    data = {
        "region_size": region_size,
        "vocabulary_size": len(vocabulary),
        "detector_fingerprint": detector_fingerprint,
    }
    model = matcher_class(config.matcher)(config.model_copy(update=data), vocabulary=vocabulary)
    model.config = model.named_config()
    return model


def load_matcher(folder: str | Path = DEFAULT_MODEL) -> Matcher:
    """The model of a folder that any matcher's ``save_pretrained`` wrote, in evaluation mode. No pickle is read.

    Args:
        folder: The model's; "default" is the HAN that ships.

    Raises:
        ModelError: A file is missing or not what it should be, or names a matcher that is not installed.
    """
    folder = model_folder(folder)
    name = matcher_name(folder)
    try:
        kind = matcher_class(name)
    except ConfigError as error:
        raise ModelError(f"{folder / CONFIG}: {error}") from None
    return kind.from_pretrained(folder)


def load_aligning_matcher(folder: str | Path = DEFAULT_MODEL) -> AligningMatcher:
    """As ``load_matcher``, for what needs the tokens of photos and words.

    Raises:
        ModelError: As ``load_matcher``, or the model aligns no words with regions.
    """
    model = load_matcher(folder)
    if isinstance(model, AligningMatcher):
        return model
    raise ModelError(
        f"{folder}: a {model.config.matcher} model aligns no words with regions; this needs a matcher that does (han, "
        "scan, maxsim)"
    )
