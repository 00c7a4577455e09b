"""Matchers by their names."""

from __future__ import annotations

from pathlib import Path

from han_retrieval.errors import HANError
from han_retrieval.matchers.aligning import AligningMatcher
from han_retrieval.matchers.config import MatcherOptions
from han_retrieval.matchers.han import HAN
from han_retrieval.matchers.matcher import Matcher
from han_retrieval.matchers.saving import CONFIG, DEFAULT_MODEL, matcher_name, model_folder
from han_retrieval.matchers.scan import SCAN
from han_retrieval.matchers.vse import VSE, VSEInfinity
from han_retrieval.text import Vocabulary

MATCHERS: dict[str, type[Matcher]] = {"han": HAN, "scan": SCAN, "vse++": VSE, "vse-infinity": VSEInfinity}


def make_matcher(
    options: MatcherOptions, *, vocabulary: Vocabulary, region_size: int, detector_fingerprint: str | None
) -> Matcher:
    """A new matcher of the kind that the options name, for regions of ``region_size`` numbers of a detector."""
    kind = MATCHERS[options.matcher]
    config = kind.config_kind(
        region_size=region_size,
        vocabulary_size=len(vocabulary),
        detector_fingerprint=detector_fingerprint,
        **options.model_dump(),
    )
    return kind(config, vocabulary=vocabulary)  # type: ignore[call-arg]


def load_matcher(folder: str | Path = DEFAULT_MODEL) -> Matcher:
    """The model of a folder that any matcher's ``save_pretrained`` wrote, in evaluation mode. No pickle is read.

    Args:
        folder: The model's; "default" is the HAN that ships.

    Raises:
        HANError: A file is missing or not what it should be, or names a matcher that is not there.
    """
    folder = model_folder(folder)
    name = matcher_name(folder)
    if name not in MATCHERS:
        raise HANError(f"{folder / CONFIG}: no matcher is called {name!r}; there are: {', '.join(MATCHERS)}")
    return MATCHERS[name].from_pretrained(folder)


def load_aligning_matcher(folder: str | Path = DEFAULT_MODEL) -> AligningMatcher:
    """As ``load_matcher``, for what needs the tokens of photos and words.

    Raises:
        HANError: As ``load_matcher``, or the model pools photos to one vector.
    """
    model = load_matcher(folder)
    if isinstance(model, AligningMatcher):
        return model
    raise HANError(
        f"{folder}: a {model.config.matcher} pools each photo to one vector; this needs a matcher of regions and words "
        "(han, scan)"
    )
