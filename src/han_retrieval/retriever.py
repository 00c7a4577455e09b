"""A model with its detector and its words: photos and sentences to scores and evidence.

Legend: I photos, T sentences, m regions, n words, D numbers a region feature, d numbers a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from han_retrieval.errors import ConfigError, DataError, ModelError
from han_retrieval.files import from_home
from han_retrieval.matchers import DEFAULT_MODEL, Matcher, hub, load_matcher, model_folder
from han_retrieval.objects import ObjectPath
from han_retrieval.text import pad_rows, tokenize

if TYPE_CHECKING:
    from PIL import Image

    from han_retrieval.evidence import Evidence
    from han_retrieval.regions import Detector, Regions

    Photo = str | Path | Image.Image | np.ndarray | Regions

_PHOTOS_AT_ONCE = 8
_TEXTS_AT_ONCE = 64
_WORDS_AT_ONCE = 4096  # with padding


@dataclass(frozen=True, slots=True, eq=False)
class EncodedPhoto:
    """A photo as a model sees it.

    Attributes:
        tokens: (m, d) float32 on the CPU; (1, d) of a matcher that pools.
        regions: Its features, and its boxes where they are known.
        source: The path or the image that was given; None for features.
    """

    tokens: Tensor
    regions: Regions
    source: Path | Image.Image | None


@dataclass(frozen=True, slots=True, eq=False)
class EncodedText:
    """A sentence as a model sees it.

    Attributes:
        sentence: As it was given.
        tokens: (n, d) float32 on the CPU; (1, d) of a matcher that pools.
    """

    sentence: str
    tokens: Tensor


class Retriever:
    """A matcher with its detector and its vocabulary; ``load`` makes one.

    Args:
        model: The matcher, with a vocabulary.
        name: Where it came from: a folder, "default", or a name on the Hub.
        folder: Where its files are, or "default"; None for a model that is in memory alone.
        detector: What finds regions; the one that the model was trained with, loaded when it is first needed.

    Attributes:
        model, name, folder: As given.

    Raises:
        ModelError: The model was trained with another detector, or reads features of another size.

    Example:
        >>> retriever = load()
        >>> photos = retriever.encode_images(["a.jpg", "b.jpg"])
        >>> texts = retriever.encode_texts(["two dogs in the snow"])
        >>> retriever.similarity(photos, texts).shape
        torch.Size([2, 1])
    """

    def __init__(
        self,
        model: Matcher,
        *,
        name: str = "",
        folder: str | Path | None = None,
        detector: Detector | None = None,
    ) -> None:
        self.model = model
        self.name = name
        self.folder = folder
        self._local_files_only = False
        if detector is not None:
            trained_with = model.config.detector_fingerprint
            if trained_with not in (None, detector.fingerprint):
                raise ModelError(
                    f"{name or 'the model'}: was trained with the detector {trained_with!r}, not with "
                    f"{detector.fingerprint!r}; leave it out, or give that one"
                )
            if detector.feature_size != model.config.region_size:
                raise ModelError(
                    f"{name or 'the model'}: reads {model.config.region_size} numbers a region, and "
                    f"{detector.fingerprint!r} gives {detector.feature_size}"
                )
            self.detector = detector

    def __repr__(self) -> str:
        config = self.model.config
        return f"Retriever({self.name!r}, {config.matcher}, features of {config.detector_fingerprint!r})"

    @cached_property
    def detector(self) -> Detector:
        """The detector that the model was trained with.

        Raises:
            ModelError: The model does not say which, or it is not here.
        """
        from han_retrieval.regions import detector_for

        fingerprint = self.model.config.detector_fingerprint
        if fingerprint is None:
            raise ModelError(
                f"{self.name}: does not say which detector it was trained with; name one: load(..., detector=NAME)"
            )
        with _asking_the_hub(not self._local_files_only):
            return detector_for(fingerprint, model=None if self.folder is None else model_folder(self.folder))

    def encode_images(self, photos: Sequence[Photo]) -> list[EncodedPhoto]:
        """Photos to tokens: detect regions, then encode them.

        Args:
            photos: Paths, PIL images, ``Regions``, or (m, D) arrays of features of one's own, in any mixture.

        Raises:
            DataError: A photo cannot be read, has no region, or its features are not of the size or kind that the model
                takes.
            ModelError: The detector cannot be loaded.

        Example:
            >>> retriever.encode_images(["a.jpg", PIL.Image.open("b.png"), np.zeros((36, 2048), np.float32)])
        """
        if isinstance(photos, str | Path | ObjectPath) or not isinstance(photos, Sequence):
            raise TypeError(
                f"encode_images takes a list of photos; put this one into a list: [{type(photos).__name__}]"
            )
        encoded: list[EncodedPhoto] = []
        while some := photos[len(encoded) : len(encoded) + _PHOTOS_AT_ONCE]:
            encoded += self._encode_images(some[: _count_at_once(some)], first=len(encoded))
        return encoded

    def encode_texts(self, sentences: Sequence[str]) -> list[EncodedText]:
        """Sentences to tokens.

        Raises:
            QueryError: A sentence has no words, or the model's tokenizer knows none of them.
            ModelError: The model has no vocabulary.
            TypeError: What is given is no list of text.
        """
        if isinstance(sentences, str):
            raise TypeError("encode_texts takes a list of sentences; put this one into a list: [sentence]")
        if not isinstance(sentences, Sequence):
            raise TypeError(f"encode_texts takes a list of sentences, not a {type(sentences).__name__}")
        for place, sentence in enumerate(sentences):
            if not isinstance(sentence, str):
                raise TypeError(f"sentence {place} is a {type(sentence).__name__}; give text")
            self.model.known_words(sentence)
        if not sentences:
            return []
        encoded: dict[int, EncodedText] = {}
        lengths = [len(tokenize(sentence)) for sentence in sentences]
        order = sorted(range(len(sentences)), key=lengths.__getitem__)
        while some := order[len(encoded) : len(encoded) + _TEXTS_AT_ONCE]:
            some = some[: _count_texts_at_once([lengths[place] for place in some])]
            encoded |= zip(some, self._encode_texts([sentences[place] for place in some]), strict=True)
        return [encoded[place] for place in range(len(sentences))]

    def _encode_texts(self, sentences: Sequence[str]) -> list[EncodedText]:
        with torch.inference_mode():
            words, mask = self.model.words(sentences)
            tokens = self.model.encode_texts(words, mask).float().cpu()
        return [
            EncodedText(sentence, row if len(row) != len(there) else row[there])
            for sentence, row, there in zip(sentences, tokens, mask.cpu(), strict=True)
        ]

    def similarity(self, photos: Sequence[EncodedPhoto], texts: Sequence[EncodedText]) -> Tensor:
        """Scores (I, T) float32 of every photo with every sentence, on the CPU; see ``Matcher.score``."""
        if not photos or not texts:
            return torch.zeros(len(photos), len(texts))
        device = self.model.device
        with torch.inference_mode():
            images, image_mask = pad_rows([photo.tokens for photo in photos])
            sentences, text_mask = pad_rows([text.tokens for text in texts])
            scores = self.model.score(
                images.to(device), image_mask.to(device), sentences.to(device), text_mask.to(device)
            )
        return scores.float().cpu().clone()

    def explain(self, photo: EncodedPhoto, text: EncodedText | str) -> Evidence:
        """Which region each word of a sentence is aligned with, and how well it matches.

        Raises:
            ModelError: The matcher aligns no words with regions, so that it has no such evidence.
            StoreError: The photo was given by features without boxes.

        Example:
            >>> evidence = retriever.explain(photos[0], texts[0])
            >>> evidence.draw("evidence.png")
        """
        from han_retrieval.evidence import evidence_from_regions

        sentence = text if isinstance(text, str) else text.sentence
        return evidence_from_regions(self.model, photo.regions, sentence, photo=photo.source)

    def push_to_hub(self, name: str, *, private: bool = False, message: str | None = None, **metadata: Any) -> str:
        """Upload the model's folder, with its calibration and its candidates' map; see ``Matcher.push_to_hub``.

        Example:
            >>> retriever.push_to_hub("user/name", private=True, license="cc-by-4.0", language="en")
        """
        from han_retrieval.matchers.sharing import push_folder

        if self.folder is None:
            return self.model.push_to_hub(name, private=private, message=message, **metadata)
        return push_folder(model_folder(self.folder), name, private=private, message=message, **metadata)

    def _encode_images(self, photos: Sequence[Photo], *, first: int) -> list[EncodedPhoto]:
        from PIL import Image

        from han_retrieval.data import open_photo, upright_rgb
        from han_retrieval.regions import Regions
        from han_retrieval.regions.rows import batch_of

        found: dict[int, Regions] = {}
        sources: dict[int, Path | Image.Image] = {}
        images: dict[int, Image.Image] = {}
        for place, photo in enumerate(photos):
            if isinstance(photo, Regions):
                found[place] = photo
            elif isinstance(photo, np.ndarray):
                if photo.dtype.kind not in "fiub":
                    raise DataError(f"photo {first + place}: its features are {photo.dtype}, not numbers")
                with np.errstate(over="ignore"):  # refused below
                    found[place] = Regions(photo.astype(np.float16), None, 0, 0)
            elif isinstance(photo, Image.Image):
                sources[place] = images[place] = upright_rgb(photo)
            elif isinstance(photo, str | Path | ObjectPath):
                sources[place] = path = from_home(photo)
                images[place] = open_photo(path)
            else:
                raise TypeError(
                    f"photo {first + place} is a {type(photo).__name__}; give a path, a PIL image, Regions or an array"
                )
        if images:
            found |= dict(zip(images, self.detector.detect(list(images.values())), strict=True))
        regions = [found[place] for place in range(len(photos))]
        size = self.model.config.region_size
        for place, each in enumerate(regions):
            name = sources[place] if isinstance(sources.get(place), Path) else f"photo {first + place}"
            if each.features.ndim != 2 or each.features.shape[1] != size or not len(each.features):
                shape = each.features.shape
                raise DataError(f"{name}: its features are {shape}; the model takes (regions, {size}), one or more")
            if not np.isfinite(each.features).all():
                raise DataError(f"{name}: its features are not finite as float16")
        with torch.inference_mode():
            inputs, mask = self.model.image_inputs(batch_of(regions))
            tokens = self.model.encode_images(inputs, mask).float().cpu()
        return [
            EncodedPhoto(row if len(row) != len(there) else row[there], each, sources.get(place))
            for place, (row, there, each) in enumerate(zip(tokens, mask, regions, strict=True))
        ]


def load(
    name: str | Path = DEFAULT_MODEL,
    *,
    detector: str | Detector | None = None,
    device: str | torch.device = "cpu",
    revision: str | None = None,
    local_files_only: bool = False,
) -> Retriever:
    """Load a model with its detector and its words, ready for photos and sentences.

    Args:
        name: "default", the HAN that ships; the folder of a model; or "user/name" on the Hugging Face Hub, also
            "user/name@REVISION".
        detector: What finds regions, by name or as an object, where the model does not say it or its weights are one's
            own, as "bottom-up:FOLDER".
        device: Where the matcher runs.
        revision: Of a model on the Hub: a branch, tag or commit.
        local_files_only: Of models on the Hub, also a text encoder or a detector that this one names: take what was
            downloaded before; do not ask the network.

    Raises:
        ModelError: The model or the detector is missing, broken, or cannot be downloaded.
        ConfigError: ``revision`` is given and the model is none of the Hub, or has another one in its name.

    Example:
        >>> import han_retrieval as han
        >>> retriever = han.load()
    """
    folder = name
    if hub.is_hub_name(name):
        folder = hub.download(str(name), revision=revision, local_files_only=local_files_only)
    elif revision is not None:
        raise ConfigError(f"{name}: revision {revision!r} is of a model on the Hub, which this is not; leave it out")
    with _asking_the_hub(not local_files_only):
        model = load_matcher(folder).to(device)
        if isinstance(detector, str):
            from han_retrieval.matchers.detectors import find_detector

            detector = find_detector(model.config, folder, name=detector, regions=36, called=str(name))
    retriever = Retriever(model, name=str(name), folder=folder, detector=detector)
    retriever._local_files_only = local_files_only
    return retriever


def _asking_the_hub(allowed: bool) -> AbstractContextManager[None]:
    """A context in which the Hub is asked for what is loaded, or is not."""
    if allowed:
        return nullcontext()
    from han_retrieval.regions.backbones.loading import offline

    return offline()


def _count_at_once(photos: Sequence[Photo]) -> int:
    """How many of the first photos are encoded together: few where their files are large."""
    from han_retrieval.data import PIXELS_AT_ONCE, count_pixels

    pixels = 0
    for count, photo in enumerate(photos):
        size = count_pixels(from_home(photo)) if isinstance(photo, str | Path | ObjectPath) else 0
        if count and pixels + size > PIXELS_AT_ONCE:
            return count
        pixels += size
    return len(photos)


def _count_texts_at_once(lengths: Sequence[int]) -> int:
    """How many of the first texts are encoded together, by their numbers of words, shortest first."""
    padded = ((count + 1) * longest for count, longest in enumerate(lengths))
    return max(1, sum(words <= _WORDS_AT_ONCE for words in padded))
