"""A text encoder's start, learned from sentences alone: captions of one photo find each other among those of others.

Two captions of a photo are treated as the photo and its caption are in training: the words of one gather from the words
of the other, without attention before, and the soft-max triplet loss takes the other photos' captions as negatives.
No photo is looked at, so captions of any photos serve, and words that few training captions have gain a meaning.

Legend: B pairs a batch, n words.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from tqdm import tqdm

from han_retrieval.errors import HANError
from han_retrieval.files import write_whole
from han_retrieval.losses import soft_max_triplet_loss
from han_retrieval.matchers import AligningMatcher, make_matcher
from han_retrieval.text import Vocabulary, WordTokenizer
from han_retrieval.training.batches import compact, drop, step_generator
from han_retrieval.training.config import TrainingConfig
from han_retrieval.training.log import Log
from han_retrieval.training.schedule import learning_rate, loss_power
from han_retrieval.training.sitting import Sitting
from han_retrieval.training.state import State, check_folder, claimed_folder, content_hash, make_optimizer
from han_retrieval.training.vectors import start_from_vectors
from han_retrieval.training.watch import CollapseWatch

VOCABULARY, WEIGHTS = "vocabulary.json", "text_encoder.safetensors"


class TextStart(NamedTuple):
    """What a text encoder starts from: its words and its weights by name."""

    vocabulary: Vocabulary
    weights: dict[str, Tensor]


def read_captions(path: Path) -> list[tuple[str, ...]]:
    """The captions of each photo from a file of JSON lines with the field ``captions``.

    Raises:
        HANError: The file cannot be read, or a line is not such; the message names it.
    """
    found = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    captions = json.loads(line)["captions"]
                except (ValueError, KeyError, TypeError):
                    captions = None
                if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
                    raise HANError(f'{path}, line {number}: expected {{"captions": ["...", "..."]}}')
                found.append(tuple(captions))
    except (OSError, UnicodeDecodeError) as error:
        raise HANError(f"{path}: the captions cannot be read ({error})") from None
    return found


def train_text_start(
    config: TrainingConfig,
    photos: Sequence[Sequence[str]],
    out: str | Path,
    *,
    resume: bool = False,
    progress: bool = True,
) -> Path:
    """Learn a text encoder's start from the captions of photos; ``text_start`` of a ``TrainingConfig`` takes it.

    Args:
        config: How to train; of its model, the sizes of words and tokens and lambda count. An epoch is a pair of
            captions of each photo; those that do not fill a batch, other photos each time, wait for another.
        photos: The captions of each; those with fewer than two say nothing.
        out: The folder to make: the vocabulary, the weights, and ``training`` with what a stopped run goes on from.
        resume: Go on from the newest checkpoint in ``out``; without one, begin.
        progress: Show progress on standard error.

    Raises:
        HANError: The model is no HAN, too few photos have two captions, ``out`` holds a run already, one of another
            configuration or of other data, one that another process is at, or other things, or the loss is no longer
            finite.
    """
    folder = Path(out)
    check_folder(folder, config, resume=resume)
    if config.model.matcher != "han" or config.text_start:
        raise HANError("sentences alone train the start of a HAN's text encoder, which itself starts anew")
    torch.manual_seed(config.seed)
    sentences = [caption for captions in photos for caption in captions]
    vocabulary = Vocabulary.from_sentences(sentences, min_count=config.minimum_count)
    pairs = _Pairs.of(photos, vocabulary, config)
    if len(pairs.captions) < 2:
        raise HANError(f"{len(pairs.captions)} photos have two captions or more; learning from them takes many")
    shape = config.model.model_copy(update={"blocks": 0, "alignment": "words"})
    model = make_matcher(shape, vocabulary=vocabulary, region_size=1, detector_fingerprint="")
    assert isinstance(model, AligningMatcher)
    encoder = model.text_encoder
    if config.word_vectors is not None:
        start_from_vectors(encoder.get_parameter("embedding.weight"), vocabulary, config.word_vectors)
    facts = {
        "photos": len(pairs.captions),
        "captions": len(sentences),
        "words": len(vocabulary),
        "content_hash": content_hash([vocabulary.words, pairs.captions]),
    }
    state = State(encoder.state_dict(), make_optimizer(config, encoder.parameters()), facts)
    with claimed_folder(folder, config) as of_run:
        if resume:
            state.resume(of_run)
        with Log(of_run, after_step=state.step) as log:
            _train(config, model, pairs, state, log, of_run, progress=progress)
        vocabulary.save(folder / VOCABULARY)
        write_whole(folder / WEIGHTS, save({name: value.contiguous() for name, value in state.average.items()}))
    return folder


def load_text_start(folder: str | Path) -> TextStart:
    """Read what ``train_text_start`` wrote.

    Raises:
        HANError: A file is missing or not what it should be.
    """
    path = Path(folder)
    if not (path / WEIGHTS).is_file():
        raise HANError(f"{path}: no {WEIGHTS} there; `han train-text --out {path}` writes it at its end")
    try:
        return TextStart(Vocabulary.load(path / VOCABULARY), load_file(path / WEIGHTS))
    except (OSError, SafetensorError) as error:
        raise HANError(f"{path / WEIGHTS}: not a whole safetensors file ({error})") from None


def start_from_text(encoder: nn.Module, start: TextStart, folder: str) -> None:
    """Give a text encoder the weights of a start.

    Raises:
        HANError: It is of other sizes.
    """
    try:
        encoder.load_state_dict(start.weights)
    except RuntimeError:
        raise HANError(
            f"{folder}: its text encoder has other sizes or parts than the model's; train it with the same "
            "model.word_size and model.joint_size (a vse++ takes none, it reads in one direction)"
        ) from None


class _Pairs(NamedTuple):
    """Pairs of captions, a function of the seed and the step."""

    captions: Sequence[Sequence[list[int]]]  # word ids, by photo and caption
    config: TrainingConfig

    @classmethod
    def of(cls, photos: Sequence[Sequence[str]], vocabulary: Vocabulary, config: TrainingConfig) -> _Pairs:
        tokenizer = WordTokenizer(vocabulary, config.model.bos_eos)
        encoded = ([tokenizer.encode(s) for s in captions] for captions in photos)
        worded = ([sentence.ids for sentence in captions if sentence.words] for captions in encoded)
        return cls([captions for captions in worded if len(captions) > 1], config)

    @property
    def steps_per_epoch(self) -> int:
        return max(1, len(self.captions) // self.config.batch_size)

    def steps(self, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Ids and masks (B, n) of both captions of the pairs, some words left out."""
        per_epoch, size = self.steps_per_epoch, self.config.batch_size
        for epoch in range(start // per_epoch, -(-stop // per_epoch)):
            random = np.random.default_rng([self.config.seed, epoch])
            order = random.permutation(len(self.captions))
            chosen = [random.permutation(len(self.captions[photo]))[:2] for photo in order]
            for place in range(per_epoch):
                step = epoch * per_epoch + place
                if start <= step < stop:
                    generator = step_generator(self.config.seed, step)
                    batch = range(place * size, min((place + 1) * size, len(order)))
                    sides = ([self.captions[order[i]][chosen[i][side]] for i in batch] for side in (0, 1))
                    one, other = (self._load(side, generator) for side in sides)
                    yield *one, *other

    def _load(self, captions: Sequence[list[int]], random: torch.Generator) -> tuple[Tensor, Tensor]:
        words = nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in captions], batch_first=True)  # (B, n)
        mask = torch.arange(words.shape[1]) < torch.tensor([len(ids) for ids in captions]).unsqueeze(1)
        return compact(words, drop(mask, self.config.word_drop, random))


def _train(
    config: TrainingConfig,
    model: AligningMatcher,
    pairs: _Pairs,
    state: State,
    log: Log,
    folder: Path,
    *,
    progress: bool,
) -> None:
    """From the current step to the last."""
    steps = config.epochs * pairs.steps_per_epoch
    watch = CollapseWatch()
    with (
        tqdm(total=steps, initial=state.step, unit="step", desc="training", disable=not progress) as bar,
        Sitting(state, log, folder, minutes=config.checkpoint_minutes, tell=progress) as sitting,
    ):
        for one, one_mask, other, other_mask in pairs.steps(state.step, steps):
            rate = learning_rate(config, state.step, steps=steps)
            power = loss_power(config, state.step, steps=steps)
            for group in state.optimizer.param_groups:
                group["lr"] = rate
            its, others = model.encode_texts(one, one_mask), model.encode_texts(other, other_mask)  # (B, n, d) each
            scores = model.score(its, one_mask, others, other_mask)
            loss = soft_max_triplet_loss(scores, margin=config.margin, power=power, image_ids=torch.arange(len(one)))
            value = float(loss.detach())
            if not np.isfinite(value):
                raise HANError(f"the loss is {value} at step {state.step}: lower learning_rate")
            state.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.text_encoder.parameters(), config.gradient_clip)
            state.optimizer.step()
            state.follow(config.average)
            state.step += 1
            log.step(state.step, loss=value, rate=rate, power=power)
            bar.set_postfix(loss=f"{value:.3f}", refresh=False)
            bar.update()
            if warning := watch.see(value, margin=config.margin, power=power, batch_size=len(one)):
                tqdm.write(f"warning: {warning}", file=sys.stderr)
            sitting.end_step()
