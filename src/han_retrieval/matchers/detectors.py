"""The detector whose features a model reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from han_retrieval.errors import HANError, ModelError
from han_retrieval.matchers.saving import model_folder
from han_retrieval.regions.detector import Detector
from han_retrieval.regions.loading import detector_for, load_detector

if TYPE_CHECKING:
    from han_retrieval.matchers.base import MatcherConfig


def find_detector(
    config: MatcherConfig, model: str | Path, *, name: str | None, regions: int, called: str | None = None
) -> Detector:
    """The detector whose features a model was trained on; ``name`` and ``regions`` where the model does not say them.

    Messages call the model ``called`` where that is given.

    Raises:
        ModelError: The model was trained with another detector, or does not say with which.
    """
    if config.detector_fingerprint is not None:
        try:
            return detector_for(config.detector_fingerprint, name=name, model=model_folder(model))
        except HANError as error:
            raise ModelError(f"{called or model}: {error}") from None
    if name is None:
        raise ModelError(f"{called or model}: does not say which detector it was trained with; name it with --detector")
    detector = load_detector(name, regions=regions)
    if detector.feature_size != config.region_size:
        raise ModelError(
            f"{called or model}: reads {config.region_size} numbers a region, and {name!r} gives "
            f"{detector.feature_size}"
        )
    return detector
