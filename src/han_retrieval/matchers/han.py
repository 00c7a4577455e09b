"""HAN, the Heterogeneous Attention Network (Yu et al., SIGIR 2021), read beside its formulas.

Legend: I images, T texts, m regions, n words, s = m + n, D numbers a region feature, d the joint size, L blocks.

    o_i = l2norm(W_r x_i + b_r)                          image encoder      -> ImageEncoder
    w_i = l2norm((fwd_i + bwd_i) / 2)                    text encoder       -> TextEncoder
    A = softmax_j(beta q_i . k_j), over both sets        attention          -> HeterogeneousAttention
    h~_i = W_f (sum_j A_ij v_j) + b_f + q_i
    alpha_i = softmax_j(lambda cos(w^_i, o^_j))          alignment          -> align
    r_i = cos(w^_i, sum_j alpha_ij o^_j), S = mean r_i   matching           -> match, pool
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from han_retrieval.errors import HANError
from han_retrieval.matchers.alignment import align, match, pool
from han_retrieval.matchers.config import HANConfig
from han_retrieval.matchers.heterogeneous_attention import HeterogeneousAttention
from han_retrieval.matchers.image_encoder import ImageEncoder
from han_retrieval.matchers.saving import load_folder, refuse_other_weights, save_folder
from han_retrieval.matchers.text_encoder import TextEncoder
from han_retrieval.scoring import Collection, Matching, score_all_pairs
from han_retrieval.text import Vocabulary


@dataclass(frozen=True)
class Evidence:
    """Why one image and one sentence got their score; tensors on the CPU.

    Attributes:
        score: S.
        match: (n,) r_j, how well each word's own picture of the image fits it.
        alignment: (n, m) alpha, how much each word gathered from each region; rows sum to 1.
        attention: (L, m + n, m + n) A of each block, regions first; rows sum to 1.
    """

    score: float
    match: Tensor
    alignment: Tensor
    attention: Tensor


class HAN(nn.Module):
    """Encoders, L blocks of heterogeneous attention, alignment and matching.

    Args:
        config: Sizes and options.
        vocabulary: The words that ids stand for; needed by ``words`` alone.
    """

    def __init__(self, config: HANConfig, *, vocabulary: Vocabulary | None = None):
        super().__init__()
        if vocabulary is not None and len(vocabulary) != config.vocabulary_size:
            raise HANError(
                f"the vocabulary has {len(vocabulary)} words and the configuration says vocabulary_size = "
                f"{config.vocabulary_size}: they belong to different models"
            )
        self.config = config
        self.vocabulary = vocabulary
        self.image_encoder = ImageEncoder(config.input_size, config.joint_size)
        self.text_encoder = TextEncoder(config.vocabulary_size, config.word_size, config.joint_size)
        self.blocks = nn.ModuleList(
            HeterogeneousAttention(
                config.joint_size, temperature=config.attention_temperature, residual=config.residual
            )
            for _ in range(config.blocks)
        )
        self._pool = partial(pool, pooling=config.pooling, temperature=config.lse_temperature)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.image_encoder.projection.weight.device

    def words(self, sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Sentences to (T, n) int64 ids and their (T, n) bool mask, n the longest sentence's words.

        Raises:
            HANError: The model has no vocabulary, or a sentence has no words.
        """
        if self.vocabulary is None:
            raise HANError("this model has no vocabulary.json, so it reads word ids only")
        encoded = [self.vocabulary.encode(s, boundaries=self.config.boundary_words) for s in sentences]
        for sentence, ids in zip(sentences, encoded, strict=True):
            if len(ids) == 0:
                raise HANError(f"no words in the sentence {sentence!r}")
        length = max((len(ids) for ids in encoded), default=0)
        words = torch.zeros(len(encoded), length, dtype=torch.int64)
        for row, ids in zip(words, encoded, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        lengths = torch.tensor([len(ids) for ids in encoded])
        mask = torch.arange(length).unsqueeze(0) < lengths.unsqueeze(1)
        return words.to(self.device), mask.to(self.device)

    def encode_images(self, regions: Tensor, region_mask: Tensor) -> Tensor:
        """(I, m, D) features and (I, m) bool to (I, m, d) tokens of unit length, zero at padding."""
        return self.image_encoder(regions.to(self.device), region_mask.to(self.device))  # type: ignore[no-any-return]

    def encode_texts(self, words: Tensor, word_mask: Tensor) -> Tensor:
        """(T, n) int64 ids and (T, n) bool to (T, n, d) tokens of unit length, zero at padding."""
        return self.text_encoder(words.to(self.device), word_mask.to(self.device))  # type: ignore[no-any-return]

    def similarity(
        self, regions: Tensor, region_mask: Tensor, words: Tensor, word_mask: Tensor, *, backend: str = "gram"
    ) -> Tensor:
        """Scores of all pairs: (I, m, D), (I, m), (T, n) int64, (T, n) -> (I, T). See ``score``."""
        return self.score(
            self.encode_images(regions, region_mask),
            region_mask,
            self.encode_texts(words, word_mask),
            word_mask,
            backend=backend,
        )

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
        """Scores of all pairs of encoded items, differentiable.

        Args:
            image_tokens: (I, m, d), as ``encode_images`` gives them.
            region_mask: (I, m) bool, true where a region is.
            text_tokens: (T, n, d), as ``encode_texts`` gives them.
            word_mask: (T, n) bool, true where a word is.
            backend: "gram" (fast, the same to rounding) or "reference" (the plain forward of the formulas, d-wide, a
                caption at a time over all images).
            precision: "bfloat16" to compute the large products of "gram" in it, where the processor can and no gradient
                is asked for: scores move by some 1e-3.

        Returns:
            (I, T) scores; a pair's does not depend on the other pairs or on padding.

        Raises:
            ValueError: An unknown backend or precision, bfloat16 where the processor has none, shapes that do not fit
                together, or an item without any token.
        """
        region_mask, word_mask = region_mask.to(self.device), word_mask.to(self.device)
        _check("image", image_tokens, region_mask, self.config.joint_size)
        _check("text", text_tokens, word_mask, self.config.joint_size)
        if backend == "reference":
            return torch.stack(
                [
                    self._forward_pairs(image_tokens, region_mask, tokens, mask)
                    for tokens, mask in zip(text_tokens, word_mask, strict=True)
                ],
                dim=1,
            )
        if backend != "gram":
            raise ValueError(f"backend must be 'gram' or 'reference'; got {backend!r}")
        return score_all_pairs(
            image_tokens,
            region_mask,
            text_tokens,
            word_mask,
            blocks=list(self.blocks),  # type: ignore[arg-type]
            matching=self._matching,
            precision=precision,
        )

    def store_images(self, image_tokens: Tensor, region_mask: Tensor, *, storage: str = "float16") -> Collection:
        """Encoded images (I, m, d), (I, m), made ready for ``scores`` of one sentence after another.

        Args:
            image_tokens: As ``encode_images`` gives them.
            region_mask: True where a region is.
            storage: "float32", "float16", "bfloat16" or "int8".

        Returns:
            A collection whose ``scores`` takes a sentence's (n, d) tokens without padding and gives (I,) scores. The
            weights of this model's attention must stay as they are meanwhile.

        Raises:
            ValueError: Shapes that do not fit together, an item without any token, or an unknown storage.
        """
        region_mask = region_mask.to(self.device)
        _check("image", image_tokens, region_mask, self.config.joint_size)
        return self._store(image_tokens, region_mask, "images", storage)

    def store_texts(self, text_tokens: Tensor, word_mask: Tensor, *, storage: str = "float16") -> Collection:
        """Encoded texts (T, n, d), (T, n), made ready for ``scores`` of one photo's (m, d) tokens after another's.

        As ``store_images``, with (T,) scores.
        """
        word_mask = word_mask.to(self.device)
        _check("text", text_tokens, word_mask, self.config.joint_size)
        return self._store(text_tokens, word_mask, "texts", storage)

    def _store(self, tokens: Tensor, mask: Tensor, of: str, storage: str) -> Collection:
        blocks = list(self.blocks)
        return Collection(tokens, mask, of=of, blocks=blocks, matching=self._matching, storage=storage)  # type: ignore[arg-type]

    @property
    def _matching(self) -> Matching:
        return Matching(self.config.alignment_temperature, self.config.alignment, self._pool)

    def _forward_pairs(
        self, image_tokens: Tensor, region_mask: Tensor, text_tokens: Tensor, word_mask: Tensor
    ) -> Tensor:
        """The formulas as they stand, one text (n, d), (n,) with all images (I, m, d), (I, m): -> (I,)."""
        images, m, _ = image_tokens.shape
        words_mask = word_mask.expand(images, -1)  # (I, n)
        joint = torch.cat([image_tokens, text_tokens.expand(images, -1, -1)], dim=1)  # H (I, s, d)
        mask = torch.cat([region_mask, words_mask], dim=1)  # (I, s)
        for block in self.blocks:
            joint = block(joint, mask)
        regions, words = joint[:, :m], joint[:, m:]
        scores = []
        if self.config.alignment in ("words", "both"):
            alpha = align(words, regions, region_mask, temperature=self.config.alignment_temperature)
            scores.append(self._pool(match(words, regions, alpha), words_mask))
        if self.config.alignment in ("regions", "both"):
            alpha = align(regions, words, words_mask, temperature=self.config.alignment_temperature)
            scores.append(self._pool(match(regions, words, alpha), region_mask))
        return torch.stack(scores).mean(0)

    @torch.no_grad()
    def explain(self, regions: Tensor, words: Tensor) -> Evidence:
        """The evidence for one pair: (m, D) features and (n,) int64 ids, none of them padding.

        The evidence is the words' gathering, also in a model that is scored by the regions'.
        """
        region_mask = torch.ones(1, len(regions), dtype=torch.bool, device=self.device)
        word_mask = torch.ones(1, len(words), dtype=torch.bool, device=self.device)
        image_tokens = self.encode_images(regions.unsqueeze(0), region_mask)
        text_tokens = self.encode_texts(words.unsqueeze(0), word_mask)
        joint = torch.cat([image_tokens, text_tokens], dim=1)  # (1, s, d)
        mask = torch.cat([region_mask, word_mask], dim=1)
        attention = [torch.zeros(0, joint.shape[1], joint.shape[1])]
        for block in self.blocks:
            assert isinstance(block, HeterogeneousAttention)
            attention.append(block.attention(joint, mask).cpu())
            joint = block(joint, mask)
        attended_regions, attended_words = joint[:, : len(regions)], joint[:, len(regions) :]
        alpha = align(attended_words, attended_regions, region_mask, temperature=self.config.alignment_temperature)
        return Evidence(
            score=float(self._forward_pairs(image_tokens, region_mask, text_tokens[0], word_mask[0])),
            match=match(attended_words, attended_regions, alpha)[0].cpu(),
            alignment=alpha[0].cpu(),
            attention=torch.cat(attention),
        )

    def save_pretrained(self, folder: str | Path, *, card: str | None = None) -> None:
        """Write config.json, model.safetensors, vocabulary.json and, when given, the card as README.md."""
        save_folder(Path(folder), self.config, self.state_dict(), self.vocabulary, card=card)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """The model of a folder that ``save_pretrained`` wrote, in evaluation mode. No pickle is read.

        Raises:
            HANError: A file is missing or not what it should be.
        """
        folder = Path(folder)
        config, state, vocabulary = load_folder(folder)
        model = cls(config, vocabulary=vocabulary)
        refuse_other_weights(folder, model.state_dict(), state)
        model.load_state_dict(state)
        return model.eval()


def _check(kind: str, tokens: Tensor, mask: Tensor, joint_size: int) -> None:
    if tokens.ndim != 3 or tokens.shape[:2] != mask.shape or tokens.shape[2] != joint_size:
        raise ValueError(
            f"{kind} tokens must be (items, tokens, {joint_size}) with a mask (items, tokens); "
            f"got {tuple(tokens.shape)} and {tuple(mask.shape)}"
        )
    if mask.dtype != torch.bool:
        raise ValueError(f"the {kind} mask must be bool; got {mask.dtype}")
    empty = (~mask.any(1)).nonzero()
    if len(empty):
        raise ValueError(f"{kind} {int(empty[0])} has no token: its mask is all false")
