"""A model and made-up tokens of images and texts, and what benchmarks of pairs measure with them."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from han_retrieval.process import tune_process

tune_process()  # before torch is imported

import torch  # noqa: E402

from han_retrieval.losses import soft_max_triplet_loss  # noqa: E402
from han_retrieval.matchers import HAN, HANConfig  # noqa: E402

# How many of Flickr8k's training and dev captions have 2, 3, ... 24 words, in thousandths.
LENGTHS = (1, 6, 13, 32, 66, 85, 97, 109, 110, 103, 90, 76, 62, 43, 32, 23, 17, 12, 7, 5, 4, 2, 2)
REGIONS = 36

Places = slice | torch.Tensor
ALL = slice(None)


class Setting:
    """A model and its tokens of some images and texts."""

    def __init__(
        self, images: int, texts: int, *, d: int, regions: int = REGIONS, words: int | None = None, **options: Any
    ):
        torch.manual_seed(0)
        self.model = HAN(HANConfig(region_size=64, vocabulary_size=1000, joint_size=d, **options))
        if words:
            self.lengths = torch.full((texts,), words)
        else:
            self.lengths = torch.multinomial(torch.tensor(LENGTHS, dtype=torch.float), texts, replacement=True) + 2
        self.word_mask = torch.arange(int(self.lengths.max())) < self.lengths.unsqueeze(1)
        self.region_mask = torch.ones(images, regions, dtype=torch.bool)
        self.images = unit_tokens(images, regions, d)
        self.texts = unit_tokens(texts, self.word_mask.shape[1], d)
        self.before = peak_memory()
        self.words = float(self.lengths.float().mean())
        products = 3 if options.get("attention_over") == "one-way" else 6
        self.flops = 2 * products * regions * self.words * d  # of the products of a pair

    def memory(self) -> int:
        """Greatest memory of this process since it had the tokens, in MB."""
        return round(peak_memory() - self.before)

    def few(self, count: int) -> torch.Tensor:
        """Places of so many texts, at even steps from the shortest of all to the longest."""
        return self.lengths.argsort()[((torch.arange(count) + 0.5) * len(self.lengths) / count).long()]

    def score(self, images: int | None = None, texts: Places = ALL, **options: str) -> torch.Tensor:
        """Scores of the first images and of some texts."""
        return self.model.score(
            self.images[:images], self.region_mask[:images], self.texts[texts], self.word_mask[texts], **options
        )

    def step(self, images: torch.Tensor, texts: Places = ALL, *, backend: str = "gram") -> None:
        """Scores of images' tokens with some texts, loss, and the gradients of all that scoring has."""
        self.model.zero_grad()
        images, tokens = images.detach().requires_grad_(), self.texts[texts].detach().requires_grad_()
        scores = self.model.score(
            images, self.region_mask[: len(images)], tokens, self.word_mask[texts], backend=backend
        )
        if len(images) == len(tokens):
            soft_max_triplet_loss(scores, margin=0.2, power=4).backward()
        else:
            scores.sum().backward()


def unit_tokens(*shape: int) -> torch.Tensor:
    """Random tokens of unit length, made in place: what comes later must not find freed memory."""
    tokens = torch.empty(*shape)
    for item in tokens:
        item.normal_()
        item.div_(item.norm(dim=-1, keepdim=True))
    return tokens


def seconds(run: Callable[[], object], repeats: int, *, warm: bool = True) -> float:
    """The median of a few runs, after one that is not counted."""
    times = []
    for _ in range(repeats + warm):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return median(times[warm:])


def product_rate(dtype: torch.dtype = torch.float32) -> float:
    """Floating-point operations a second of a 2048-cubed product."""
    left, right = torch.randn(2048, 2048).to(dtype), torch.randn(2048, 2048).to(dtype)
    return 2 * 2048**3 / seconds(lambda: left @ right, 7)


def peak_memory() -> float:
    """Greatest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
