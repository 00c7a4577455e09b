"""Batches of matching images and captions: a function of the seed and the step, so that a run resumes exactly.

Legend: B pairs a batch, b of them this rank's (all, in one process), m regions, n words, D numbers a region feature.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from han_retrieval.data import CaptionedPhotos, EntitiesPhotos
from han_retrieval.matchers import Matcher
from han_retrieval.parsing import shown
from han_retrieval.ranks import ALONE, Ranks
from han_retrieval.regions import RegionBatch, RegionStore
from han_retrieval.regions.rows import interleave
from han_retrieval.text import Tokenizer, Vocabulary, pad_rows, tokenize
from han_retrieval.text.frozen import FrozenTokens
from han_retrieval.text.tokenizer import Ids, check_length, check_words
from han_retrieval.training.config import TrainingConfig
from han_retrieval.training.phrases import Span, caption_spans, id_spans, shown_regions
from han_retrieval.training.run_folder import content_hash
from han_retrieval.training.shared_captions import SimilarCaptions, photos_having
from han_retrieval.training.steps import EpochBatches, step_generator

Inputs = Callable[[RegionBatch], tuple[Tensor, Tensor]]
"""What a matcher takes of photos; see ``Matcher.image_inputs``."""


def regions_of(batch: RegionBatch) -> tuple[Tensor, Tensor]:
    """What most matchers take: the regions and their mask."""
    return batch.features, batch.mask


class PhotoGroup(NamedTuple):
    """Photos of a batch that have one shape.

    Attributes:
        places: The places among this rank's pairs of those that each photo is in.
        pixels: (b, 3, h, w) uint8 RGB, once for each size at which a backbone sees photos.
    """

    places: list[list[int]]
    pixels: tuple[Tensor, ...]


class Batch(NamedTuple):
    """Matching pairs, without the regions and words that this step drops.

    Attributes:
        regions: (b, m, D) float32, or what else the matcher takes of photos. With ``photos``, (b, m, 4) boxes instead.
        region_mask: (b, m) bool.
        words: (b, n) int64 ids, (b, n, s) of a language model; (b, n, F) float32 tokens of one that is frozen.
        word_mask: (B, n) bool.
        image_ids: (B,) int64, the photo's place in ``Batches.photo_ids``.
        shown: (b, n, m) bool, the regions that show what a word names; None where that is not known.
        matching: (b, B) bool, true where a column's caption is one of a row's photo as well, or similar to one; None
            where no two photos share one, or that does not count.
        photos: The photos themselves, from which a backbone that is trained along computes features; None where
            features are stored.
    """

    regions: Tensor
    region_mask: Tensor
    words: Tensor
    word_mask: Tensor
    image_ids: Tensor
    shown: Tensor | None = None
    matching: Tensor | None = None
    photos: Sequence[PhotoGroup] | None = None


@dataclass(frozen=True)
class Batches(EpochBatches[list[tuple[int, int]], Batch]):
    """The training pairs of a run, in the order of its steps.

    Attributes:
        photo_ids: The photos.
        captions: Ids, by photo and caption.
        store: The regions of the photos.
        config: How to train.
        spans: Phrases with boxes, by photo and caption, as spans of ids; None where no annotations are used.
        augmentations: Further stores of the photos: each time a photo is used, one of its stores is drawn at random.
        inputs: What the matcher takes of them.
        having: The photos that have a caption, by photo and caption; empty where no two share one, or where that does
            not count.
        similar: Which captions are similar; None where that does not count.
        tokens: The captions' tokens, of a text encoder that is frozen.
        ranks: Those that share each batch; the regions of this one's photos alone are read.
        counts: Of several ranks, the photos' numbers of regions, of ``store`` and of each of the ``augmentations``.
    """

    photo_ids: Sequence[str]
    captions: Sequence[Sequence[Ids]]
    store: RegionStore
    config: TrainingConfig
    spans: Sequence[Sequence[Sequence[Span]]] | None = None
    augmentations: Sequence[RegionStore] = ()
    inputs: Inputs = regions_of
    having: Sequence[Sequence[frozenset[int]]] = ()
    similar: SimilarCaptions | None = None
    tokens: FrozenTokens | None = None
    ranks: Ranks = ALONE
    counts: Sequence[Mapping[str, int]] = ()

    @classmethod
    def of(
        cls,
        dataset: CaptionedPhotos,
        store: RegionStore,
        tokenizer: Tokenizer,
        config: TrainingConfig,
        *,
        annotations: EntitiesPhotos | None = None,
        augmentations: Sequence[RegionStore] = (),
        inputs: Inputs = regions_of,
        ranks: Ranks = ALONE,
    ) -> Batches:
        """Take the photos of ``dataset`` that the store has, with their captions that have a word.

        With ``annotations``, batches say which regions show what a word names. A photo's regions come from the store
        or, with equal chances, from one of the ``augmentations`` that have it.

        Raises:
            DataError: A caption has more than ``MOST_WORDS`` words.
            ModelError: The tokenizer finds other words in an annotated caption than the annotations have.
        """
        photo_ids, captions, sentences, spans = [], [], [], []
        sizes = {photo.id: (photo.width, photo.height) for photo in store.photos()} if annotations is not None else {}
        for photo in dataset.photos:
            if photo.id in store:
                encoded = {s: tokenizer.encode(s) for s in photo.captions}
                for s, each in encoded.items():
                    check_length((*each.words, *each.left_out), where=f"photo {photo.id!r}, caption {shown(s)}")
                worded = [s for s in photo.captions if encoded[s].words]
                if worded:
                    photo_ids.append(photo.id)
                    captions.append([encoded[s].ids for s in worded])
                    sentences.append(worded)
                    if annotations is not None:
                        width, height = sizes[photo.id]
                        found = caption_spans(photo, annotations, width=width, height=height)
                        for s in found.keys() & worded:
                            check_words(encoded[s], tokenize(s))
                        spans.append([id_spans(found.get(s, ()), encoded[s].spans) for s in worded])
        ignored, share = config.equal_captions == "ignored", config.similar_captions
        having = photos_having(sentences) if ignored else ()
        similar = SimilarCaptions(sentences, share) if ignored and share else None
        given = None if annotations is None else spans
        counts = [each.region_counts() for each in (store, *augmentations)] if ranks.count > 1 else ()
        return cls(
            photo_ids,
            captions,
            store,
            config,
            spans=given,
            augmentations=augmentations,
            inputs=inputs,
            having=having,
            similar=similar,
            ranks=ranks,
            counts=counts,
        )

    @property
    def caption_count(self) -> int:
        """Captions in an epoch."""
        return sum(map(len, self.captions))

    @property
    def shared_count(self) -> int:
        """Captions in an epoch that other photos have as well."""
        return sum(len(photos) > 1 for of_photo in self.having for photos in of_photo)

    @property
    def grounded_count(self) -> int:
        """Captions with a phrase whose box is known."""
        return sum(bool(spans) for of_photo in self.spans or () for spans in of_photo)

    def content_hash(self, vocabulary: Vocabulary, dev: CaptionedPhotos | None) -> str:
        """A hash of the words, the captions and their phrases, and of the dev photos."""
        watched = None if dev is None else [(photo.id, photo.captions) for photo in dev.photos]
        spans = [
            [(span.start, span.end, span.boxes.tolist()) for span in of_caption]
            for of_photo in self.spans or ()
            for of_caption in of_photo
        ]
        return content_hash([vocabulary.words, self.photo_ids, self.captions, spans, watched])

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return len(self._epoch(0))

    def _epoch(self, epoch: int) -> list[list[tuple[int, int]]]:
        """An epoch's batches of (photo, caption) places: every caption once, no photo twice in a round.

        Round k takes the k-th ``captions_per_photo`` captions, in an order of its own, of each photo that has so many.
        What does not fill a batch at the end of a round is a smaller one; a single photo has no negative and waits for
        another epoch. How many batches there are depends on the photos' numbers of captions alone.
        """
        random = np.random.default_rng([self.config.seed, epoch])
        orders = [random.permutation(len(captions)) for captions in self.captions]
        count = self.config.captions_per_photo
        batches: list[list[tuple[int, int]]] = []
        for start in range(0, max(map(len, orders), default=0), count):
            photos = random.permutation([photo for photo, order in enumerate(orders) if len(order) > start])
            groups = [[(photo, int(c)) for c in orders[photo][start : start + count]] for photo in photos.tolist()]
            batch: list[tuple[int, int]] = []
            for pairs in _in_fixed_sizes(groups):
                if len(batch) + len(pairs) > self.config.batch_size:
                    batches.append(batch)
                    batch = []
                batch += pairs
            batches.append(batch)
        return [batch for batch in batches if batch and batch[0][0] != batch[-1][0]]

    def _load(self, step: int, part: list[tuple[int, int]]) -> Batch:
        random, own = step_generator(self.config.seed, step), self.ranks.rows(len(part))
        inputs, mask, boxes, photos = self._photos(step, [self.photo_ids[photo] for photo, _ in part], random)
        ids = [self.captions[photo][caption] for photo, caption in part]
        _, word_mask = pad_rows([torch.zeros(len(each)) for each in ids])
        words, _ = pad_rows([torch.tensor(each) if self.tokens is None else self.tokens[each] for each in ids[own]])
        words = widened(words, word_mask.shape[1])
        kept_regions = drop(mask, self.config.region_drop, random)[own]  # drawn for the whole batch
        kept_words = drop(word_mask, self.config.word_drop, random)
        width = int(kept_words.sum(1).max())  # of the words of all ranks
        shown = None
        if self.spans is not None:
            spans = [self.spans[photo][caption] for photo, caption in part[own]]
            n, m = words.shape[1], mask.shape[1]
            shown = shown_regions(spans, boxes, words=n, regions=m)  # (b, n, m)
            shown &= kept_words[own].unsqueeze(2) & kept_regions.unsqueeze(1)  # compact leaves what it drops at padding
            shown = compact(compact(shown, kept_words[own], width)[0].mT, kept_regions)[0].mT
        features, region_mask = compact(inputs, kept_regions)
        words, _ = compact(words, kept_words[own], width)
        _, word_mask = compact(word_mask, kept_words)
        image_ids = torch.tensor([photo for photo, _ in part])
        matching = None
        if self.having:
            having = [self.having[photo][caption] for photo, caption in part]
            matching = torch.tensor([[photo in photos for photos in having] for photo, _ in part[own]])
        if self.similar is not None:
            similar = self.similar.matching(part, own)
            matching = similar if matching is None else matching | similar
        return Batch(features, region_mask, words, word_mask, image_ids, shown, matching, photos)

    def _photos(
        self,
        step: int,  # of those that take the photos themselves
        ids: Sequence[str],
        random: torch.Generator,
    ) -> tuple[Tensor, Tensor, Sequence[np.ndarray | None], Sequence[PhotoGroup] | None]:
        """What a step takes of photos: what ``_regions`` gives, and what ``Batch.photos`` is."""
        return *self._regions(ids, random), None

    def _regions(
        self, ids: Sequence[str], random: torch.Generator
    ) -> tuple[Tensor, Tensor, Sequence[np.ndarray | None]]:
        """What the matcher takes of this rank's photos (b, m, ...), the mask (B, m) of all, and this rank's boxes."""
        stores = (self.store, *self.augmentations)
        chosen = [0] * len(ids)
        if self.augmentations:  # else nothing is drawn: what is dropped stays what it is without augmentation
            for place, share in enumerate(torch.rand(len(ids), generator=random).tolist()):
                having = [number for number, store in enumerate(stores) if not number or ids[place] in store]
                chosen[place] = having[int(share * len(having))]
        own = self.ranks.rows(len(ids))
        reads_all = own == slice(0, len(ids)) or not _takes_regions(self.inputs)
        read = slice(0, len(ids)) if reads_all else own
        places: dict[int, list[int]] = {}
        for place, number in enumerate(chosen[read]):
            places.setdefault(number, []).append(place)
        parts = [(some, stores[number].batch([ids[read][i] for i in some])) for number, some in places.items()]
        regions = interleave(parts) if len(parts) > 1 else parts[0][1]
        inputs, mask = self.inputs(regions)
        if reads_all:
            return inputs[own], mask, regions.boxes[own]
        counts = torch.tensor([self.counts[number][photo_id] for number, photo_id in zip(chosen, ids, strict=True)])
        mask = torch.arange(int(counts.max())) < counts.unsqueeze(1)  # (B, m)
        return widened(inputs, mask.shape[1]), mask, regions.boxes


def _takes_regions(inputs: Inputs) -> bool:
    """Whether ``inputs`` gives the regions as they are, so that their numbers say what the mask is."""
    return inputs is regions_of or getattr(inputs, "__func__", None) is Matcher.image_inputs


def widened(values: Tensor, width: int) -> Tensor:
    """(b, t, ...) to (b, width, ...), with zeros behind."""
    return functional.pad(values, (*(0, 0) * (values.ndim - 2), 0, width - values.shape[1]))


def _in_fixed_sizes(groups: Sequence[list[tuple[int, int]]]) -> list[list[tuple[int, int]]]:
    """Groups as they come, but with their sizes in an order that is the same for all groups of the same sizes.

    Where they fill batches, they fill as many in each epoch then. A group of the most common size is the last, so that
    a photo that is left over at the end is another one each time.
    """
    sizes = sorted(map(len, groups))
    common = Counter(sizes).most_common(1)[0][0]
    sizes.remove(common)
    of_size = {size: iter([group for group in groups if len(group) == size]) for size in {*sizes, common}}
    return [next(of_size[size]) for size in [*np.random.default_rng(0).permutation(sizes).tolist(), common]]


def drop(mask: Tensor, share: float, random: torch.Generator) -> Tensor:
    """(B, t) bool with ``share`` of each row's valid tokens, rounded down, made invalid at random; one stays."""
    kept = mask.sum(1) - (mask.sum(1) * share).long()
    order = torch.rand(mask.shape, generator=random).masked_fill(~mask, 2).argsort(1)
    rank = order.argsort(1)
    return mask & (rank < kept.clamp(min=1).unsqueeze(1))


def compact(values: Tensor, mask: Tensor, width: int = 0) -> tuple[Tensor, Tensor]:
    """Valid tokens first, in order: (B, t, ...), (B, t) -> (B, u, ...), (B, u).

    They are as wide as the fullest row, or ``width``, which must not be less.
    """
    width = width or int(mask.sum(1).max())
    order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]  # (B, u)
    rows = torch.arange(len(mask)).unsqueeze(1)
    return values[rows, order], mask[rows, order]
