"""Made-up evidence, and a small model for tests that need one."""

from __future__ import annotations

import numpy as np
import torch

from han_retrieval.evidence import Evidence
from han_retrieval.matchers import HAN, HANConfig
from han_retrieval.text import Vocabulary, tokenize

SENTENCE = "A red ball to the left of a blue house."


def made_up(
    sentence: str = SENTENCE,
    *,
    regions: int = 6,
    size: tuple[int, int] = (200, 150),
    seed: int = 0,
    photo: object = None,
) -> Evidence:
    rng = np.random.default_rng(seed)
    words = tuple(tokenize(sentence))
    corner = rng.uniform(0, 0.6, (regions, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.1, 0.4, (regions, 2))], 1) * np.array(size * 2)
    return Evidence(
        sentence=sentence,
        words=words,
        known=tuple(i % 5 != 3 for i in range(len(words))),
        score=0.25,
        match=rng.uniform(-1, 1, len(words)),
        alignment=rng.dirichlet(np.full(regions, 0.3), len(words)),
        boxes=boxes.astype(np.float32),
        width=size[0],
        height=size[1],
        photo=photo,
    )


def small_model(*, region_size: int, fingerprint: str | None = None, bos_eos: bool = False) -> HAN:
    torch.manual_seed(0)
    vocabulary = Vocabulary.from_sentences([SENTENCE])
    config = HANConfig(
        region_size=region_size,
        vocabulary_size=len(vocabulary),
        word_size=8,
        joint_size=16,
        detector_fingerprint=fingerprint,
        bos_eos=bos_eos,
    )
    return HAN(config, vocabulary=vocabulary).eval()
