"""The towers' own vectors: zero-shot retrieval with a model of two towers, such as CLIP (Radford et al., ICML 2021).

    v = l2norm(the image tower's vector of the photo)       Regions.pooled
    c = l2norm(the text tower's vector of the sentence)     text_encoder.pooled
    S = v . c

Nothing is trained. Legend: I images, T texts, P numbers a pooled vector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from han_retrieval import plugins
from han_retrieval.errors import ConfigError, DataError, ModelError
from han_retrieval.matchers.base import Matcher, MatcherConfig
from han_retrieval.matchers.vse import score_vectors
from han_retrieval.regions.backbones.backbone import BackboneFingerprint
from han_retrieval.regions.names import split_fingerprint
from han_retrieval.text import Vocabulary, make_text_encoder

if TYPE_CHECKING:
    from han_retrieval.regions import RegionBatch

_OF_TEXT_ALONE = ("minilm",)  # language models that no image tower was trained with
_WANTED = {
    "pooled": "has no vector of a whole sentence",
    "frozen_tokens": "has no frozen tokens",
}


class PooledConfig(MatcherConfig):
    """The configuration of a pooled matcher: the name of the text encoder counts, no size does."""

    matcher: Literal["pooled"] = "pooled"


def refuse_unrelated(detector: str | None, text_encoder: str, *, mend: str) -> None:
    """Refuse an image tower and a text encoder that are known to share no space, whatever size their vectors have.

    Known is that only of a language model of text alone beside a backbone of this package. Of other pairs, names do not
    tell: an image tower of one library and a text tower of another may be of one model, or trained to share its space.

    Args:
        detector: The detector's fingerprint; None where it is unknown.
        text_encoder: The text encoder's name.
        mend: What else can be done, for the message.

    Raises:
        ConfigError: They share no space.
    """
    if detector is None or text_encoder not in _OF_TEXT_ALONE:
        return
    backbones = split_fingerprint(detector).backbones
    tower = BackboneFingerprint.parse(backbones[0]) if backbones else None
    known = tower and plugins.installed("backbones").get(tower.name)
    if tower and known and known.is_ours:
        raise ConfigError(
            f"{tower.asked_for_by} and the text encoder {text_encoder} are of two models, whose vectors share no "
            f"space: take the two towers of one model, such as open_clip:NAME/PRETRAINED, or {mend}"
        )


def make_untrained_text_encoder(config: MatcherConfig, *, gives: str) -> nn.Module:
    """The text encoder of a configuration, of which only its method ``gives`` is used, without gradients.

    Raises:
        ConfigError: It has no such method.
    """
    # What is trained of it, its head, is not used: one number wide, it takes no room in a saved model.
    smallest: dict[str, object] = {"joint_size": 1}
    if config.text_encoder not in ("bigru", "gru"):  # which have no such options
        smallest |= {"text_layers": "last", "text_head": "linear"}
        if config.text_backbone != "frozen":
            raise ConfigError(
                f"a {config.matcher} model compares what {config.text_encoder} gives as it is, and trains nothing of "
                "it: leave model.text_backbone out"
            )
    encoder = make_text_encoder(config.text_encoder, config.model_copy(update=smallest))
    if not callable(getattr(encoder, gives, None)):
        raise ConfigError(
            f"the text encoder {config.text_encoder} {_WANTED[gives]}, which a {config.matcher} model compares as it "
            "is; set model.text_encoder to that of a model with two towers, such as open_clip:NAME/PRETRAINED"
        )
    return encoder.requires_grad_(False)


class Pooled(Matcher):
    """The cosine of the two towers' vectors of a photo and a sentence; no parameters.

    Args:
        config: Names the text encoder.
        vocabulary: The words that ids stand for; text encoders with a tokenizer of their own need none.

    Raises:
        ConfigError: The text encoder has no vector of a whole sentence, or shares no space with the image tower.
    """

    config: PooledConfig
    config_class = PooledConfig
    title = "The two towers of a vision-language model"
    summary = "Matches photos and sentences by a vector each, as two towers of one model give them, without training"
    tags = ("zero-shot", "joint-embedding")

    def __init__(self, config: PooledConfig, *, vocabulary: Vocabulary | None = None):
        super().__init__(config, vocabulary=vocabulary)
        refuse_unrelated(config.detector_fingerprint, config.text_encoder, mend="train another matcher")
        self.image_encoder = nn.Identity()
        self.text_encoder = make_untrained_text_encoder(config, gives="pooled")

    def image_inputs(self, batch: RegionBatch) -> tuple[Tensor, Tensor]:
        """The pooled vectors (I, 1, P), and a mask (I, 1) that is true.

        Raises:
            DataError: Photos have none.
        """
        if batch.pooled is None:
            raise DataError(
                "these features have no vector of the whole photo, which a pooled model compares; extract them with an "
                "image tower, such as han extract --detector open_clip:NAME/PRETRAINED"
            )
        vectors = batch.pooled.unsqueeze(1)
        return vectors, batch.mask.new_ones(vectors.shape[:2])

    def encode_images(self, regions: Tensor, region_mask: Tensor) -> Tensor:
        """What ``image_inputs`` gave to (I, 1, P), a vector of unit length an image."""
        if regions.ndim != 3 or regions.shape[1] != 1:
            raise ValueError(f"a pooled model takes a vector a photo, (I, 1, P); got {tuple(regions.shape)}")
        return F.normalize(regions.to(self.device), dim=-1)

    def encode_texts(self, words: Tensor, word_mask: Tensor) -> Tensor:
        """(T, n) ids, or what else the text encoder takes, and (T, n) bool to (T, 1, P) of unit length."""
        vectors = self.text_encoder.pooled(words.to(self.device), word_mask.to(self.device))  # type: ignore[operator]
        return F.normalize(vectors, dim=-1).unsqueeze(1)

    def score(
        self,
        image_tokens: Tensor,
        region_mask: Tensor,
        text_tokens: Tensor,
        word_mask: Tensor,
        *,
        backend: str = "gram",
        precision: str = "float32",
    ) -> Tensor:
        """S of all pairs from (I, 1, P) and (T, 1, P): one product, the same for either backend and precision.

        See ``Matcher.score``.

        Raises:
            ModelError: The vectors of images and of texts have different sizes.
        """
        sizes = image_tokens.shape[-1], text_tokens.shape[-1]
        if not len(image_tokens) or not len(text_tokens):
            return image_tokens.new_zeros(len(image_tokens), len(text_tokens))
        if sizes[0] != sizes[1]:
            raise ModelError(
                f"the photos' vectors have {sizes[0]} numbers and those of {self.config.text_encoder} {sizes[1]}: they "
                "are of two models; take the text tower of the model that made the features"
            )
        texts, masks = text_tokens.to(image_tokens.dtype), (region_mask, word_mask)
        return score_vectors(image_tokens, texts, masks, size=sizes[0], backend=backend, precision=precision)
