"""Visual-semantic embeddings: a photo and a sentence are one vector each, their score is the cosine.

VSE++ (Faghri et al., BMVC 2018), its image embedding being the mean of projected regions:

    o_i = W_r x_i + b_r,  v = l2norm(mean_i o_i)         -> ImageEncoder, mean
    w_i = GRU(word_1 .. word_i),  c = l2norm(w_n)        -> TextEncoder, last
    S = v . c

VSE-infinity (Chen et al., CVPR 2021), with a pooling operator that is learned for each side, and in the image encoder
the perceptron that the authors' code has for region features:

    o_i = W_r x_i + b_r + MLP(x_i),   v = l2norm(GPO_o({o_i}))
    w_i = (fwd_i + bwd_i) / 2,        c = l2norm(GPO_w({w_i}))
    S = v . c

Both papers train with the hardest negative (power = inf of the loss here), the second with some regions and words left
out at each step. Legend: I images, T texts, m regions, n words, d the joint size.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from han_retrieval.errors import HANError
from han_retrieval.matchers.config import MatcherConfig, VSEConfig, VSEInfinityConfig
from han_retrieval.matchers.image_encoder import ImageEncoder
from han_retrieval.matchers.matcher import Evidence, Matcher, check_items
from han_retrieval.matchers.pooling import GPO, last, mean
from han_retrieval.matchers.text_encoder import TextEncoder
from han_retrieval.scoring import PRECISIONS
from han_retrieval.text import Vocabulary

Pooling = Callable[[Tensor, Tensor], Tensor]


class PooledMatcher(Matcher):
    """A matcher whose images and texts are one token each, of unit length.

    Args:
        config: Sizes and options.
        image_encoder, text_encoder: To tokens that are not normalised.
        image_pooling, text_pooling: (B, t, d) tokens and their (B, t) mask to (B, d).
        vocabulary: The words that ids stand for; needed by ``words`` alone.
    """

    def __init__(
        self,
        config: MatcherConfig,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        *,
        image_pooling: Pooling,
        text_pooling: Pooling,
        vocabulary: Vocabulary | None,
    ):
        super().__init__(config, image_encoder, text_encoder, vocabulary=vocabulary)
        self.image_pooling = image_pooling
        self.text_pooling = text_pooling

    def encode_images(self, regions: Tensor, region_mask: Tensor) -> Tensor:
        """(I, m, D) features and (I, m) bool to (I, 1, d), a vector v of unit length an image."""
        tokens = super().encode_images(regions, region_mask)  # (I, m, d)
        return F.normalize(self.image_pooling(tokens, region_mask.to(self.device)), dim=-1).unsqueeze(1)

    def encode_texts(self, words: Tensor, word_mask: Tensor) -> Tensor:
        """(T, n) int64 ids and (T, n) bool to (T, 1, d), a vector c of unit length a text."""
        tokens = super().encode_texts(words, word_mask)  # (T, n, d)
        return F.normalize(self.text_pooling(tokens, word_mask.to(self.device)), dim=-1).unsqueeze(1)

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
        """S of all pairs from (I, 1, d) and (T, 1, d): one small product, the same for either backend and precision.

        See ``Matcher.score``.
        """
        if backend not in ("gram", "reference"):
            raise ValueError(f"backend must be 'gram' or 'reference'; got {backend!r}")
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}")
        d = self.config.joint_size
        check_items("image", image_tokens, region_mask, (len(region_mask), 1, d))
        check_items("text", text_tokens, word_mask, (len(word_mask), 1, d))
        return image_tokens[:, 0] @ text_tokens[:, 0].mT

    def explain(self, regions: Tensor, words: Tensor) -> Evidence:
        """Refused: regions and words never meet.

        Raises:
            HANError: Always.
        """
        raise HANError(
            f"a {self.config.matcher} model compares one vector a photo with one a sentence, so it has no evidence by "
            "word and region; take a han or scan model"
        )


class VSE(PooledMatcher):
    """VSE++: the mean of the regions and the last state of a GRU over the words.

    Args:
        config: Sizes and options.
        vocabulary: The words that ids stand for; needed by ``words`` alone.
    """

    config_kind = VSEConfig

    def __init__(self, config: VSEConfig, *, vocabulary: Vocabulary | None = None):
        d = config.joint_size
        super().__init__(
            config,
            ImageEncoder(config.input_size, d, unit=False),
            TextEncoder(config.vocabulary_size, config.word_size, d, unit=False, bidirectional=False),
            image_pooling=mean,
            text_pooling=last,
            vocabulary=vocabulary,
        )


class VSEInfinity(PooledMatcher):
    """VSE-infinity: pooling operators that are learned, over regions and over the states of a Bi-GRU.

    Args:
        config: Sizes and options.
        vocabulary: The words that ids stand for; needed by ``words`` alone.
    """

    config_kind = VSEInfinityConfig

    def __init__(self, config: VSEInfinityConfig, *, vocabulary: Vocabulary | None = None):
        d = config.joint_size
        super().__init__(
            config,
            ImageEncoder(config.input_size, d, unit=False, perceptron=True),
            TextEncoder(config.vocabulary_size, config.word_size, d, unit=False),
            image_pooling=GPO(config.position_size, temperature=config.pooling_temperature),
            text_pooling=GPO(config.position_size, temperature=config.pooling_temperature),
            vocabulary=vocabulary,
        )
