"""A small matcher of each kind, and items for it."""

from __future__ import annotations

import torch
from two_towers import POOLED, register_towers

from han_retrieval.matchers import Matcher, matcher_class
from han_retrieval.text import Vocabulary

LEARNING = ["han", "scan", "vse++", "vse-infinity", "maxsim"]
NAMES = [*LEARNING, "pooled"]
SENTENCES = ["a red ball", "two dogs in the deep snow", "snow", "a dog and a ball"]


def small_matcher(name: str, **options: object) -> Matcher:
    """A matcher with random weights, those of its pooling and normalisation too, in evaluation mode."""
    torch.manual_seed(0)
    vocabulary = Vocabulary.from_sentences(SENTENCES)
    if name == "pooled":
        options = {"text_encoder": register_towers(), **options}
    sizes = {"region_size": 6, "vocabulary_size": len(vocabulary), "word_size": 5, "joint_size": 8}
    kind = matcher_class(name)
    model = kind(kind.config_class(**sizes, **options), vocabulary=vocabulary)
    for key, value in model.state_dict().items():
        if key.endswith("running_mean"):
            value.normal_()
        if key.endswith("running_var"):
            value.uniform_(0.5, 2)
    return model.eval()


def random_images(name: str, images: int, m: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What a matcher of this kind takes of photos: ``random_regions``, or a vector each, (I, 1, P), and its mask."""
    if name != "pooled":
        return random_regions(images, m)
    vectors = torch.randn(images, 1, POOLED, generator=torch.Generator().manual_seed(0))
    return vectors, torch.ones(images, 1, dtype=torch.bool)


def random_regions(images: int, m: int, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """(I, m, 6) features, NaN where the (I, m) mask has none."""
    random = torch.Generator().manual_seed(seed)
    mask = torch.rand(images, m, generator=random) < 0.6
    mask[:, seed % m] = True
    features = torch.randn(images, m, 6, generator=random)
    return features.masked_fill(~mask.unsqueeze(-1), torch.nan), mask
