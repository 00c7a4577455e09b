"""A small matcher and a region store in memory, for the tests of evaluation."""

from __future__ import annotations

import zlib
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch.nn import functional as F

from han_retrieval.data import CaptionedPhoto, CaptionedPhotos
from han_retrieval.errors import QueryError
from han_retrieval.regions import Regions
from han_retrieval.text import EncodedSentence, tokenize

SIZE = 8


class MaxMatcher:
    """The mean over words of the highest cosine with a region."""

    def __init__(self, *, fingerprint="boxes-1", bos_eos=False, unreadable=()):
        self.unreadable = unreadable
        self.config = SimpleNamespace(region_size=SIZE, detector_fingerprint=fingerprint, bos_eos=bos_eos)
        self.training = True
        self.calls = []

    def train(self, mode=True):
        self.training = mode
        return self

    def words(self, sentences):
        rows = [[zlib.crc32(word.encode()) % 1000 + 3 for word in tokenize(s)] for s in sentences]
        if self.config.bos_eos:
            rows = [[1, *row, 2] for row in rows]
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
        for row, numbers in zip(ids, rows, strict=True):
            row[: len(numbers)] = torch.tensor(numbers)
        return ids, ids > 0

    def encode_sentence(self, sentence):
        if not tokenize(sentence) or sentence in self.unreadable:
            raise QueryError("no words")
        ids, _ = self.words([sentence])
        words, first = tokenize(sentence), int(self.config.bos_eos)
        spans = tuple((first + i, first + i + 1) for i in range(len(words)))
        return EncodedSentence(ids[0].tolist(), tuple(words), (True,) * len(words), spans)

    def image_inputs(self, batch):
        return batch.features, batch.mask

    def encode_images(self, regions, region_mask):
        assert not self.training
        return F.normalize(regions, dim=-1) * region_mask.unsqueeze(-1)

    def encode_texts(self, words, word_mask):
        table = torch.randn(1003, SIZE, generator=torch.Generator().manual_seed(0))
        return F.normalize(table[words], dim=-1) * word_mask.unsqueeze(-1)

    def score(self, image_tokens, region_mask, text_tokens, word_mask, *, precision="float32"):
        self.calls.append((len(image_tokens), *text_tokens.shape[:2]))
        cosines = torch.einsum("imd,tnd->itnm", image_tokens, text_tokens)
        best = cosines.masked_fill(~region_mask[:, None, None], -torch.inf).amax(-1)
        return (best * word_mask).sum(-1) / word_mask.sum(-1)

    def explain(self, regions, words):
        mask = torch.ones(1, len(words), dtype=torch.bool)
        tokens = self.encode_texts(words.unsqueeze(0), mask)[0]
        return SimpleNamespace(alignment=(9 * tokens @ F.normalize(regions, dim=-1).T).softmax(-1))

    def alignments(self, regions, sentences):
        return [self.explain(regions, words).alignment for words in sentences]


class MemoryStore:
    """What RegionStore offers, from a dict of regions."""

    def __init__(self, regions, *, fingerprint="boxes-1", feature_size=SIZE):
        self.regions = regions
        self.fingerprint = fingerprint
        self.feature_size = feature_size

    def __contains__(self, photo_id):
        return photo_id in self.regions

    def read(self, ids):
        return [self.regions[photo_id] for photo_id in ids]

    def batch(self, ids):
        found = self.read(ids)
        m = max(len(regions.features) for regions in found)
        features = torch.zeros(len(found), m, self.feature_size)
        mask = torch.zeros(len(found), m, dtype=torch.bool)
        for row, regions in enumerate(found):
            features[row, : len(regions.features)] = torch.from_numpy(regions.features).float()
            mask[row, : len(regions.features)] = True
        return SimpleNamespace(features=features, mask=mask, boxes=[regions.boxes for regions in found])


def regions(features, boxes=None, *, width=0, height=0):
    return Regions(
        np.asarray(features, dtype=np.float16),
        None if boxes is None else np.asarray(boxes, dtype=np.float32),
        width,
        height,
    )


def photos(captions, *, split="dev", source="photos"):
    """{id: captions} as a dataset."""
    items = tuple(CaptionedPhoto(id=name, path=None, captions=tuple(of), split=split) for name, of in captions.items())
    return CaptionedPhotos(format="test", source=Path(source), photos=items, skipped=Counter())


def random_task(count, *, seed=0, captions=(0, 1, 2, 5)):
    """A dataset of ``count`` photos with 1 to 4 random regions each, and the store of them."""
    rng = np.random.default_rng(seed)
    words = ["red", "dog", "runs", "blue", "ball", "two", "men", "grass", "over", "jump"]
    said = {
        f"{row} photo.jpg": [" ".join(rng.choice(words, size=rng.integers(1, 7))) for _ in range(rng.choice(captions))]
        for row in range(count)
    }
    store = MemoryStore({name: regions(rng.standard_normal((rng.integers(1, 5), SIZE))) for name in said})
    return photos(said), store
