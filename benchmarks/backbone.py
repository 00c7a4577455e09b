"""What a step of a backbone that is trained along costs a photo, with and without the gradients of depthwise filters.

    OMP_NUM_THREADS=1 python benchmarks/backbone.py [--photos 32] [--rounds 3]

Processor time of the forward and the backward pass of EfficientNet-Lite2 at 224 x 224 pixels, the least of some rounds.
"""

from __future__ import annotations

import time

import click

from han_retrieval.process import tune_process

tune_process()  # before torch is imported

import torch  # noqa: E402
from torch import nn  # noqa: E402

from han_retrieval.regions.efficientnet_lite import EfficientNetLite2  # noqa: E402
from han_retrieval.training.backbone import LearningNetwork  # noqa: E402
from han_retrieval.training.config import BackboneConfig  # noqa: E402


@click.command()
@click.option("--photos", default=32, show_default=True)
@click.option("--rounds", default=3, show_default=True)
def main(photos: int, rounds: int) -> None:
    """Print milliseconds a photo."""
    pixels = torch.randint(0, 256, (photos, 3, 224, 224), dtype=torch.uint8)
    click.echo(
        "| precision | frozen stages | depthwise filters | forward, ms | forward and backward, ms |\n"
        + "|---" * 5
        + "|"
    )
    for precision in ("float32", "bfloat16"):
        for frozen in (4, 0):
            for filters in ("frozen", "learn"):
                network = LearningNetwork(
                    EfficientNetLite2(), BackboneConfig(frozen_stages=frozen, precision=precision)
                )
                if filters == "learn":
                    for stage in network.network.stages[frozen:]:
                        for part in stage.modules():
                            if isinstance(part, nn.Conv2d):
                                part.requires_grad_(True)
                passes = [_time(network, pixels, backward=backward, rounds=rounds) for backward in (False, True)]
                forward, both = (1000 * seconds / photos for seconds in passes)
                click.echo(f"| {precision} | {frozen} | {filters} | {forward:.1f} | {both:.1f} |")


def _time(network: nn.Module, pixels: torch.Tensor, *, backward: bool, rounds: int) -> float:
    taken = []
    for _ in range(rounds + 1):
        begun = time.process_time()
        with torch.set_grad_enabled(backward):
            found = network(pixels)
        if backward:
            found.square().mean().backward()
        taken.append(time.process_time() - begun)
    return min(taken[1:])


if __name__ == "__main__":
    main()
