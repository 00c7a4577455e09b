"""Pre-training of a text encoder on captions alone: two captions of one photo are a matching pair.

The two captions of a pair are scored as a photo and its caption are in training, with the words of the one in place of
regions: words attend to words, without heterogeneous attention before, and the soft-max triplet loss takes the captions
of other photos as negatives, but for those that stand under both (``equal_captions``). No photo is needed, so captions
of any photos serve, and words that are rare in the training captions get a meaning.

Legend: B pairs a batch, b of them this rank's (all, in one process), n words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from han_retrieval.data.files import field, sentences
from han_retrieval.errors import ConfigError, DataError
from han_retrieval.losses import soft_max_triplet_loss
from han_retrieval.matchers import AligningMatcher, make_matcher
from han_retrieval.objects import local_path
from han_retrieval.parsing import read_json_lines
from han_retrieval.ranks import ALONE, Ranks
from han_retrieval.text import Tokenizer, Vocabulary, pad_rows, tokenize
from han_retrieval.text.frozen import FrozenTokens
from han_retrieval.text.tokenizer import Ids, check_length
from han_retrieval.training.batches import compact, drop
from han_retrieval.training.config import TrainingConfig
from han_retrieval.training.dropout import PlacedDropout
from han_retrieval.training.invariance import hold_still
from han_retrieval.training.loop import StepLoss, TrainingTask, run_training
from han_retrieval.training.norms import SharedNorms
from han_retrieval.training.precision import autocast
from han_retrieval.training.run_folder import check_folder, claimed_folder, content_hash
from han_retrieval.training.schedule import loss_power
from han_retrieval.training.shared_captions import photos_having
from han_retrieval.training.steps import EpochBatches, step_generator, step_seed
from han_retrieval.training.text_weights import PretrainedText, frozen_tokens, parameter_groups, start_from_vectors
from han_retrieval.training.texts import encode_texts


def read_captions(path: Path) -> list[tuple[str, ...]]:
    """The captions of each photo from a file of JSON lines with the field ``captions``.

    Raises:
        DataError: The file cannot be read, or a line has another form; the message names it.
    """
    records = read_json_lines(path)
    return [tuple(sentences(field(record, "captions", list, where), f"{where}, captions")) for where, record in records]


def pretrain_text(
    config: TrainingConfig,
    photos: Sequence[Sequence[str]],
    out: str | Path,
    *,
    resume: bool = False,
    progress: bool = True,
    ranks: Ranks = ALONE,
) -> Path:
    """Pre-train a text encoder on the captions of photos; ``pretrained_text`` of a ``TrainingConfig`` takes it.

    Args:
        config: How to train. Of its model, the sizes of words and tokens and lambda are used. An epoch takes a pair of
            captions of each photo, of different words where it has such; pairs that do not fill a batch, of other
            photos each time, are left out.
        photos: The captions of each photo; photos with fewer than two are left out.
        out: The folder to make: the vocabulary, the weights, and ``training`` with the log and the checkpoints.
        resume, progress, ranks: As in ``train``.

    Raises:
        ConfigError: The model is no HAN, or ``out`` holds a run already or one of another configuration.
        DataError: Too few photos have two captions, or a checkpoint is of other data.
        HANError: ``out`` holds other things or is another process's, or the loss is not finite.
    """
    folder = local_path(out)
    if ranks.first:
        check_folder(folder, config, resume=resume)
    if config.model.matcher != "han" or config.pretrained_text:
        raise ConfigError("captions alone train the text encoder of a HAN, and without pretrained_text")
    for name in ("similar_captions", "patience"):
        if getattr(config, name):
            raise ConfigError(f"{name} is for photos with captions, not for captions alone: leave it out")
    torch.manual_seed(config.seed)
    every = [caption for captions in photos for caption in captions]
    vocabulary = Vocabulary.from_sentences(every, min_count=config.min_count)
    task = TextTraining(config, photos, vocabulary, progress=progress and ranks.first, ranks=ranks)
    task.facts["captions"] = len(every)
    with claimed_folder(folder, config, ranks, resume=resume) as run_folder:
        state = run_training(task, config, run_folder, resume=resume, progress=progress, ranks=ranks)
        if ranks.first:
            PretrainedText(vocabulary, state.average, getattr(task.module, "fingerprint", None)).save(folder)
    return folder


Captions = tuple[Tensor, Tensor]
"""(B, n) int64 ids, or what else ``Batch.words`` has, and a (B, n) bool mask, without those that this step drops."""


class PairBatch(NamedTuple):
    """Both captions of B pairs.

    Attributes:
        one, other: The captions.
        matching: (B, B) bool, true where a row's one and a column's other caption both stand under one photo; None
            where no two photos share a caption, or that does not count.
    """

    one: Captions
    other: Captions
    matching: Tensor | None = None


class Pair(NamedTuple):
    """The place of a photo, and those of two of its captions."""

    photo: int
    one: int
    other: int


@dataclass(frozen=True)
class CaptionPairs(EpochBatches[list[Pair], PairBatch]):
    """Pairs of captions of one photo.

    Attributes:
        captions: Ids, by photo and caption.
        config: How to train.
        having: The photos that have a caption, by photo and caption; empty where no two share one, or where that does
            not count.
        tokens: The captions' tokens, of a text encoder that is frozen.
    """

    captions: Sequence[Sequence[Ids]]
    config: TrainingConfig
    having: Sequence[Sequence[frozenset[int]]] = ()
    tokens: FrozenTokens | None = None

    @classmethod
    def of(cls, photos: Sequence[Sequence[str]], tokenizer: Tokenizer, config: TrainingConfig) -> CaptionPairs:
        """Take the photos with at least two captions that have words; of captions of the same words one, if the photo
        has others.

        Raises:
            DataError: There are fewer than two, or a caption has more than ``MOST_WORDS`` words.
        """
        found, sentences = [], []
        for place, captions in enumerate(photos):
            encoded = {s: tokenizer.encode(s) for s in captions}
            for each in encoded.values():
                check_length((*each.words, *each.left_out), where=f"photo {place}")
            worded = [s for s in captions if encoded[s].words]
            different = list({tuple(tokenize(s)): s for s in worded}.values())
            if len(worded) > 1:
                sentences.append(different if len(different) > 1 else worded)
                found.append([encoded[s].ids for s in sentences[-1]])
        if len(found) < 2:
            raise DataError(f"{len(found)} photos have two captions or more; learning from them takes many")
        return cls(found, config, photos_having(sentences) if config.equal_captions == "ignored" else ())

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return max(1, len(self.captions) // self.config.batch_size)

    def _epoch(self, epoch: int) -> list[list[Pair]]:
        random, size = np.random.default_rng([self.config.seed, epoch]), self.config.batch_size
        pairs = []
        for photo in random.permutation(len(self.captions)).tolist():
            one, other = random.permutation(len(self.captions[photo]))[:2].tolist()
            pairs.append(Pair(photo, one, other))
        return [pairs[place * size : (place + 1) * size] for place in range(self.steps_per_epoch)]

    def _load(self, step: int, part: list[Pair]) -> PairBatch:
        random = step_generator(self.config.seed, step)
        one = self._padded([self.captions[pair.photo][pair.one] for pair in part])
        other = self._padded([self.captions[pair.photo][pair.other] for pair in part])
        return PairBatch(self._dropped(*one, random), self._dropped(*other, random), self._matching(part))

    def _matching(self, part: list[Pair]) -> Tensor | None:
        if not self.having:
            return None
        of_one = [self.having[pair.photo][pair.one] for pair in part]
        of_other = [self.having[pair.photo][pair.other] for pair in part]
        return torch.tensor([[not left.isdisjoint(right) for right in of_other] for left in of_one])

    def _padded(self, captions: Sequence[Ids]) -> Captions:
        return pad_rows([torch.tensor(ids) if self.tokens is None else self.tokens[ids] for ids in captions])

    def _dropped(self, words: Tensor, mask: Tensor, random: torch.Generator) -> Captions:
        return compact(words, drop(mask, self.config.word_drop, random))


class TextTraining(TrainingTask[PairBatch]):
    """What the training loop needs to pre-train a text encoder."""

    def __init__(
        self,
        config: TrainingConfig,
        photos: Sequence[Sequence[str]],
        vocabulary: Vocabulary,
        *,
        progress: bool = True,
        ranks: Ranks = ALONE,
    ) -> None:
        shape = config.model.model_copy(update={"blocks": 0, "alignment": "words"})
        model = make_matcher(shape, vocabulary=vocabulary, region_size=1, detector_fingerprint="")
        assert isinstance(model, AligningMatcher)
        assert model.tokenizer is not None  # it has a vocabulary
        pairs = CaptionPairs.of(photos, model.tokenizer, config)
        encoded = [ids for captions in pairs.captions for ids in captions]
        with ranks.one_a_machine_first():
            tokens = frozen_tokens(model.text_encoder, encoded, device=model.device, progress=progress)
        pairs = replace(pairs, tokens=tokens)
        self.config, self.pairs, self.model, self.module = config, pairs, model, model.text_encoder
        self.ranks, self.norms = ranks, SharedNorms(model, ranks)
        hold_still(self.module)
        if config.word_vectors is not None:
            start_from_vectors(self.module, vocabulary, config.word_vectors)
        self.weights, self.steps_per_epoch = self.module.state_dict(), pairs.steps_per_epoch
        self.facts = {
            "photos": len(pairs.captions),
            "words": len(vocabulary),
            "content_hash": content_hash([vocabulary.words, pairs.captions]),
        }

    def batches(self, start: int, stop: int) -> Iterator[PairBatch]:
        """Pairs of captions."""
        return self.pairs.steps(start, stop)

    def parameters(self) -> list[tuple[list[nn.Parameter], float]]:
        """All but a language model that is trained along, and that."""
        return parameter_groups(self.module, self.config)

    def loss(self, batch: PairBatch, *, step: int, steps: int) -> StepLoss:
        """The triplet loss between the captions of a pair, with the one in the place of an image."""
        (one, one_mask), (other, other_mask), matching = batch
        size, margin, power = len(one), self.config.margin, loss_power(self.config, step, steps=steps)
        own, ranks = self.ranks.rows(size), self.ranks.of(size)
        self.norms.ranks = ranks
        places, seeds = torch.arange(size)[own], [step_seed(self.config.seed, step, use) for use in range(3)]
        with PlacedDropout(seeds[0]).within(places), autocast(self.config, self.model.device):
            images = encode_texts(self.model, one[own], one_mask[own], places=places, seed=seeds[1])  # (b, n, d)
            texts = encode_texts(self.model, other[own], other_mask[own], places=places, seed=seeds[2])
        scores = self.model.score(images, one_mask[own], ranks.gather(texts, size), other_mask)  # (b, B)
        matching = None if matching is None else matching[own].to(scores.device)
        triplet_loss = partial(soft_max_triplet_loss, margin=margin, power=power, matching=matching, ranks=ranks)
        loss, collapsed = triplet_loss(scores), triplet_loss(torch.zeros_like(scores))
        return StepLoss(loss, {"loss": loss}, notes={"power": power}, collapsed=collapsed, pairs=size**2, ranks=ranks)
