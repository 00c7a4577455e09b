"""Object detectors of transformers as sources of boxes: ``--detector hf:NAME+FEATURES``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from han_retrieval.errors import ConfigError
from han_retrieval.processor import device_or_best
from han_retrieval.regions.backbones.loading import library, local, one_line, quiet
from han_retrieval.regions.backbones.tower import weights_hash
from han_retrieval.regions.choose import choose, photo_first
from han_retrieval.regions.detector import Fingerprint
from han_retrieval.regions.regions import Regions
from han_retrieval.regions.strips import widened

_LEAST_SCORE = 0.02
_LIKE = "hf:PekingU/rtdetr_v2_r50vd+timm:NAME"
# What an image processor does to a photo; it has more settings, of which some come with the library's versions.
_SETTINGS = (
    "do_resize", "size", "resample", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std",
    "do_pad", "pad_size",
)  # fmt: skip


class HFObjectDetector:
    """Boxes, names and scores of DETR, RT-DETR, D-FINE, YOLOS and what else has the library's interface for detection.

    Each photo passes alone, after the model's own image processor, so that none is padded.

    Attributes:
        fingerprint: Names the model, the number of regions, and by hashes the weights and how photos are prepared.
        feature_size: 0; a backbone describes the boxes.
    """

    feature_size = 0

    def __init__(
        self, model: Any, processor: Any, *, name: str, regions: int, device: str | torch.device | None = None
    ) -> None:
        """Wrap a model in evaluation mode with its image processor; ``name`` is what it is asked for by."""
        self.device = device_or_best(device)
        self._model, self._processor, self._regions = model.to(self.device), processor, regions
        self.fingerprint = f"hf:{_quoted(name)}-1-{regions}-{weights_hash([model])}-{_preparation(processor)}"

    @torch.inference_mode()
    def detect(self, photos: Sequence[Image.Image]) -> list[Regions]:
        """See ``Detector.detect``; without features."""
        return [self._detect(photo) for photo in photos]

    def _detect(self, photo: Image.Image) -> Regions:
        inputs = self._processor(images=widened(photo), return_tensors="pt").to(self.device)
        found = self._processor.post_process_object_detection(
            self._model(**inputs), threshold=_LEAST_SCORE, target_sizes=[(photo.height, photo.width)]
        )[0]
        boxes, scores, classes = (found[part].cpu() for part in ("boxes", "scores", "labels"))
        places = choose(boxes, scores, classes, regions=self._regions, width=photo.width, height=photo.height)
        names = [str(self._model.config.id2label.get(number, number)) for number in classes[places].tolist()]
        boxes, scores, labels = photo_first(
            boxes[places], scores[places], names, width=photo.width, height=photo.height
        )
        return Regions(
            features=torch.zeros(len(boxes), 0, dtype=torch.float16).numpy(),
            boxes=boxes.numpy(),
            width=photo.width,
            height=photo.height,
            labels=labels,
            scores=scores.numpy(),
        )


class _Factory:
    """Loads ``NAME[@REVISION]`` or a folder; see ``DetectorFactory``."""

    def __call__(self, argument: str, /, *, regions: int) -> HFObjectDetector:
        if not argument:
            raise ConfigError(f"the Hub has many detectors; name one, or a folder, as in --detector {_LIKE}")
        transformers = library("transformers", wanted_by=f"hf:{argument}", extra="hf")
        folder = local(argument)
        name, _, revision = (str(folder), "", "") if folder else argument.partition("@")
        options = {"revision": revision} if revision else {}
        with one_line(f"hf:{argument}", offline="name its folder: hf:FOLDER+FEATURES"), quiet(transformers):
            config = transformers.AutoConfig.from_pretrained(name, **options)
            if type(config) not in transformers.MODEL_FOR_OBJECT_DETECTION_MAPPING:
                raise ConfigError(
                    f"a {config.model_type} is no object detector; for its own patches: patches+hf:{argument}"
                )
            model = transformers.AutoModelForObjectDetection.from_pretrained(name, dtype=torch.float32, **options)
            processor = transformers.AutoImageProcessor.from_pretrained(name, **options)
        whole = name + (f"@{revision}" if revision else "")
        return HFObjectDetector(model.eval(), processor, name=whole, regions=regions)

    def argument_for(self, fingerprint: str) -> str:
        """The model's name."""
        parts = Fingerprint.parse(fingerprint)
        return "" if parts is None else parts.model.replace("%2D", "-").replace("%25", "%")


def _preparation(processor: Any) -> str:
    """The first eight digits of the SHA-256 of how photos are prepared."""
    settings = {name: getattr(processor, name, None) for name in _SETTINGS}
    return hashlib.sha256(json.dumps(settings, default=dict, sort_keys=True).encode()).hexdigest()[:8]


def _quoted(name: str) -> str:
    """A name without hyphens, of which a fingerprint must not have two with numbers behind them."""
    return name.replace("%", "%25").replace("-", "%2D")


make_detector = _Factory()
