"""Batches of matching images and captions: a function of the seed and the step, so that a run resumes exactly.

Legend: B pairs a batch, m regions, n words, D numbers a region feature.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from han_retrieval.data import CaptionedPhotos, EntitiesPhotos
from han_retrieval.regions import RegionBatch, RegionStore
from han_retrieval.regions.rows import interleave
from han_retrieval.text import Vocabulary, WordTokenizer
from han_retrieval.training.config import TrainingConfig
from han_retrieval.training.phrases import WordSpan, caption_spans, shown_regions
from han_retrieval.training.state import content_hash


class Batch(NamedTuple):
    """Matching pairs, what is dropped at this step already left out.

    Attributes:
        regions: (B, m, D) float32.
        region_mask: (B, m) bool.
        words: (B, n) int64 ids.
        word_mask: (B, n) bool.
        image_ids: (B,) int64, the photo's place in the dataset.
        shown: (B, n, m) bool, the regions that show what a word speaks of; None where that is not known.
    """

    regions: Tensor
    region_mask: Tensor
    words: Tensor
    word_mask: Tensor
    image_ids: Tensor
    shown: Tensor | None = None


@dataclass(frozen=True)
class Batches:
    """The training pairs of a run, in the order of its steps."""

    photo_ids: Sequence[str]
    captions: Sequence[Sequence[list[int]]]  # word ids, by photo and caption
    store: RegionStore
    config: TrainingConfig
    spans: Sequence[Sequence[Sequence[WordSpan]]] | None = None  # boxed phrases, by photo and caption
    views: Sequence[RegionStore] = ()  # more stores of the photos; each time one is taken at random

    @classmethod
    def of(
        cls,
        dataset: CaptionedPhotos,
        store: RegionStore,
        vocabulary: Vocabulary,
        config: TrainingConfig,
        *,
        truth: EntitiesPhotos | None = None,
        views: Sequence[RegionStore] = (),
    ) -> Batches:
        """The photos of ``dataset`` that the store has, with their captions that have a word.

        With ``truth``, batches say which regions show what a word speaks of. A photo's regions come from the store or,
        each time as likely, from one of the ``views`` that have it.
        """
        tokenizer = WordTokenizer(vocabulary, config.model.bos_eos)
        photo_ids, captions, spans = [], [], []
        sizes = {photo.id: (photo.width, photo.height) for photo in store.photos()} if truth is not None else {}
        for photo in dataset.photos:
            if photo.id in store:
                encoded = {s: tokenizer.encode(s) for s in photo.captions}
                worded = [s for s in photo.captions if encoded[s].words]
                if worded:
                    photo_ids.append(photo.id)
                    captions.append([encoded[s].ids for s in worded])
                    if truth is not None:
                        width, height = sizes[photo.id]
                        found = caption_spans(photo, truth, width=width, height=height)
                        spans.append([found.get(s, ()) for s in worded])
        return cls(photo_ids, captions, store, config, None if truth is None else spans, views)

    @property
    def caption_count(self) -> int:
        """Captions an epoch."""
        return sum(map(len, self.captions))

    @property
    def grounded_count(self) -> int:
        """Captions of them whose words are known to speak of some box."""
        return sum(bool(spans) for of_photo in self.spans or () for spans in of_photo)

    def content_hash(self, vocabulary: Vocabulary, dev: CaptionedPhotos | None) -> str:
        """Of the words, the captions and their phrases, and of what is watched."""
        watched = None if dev is None else [(photo.id, photo.captions) for photo in dev.photos]
        spans = [
            [(span.start, span.end, span.boxes.tolist()) for span in of_caption]
            for of_photo in self.spans or ()
            for of_caption in of_photo
        ]
        return content_hash([vocabulary.words, self.photo_ids, self.captions, spans, watched])

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch."""
        return len(self._epoch(0))

    def _epoch(self, epoch: int) -> list[list[tuple[int, int]]]:
        """An epoch's batches of (photo, caption) places: every caption once, no photo twice in a batch.

        Round k takes the k-th caption, in an order of its own, of each photo that has so many. What does not fill a
        batch at the end of a round is a smaller one; a single pair has no negative and waits for another epoch.
        """
        random = np.random.default_rng([self.config.seed, epoch])
        orders = [random.permutation(len(captions)) for captions in self.captions]
        batches = []
        for round_ in range(max(map(len, orders), default=0)):
            photos = random.permutation([photo for photo, order in enumerate(orders) if len(order) > round_])
            pairs = [(int(photo), int(orders[photo][round_])) for photo in photos]
            batches += [pairs[i : i + self.config.batch_size] for i in range(0, len(pairs), self.config.batch_size)]
        return [batch for batch in batches if len(batch) > 1]

    def steps(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of steps ``start`` to ``stop``, each read while the one before is at work."""
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as reader:
            ahead = None
            for step, pairs in self._pairs(start, stop):
                following = reader.submit(self._load, step, pairs)
                if ahead is not None:
                    yield ahead.result()
                ahead = following
            if ahead is not None:
                yield ahead.result()

    def _pairs(self, start: int, stop: int) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        per_epoch = self.steps_per_epoch
        for epoch in range(start // per_epoch, -(-stop // per_epoch)):
            for place, pairs in enumerate(self._epoch(epoch)):
                if start <= epoch * per_epoch + place < stop:
                    yield epoch * per_epoch + place, pairs

    def _load(self, step: int, pairs: list[tuple[int, int]]) -> Batch:
        random = step_generator(self.config.seed, step)
        regions = self._regions([self.photo_ids[photo] for photo, _ in pairs], random)
        captions = [self.captions[photo][caption] for photo, caption in pairs]
        words = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in captions], batch_first=True)  # (B, n)
        lengths = torch.tensor([len(ids) for ids in captions])
        word_mask = torch.arange(words.shape[1]) < lengths.unsqueeze(1)
        kept_regions = drop(regions.mask, self.config.region_drop, random)
        kept_words = drop(word_mask, self.config.word_drop, random)
        features, region_mask = compact(regions.features, kept_regions)
        words, word_mask = compact(words, kept_words)
        shown = None
        if self.spans is not None:
            spans = [self.spans[photo][caption] for photo, caption in pairs]
            first = int(self.config.model.bos_eos)
            n, m = int(lengths.max()), regions.mask.shape[1]
            shown = shown_regions(spans, regions.boxes, first=first, words=n, regions=m)  # (B, n, m)
            shown &= kept_words.unsqueeze(2) & kept_regions.unsqueeze(1)  # compact leaves what it drops at padding
            shown = compact(compact(shown, kept_words)[0].mT, kept_regions)[0].mT
        image_ids = torch.tensor([photo for photo, _ in pairs])
        return Batch(features, region_mask, words, word_mask, image_ids, shown)

    def _regions(self, ids: Sequence[str], random: torch.Generator) -> RegionBatch:
        if not self.views:  # nothing is drawn, so that what is dropped stays what it was before there were views
            return self.store.batch(ids)
        drawn = torch.rand(len(ids), generator=random).tolist()
        seen: dict[RegionStore, list[int]] = {}
        for place, (photo_id, share) in enumerate(zip(ids, drawn, strict=True)):
            having = [self.store, *(view for view in self.views if photo_id in view)]
            seen.setdefault(having[int(share * len(having))], []).append(place)
        return interleave([(places, store.batch([ids[i] for i in places])) for store, places in seen.items()])


def drop(mask: Tensor, share: float, random: torch.Generator) -> Tensor:
    """(B, t) bool with ``share`` of each row's valid tokens, rounded down, made invalid at random; one stays."""
    kept = mask.sum(1) - (mask.sum(1) * share).long()
    order = torch.rand(mask.shape, generator=random).masked_fill(~mask, 2).argsort(1)
    rank = order.argsort(1)
    return mask & (rank < kept.clamp(min=1).unsqueeze(1))


def compact(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Valid tokens first, in order, and no wider than the fullest row: (B, t, ...), (B, t) -> (B, u, ...), (B, u)."""
    width = int(mask.sum(1).max())
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]  # (B, u)
    rows = torch.arange(len(mask)).unsqueeze(1)
    return values[rows, order], mask[rows, order]


def step_generator(seed: int, step: int) -> torch.Generator:
    """Random numbers of a step."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1)[0]))
