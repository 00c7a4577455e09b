"""What the rows of an index are made with: a model, a detector, and how tokens are stored."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import torch
from PIL import Image

from han_retrieval.errors import ConfigError, DataError, ModelError
from han_retrieval.matchers import DEFAULT_MODEL, AligningMatcher, hub, load_aligning_matcher, model_folder
from han_retrieval.matchers.pooled import refuse_unrelated
from han_retrieval.matchers.saving import folder_hash
from han_retrieval.regions import Detector, Regions, detector_for
from han_retrieval.regions.detector import size_needed
from han_retrieval.search.encode import encode_photos
from han_retrieval.search.pooling import POOLINGS, TowerPooling, make_pooling
from han_retrieval.search.rows import DEFAULT_STORAGE, STORAGES, Encoded
from han_retrieval.search.table import MadeBy


class LazyDetector:
    """A detector that is loaded when it first sees a photo; ``load`` gives it."""

    def __init__(self, fingerprint: str, feature_size: int, load: Callable[[], Detector]) -> None:
        self.fingerprint, self.feature_size = fingerprint, feature_size
        self._load = load
        self._loaded: Detector | None = None
        self._lock = Lock()

    def load(self) -> Detector:
        """The detector itself.

        Raises:
            ModelError: It is not here.
        """
        with self._lock:  # threads that read ask how large photos must be
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    def size_needed(self, width: int, height: int) -> tuple[int, int]:
        """See ``Detector``; the photo's own size where the detector does not say."""
        needed = size_needed(self.load())
        return needed(width, height) if needed else (width, height)

    def detect(self, photos: Sequence[Image.Image]) -> Sequence[Regions]:
        """The regions of upright photos; see ``Detector.detect``."""
        return self.load().detect(photos)


@dataclass(frozen=True, eq=False)
class Maker:
    """Turns photos into rows of an index.

    Attributes:
        name: The model, as the index remembers it: its folder, or ``DEFAULT_MODEL``.
        model: The model.
        detector: Finds the regions of photos.
        made_by: What the index's table remembers of all this.
    """

    name: str
    model: AligningMatcher
    detector: Detector
    made_by: MadeBy

    @classmethod
    def load(
        cls,
        name: str | Path,
        *,
        model: AligningMatcher | None = None,
        detector: Detector | None = None,
        storage: str = DEFAULT_STORAGE,
        candidates: str = POOLINGS[0],
        device: torch.device | str = "cpu",
    ) -> Maker:
        """Load a model, and check that a detector fits it; the arguments are those of ``index_photos``.

        Raises:
            ModelError: The model is missing or does not say which detector it needs, or the detector is another one.
            ConfigError: There is no such storage or way to choose candidates, or the text encoder has no vector of a
                sentence for ``candidates``, or one that shares no space with the photos'.
        """
        folder = model_folder(name).absolute()
        if not folder.is_dir():
            raise ModelError(f"{folder}: no such model; name its folder, or that to which it was moved: --model MODEL")
        if storage not in STORAGES:
            raise ConfigError(f"tokens are kept as one of {', '.join(STORAGES)}, not as {storage!r}")
        if candidates not in POOLINGS:
            raise ConfigError(f"candidates are chosen by one of {', '.join(POOLINGS)}, not by {candidates!r}")
        model = model or load_aligning_matcher(folder).to(device)
        fingerprint, size = model.config.detector_fingerprint, model.config.region_size
        if detector is None:
            if fingerprint is None:
                raise ModelError(f"{folder}: does not say which detector it was trained with; name it with --detector")
            detector = LazyDetector(fingerprint, size, lambda: detector_for(fingerprint, model=folder))
        elif fingerprint not in (None, detector.fingerprint) or detector.feature_size != size:
            raise ModelError(
                f"{folder}: reads {size} numbers a region of {fingerprint or 'a detector'!r}, and "
                f"{detector.fingerprint!r} gives {detector.feature_size}: for features of its own, "
                f"han extract PHOTOS --model {shlex.quote(str(folder))} --out FEATURES"
            )
        if candidates == TowerPooling.name:
            refuse_unrelated(detector.fingerprint, model.config.text_encoder, mend="choose --candidates mean")
        made_by = MadeBy(
            model=folder_hash(folder),
            detector=detector.fingerprint,
            joint_size=model.config.joint_size,
            storage=storage,
            pooling=candidates,
            pooled_size=_sentence_size(model) if candidates == TowerPooling.name else model.config.joint_size,
        )
        # A model of the Hub by its commit: it is downloaded again where the cache is gone, and is the same one.
        named = DEFAULT_MODEL if str(name) == DEFAULT_MODEL else hub.reference(folder) or str(folder)
        return cls(named, model, detector, made_by)

    def encode(self, photos: Sequence[Image.Image]) -> list[Encoded | str]:
        """For each upright photo what the index stores, or the reason why it cannot be indexed."""
        pooling = make_pooling(self.made_by.pooling)
        found = encode_photos(self.model, self.detector, photos, storage=self.made_by.storage, pooling=pooling)
        size = next((len(each.pooled) for each in found if isinstance(each, Encoded)), self.made_by.pooled_size)
        if size != self.made_by.pooled_size:
            raise DataError(
                f"the detector {self.detector.fingerprint!r} gives a photo a vector of {size} numbers, and the text "
                f"encoder {self.model.config.text_encoder} gives a sentence one of {self.made_by.pooled_size}: they "
                "are of two models; leave --candidates pooled out"
            )
        return found

    def try_out(self) -> None:
        """Load the detector, and see that it gives the vectors that candidates are chosen by.

        Raises:
            ModelError: It is not here.
            DataError: It gives no such vectors, or they are of another model than the text encoder.
        """
        if isinstance(self.detector, LazyDetector):
            self.detector.load()
        if self.made_by.pooling == TowerPooling.name:
            self.encode([Image.effect_noise((96, 96), 80).convert("RGB")])


@torch.inference_mode()
def _sentence_size(model: AligningMatcher) -> int:
    """How many numbers the text encoder's own vector of a sentence has."""
    words, mask = model.words(["a photo"])
    return TowerPooling().sentences(model, words, mask, torch.empty(0)).shape[1]
