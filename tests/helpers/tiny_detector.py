"""A bottom-up network of random weights, small and quick."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from han_retrieval.regions.bottom_up import BottomUp, BottomUpConfig, Names

NAMES = Names(nouns=("thing", "dog", "ball", "man"), attributes=("red", "big"), together=((), (0,), (0, 1), (1,)))


def tiny_network(*, seed: int = 0, size: int = 96) -> BottomUp:
    torch.manual_seed(seed)
    network = BottomUp(BottomUpConfig(names=NAMES, channels=8, representation=16, size=size))
    with torch.no_grad():  # heads that tell boxes apart, unlike those that training begins with
        for layer in (network.heads.nouns, network.heads.attributes, network.heads.offsets):
            layer.weight.normal_(std=0.5)
    return network.eval()


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
