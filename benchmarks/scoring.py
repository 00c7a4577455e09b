"""Pairs a second of the Gram-space scorer against the plain forward, in one run on one machine.

    python benchmarks/scoring.py [--images 128] [--texts 128] [--joint-size 1024] [--blocks 1]

The reference is ``backend="reference"``: the d-wide forward, a caption at a time over all images, in float32, on a
slice of the captions, with freed memory kept. Both are timed after a warm-up; the median of ``--repeats`` runs counts.
The limit is 6 m n d multiply-adds a pair (valid words only) at the rate of a large matrix product measured just before.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import click

from han_retrieval.process import tune_process

tune_process()  # before torch is imported

import torch  # noqa: E402

from han_retrieval.matchers import HAN, HANConfig  # noqa: E402

# How many of Flickr8k's training and dev captions have 2, 3, ... 24 words, in thousandths.
LENGTHS = (1, 6, 13, 32, 66, 85, 97, 109, 110, 103, 90, 76, 62, 43, 32, 23, 17, 12, 7, 5, 4, 2, 2)


@click.command()
@click.option("--images", default=128, show_default=True)
@click.option("--texts", default=128, show_default=True)
@click.option("--regions", default=36, show_default=True)
@click.option("--joint-size", default=1024, show_default=True)
@click.option("--blocks", default=1, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures there as well.")
def main(
    images: int, texts: int, regions: int, joint_size: int, blocks: int, repeats: int, json_file: Path | None
) -> None:
    """Print the rates of both scorers, forward and training step, and what they differ by."""
    torch.manual_seed(0)
    model = HAN(HANConfig(region_size=64, vocabulary_size=1000, joint_size=joint_size, blocks=blocks))
    lengths = torch.multinomial(torch.tensor(LENGTHS, dtype=torch.float), texts, replacement=True) + 2
    word_mask = torch.arange(int(lengths.max())) < lengths.unsqueeze(1)
    region_mask = torch.ones(images, regions, dtype=torch.bool)
    with torch.no_grad():
        image_tokens = model.encode_images(torch.randn(images, regions, 64), region_mask)
        text_tokens = model.encode_texts(torch.randint(4, 1000, word_mask.shape), word_mask)

    def score(count: int, backend: str) -> torch.Tensor:
        return model.score(image_tokens, region_mask, text_tokens[:count], word_mask[:count], backend=backend)

    def step(count: int, backend: str) -> None:
        model.zero_grad()
        score(count, backend).sum().backward()

    slice_ = min(4, texts)
    with torch.inference_mode():
        gram_seconds = _seconds(lambda: score(texts, "gram"), repeats)
        reference_seconds = _seconds(lambda: score(slice_, "reference"), repeats)
        difference = float((score(slice_, "gram") - score(slice_, "reference")).abs().max())
    gram_step = _seconds(lambda: step(texts, "gram"), repeats)
    reference_step = _seconds(lambda: step(min(2, texts), "reference"), repeats)

    rate = _matrix_product_rate(repeats)
    words = float(lengths.float().mean())
    multiply_adds = 6 * regions * words * joint_size
    gram, reference = images * texts / gram_seconds, images * slice_ / reference_seconds
    trained, trained_reference = images * texts / gram_step, images * min(2, texts) / reference_step
    figures = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "sizes": f"{images} images x {texts} texts, m {regions}, n {words:.1f}, d {joint_size}, L {blocks}",
        "matrix product, GFLOP/s": round(rate / 1e9, 1),
        "reference, pairs/s": round(reference, 1),
        "Gram space, pairs/s": round(gram, 1),
        "ratio": round(gram / reference, 1),
        "share of the limit": round(gram * 2 * multiply_adds / rate, 3),
        "reference step, pairs/s": round(trained_reference, 1),
        "Gram space step, pairs/s": round(trained, 1),
        "ratio of steps": round(trained / trained_reference, 1),
        "greatest difference": difference,
    }
    width = max(map(len, figures))
    for name, value in figures.items():
        click.echo(f"{name:<{width}}  {value}")
    if json_file:
        json_file.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _seconds(run: Callable[[], object], repeats: int) -> float:
    """The median of a few runs after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return median(times[1:])


def _matrix_product_rate(repeats: int) -> float:
    """Floating-point operations a second of a 2048-cubed float32 product."""
    left, right = torch.randn(2048, 2048), torch.randn(2048, 2048)
    return 2 * 2048**3 / _seconds(lambda: left @ right, repeats)


if __name__ == "__main__":
    main()
