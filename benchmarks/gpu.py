"""How fast pairs are scored on a GPU: with the Triton kernel, with torch's statements in its place, and the limit.

    python benchmarks/gpu.py [--images 1000] [--texts 5000]

Needs a CUDA device and prints, for one block at d = 1024 and 36 regions, captions having Flickr8k's lengths:

- the rate of an 8192-cubed product in each precision; "tf32" is precision "float32" with products that torch may round
  to TF32. The *limit* is 6 m n d multiply-adds a pair (valid words only) at that rate;
- all pairs: seconds, share of the limit, memory beyond the inputs, and the greatest difference of 64 x 64 scores from
  those of the formulas in float64;
- a training step of 128 x 128 pairs: scores, loss and gradients of tokens and weights.

Times are medians after a warm-up, in which the kernel is compiled.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

import click

sys.path.insert(0, str(Path(__file__).parent))

from pairs import Setting, seconds  # tunes the process, so before torch is imported

import torch  # isort: skip

from han_retrieval.scoring.gpu import single_block as gpu_single_block

D = 1024
BATCH = 128
PRECISIONS = ("float32", "tf32", "bfloat16")


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether float32 products may be rounded to TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def small_part(name: str) -> Iterator[None]:
    """The small part of a pair by "Triton" or by "torch"."""
    with patch.object(gpu_single_block, "_fits", lambda *_: False) if name == "torch" else nullcontext():
        yield


def timed(run: Callable[[], object], repeats: int) -> float:
    """Seconds until the card has finished."""

    def to_the_end() -> None:
        run()
        torch.cuda.synchronize()

    return seconds(to_the_end, repeats)


def product_rate(precision: str, size: int = 8192) -> float:
    """Floating-point operations a second of a large product."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    left, right = (torch.randn(size, size, device="cuda").to(dtype) for _ in range(2))
    with tf32(precision == "tf32"):
        return 2 * size**3 / timed(lambda: left @ right, 9)


def all_pairs(setting: Setting, rates: dict[str, float]) -> None:
    """Seconds, share of the limit and error of each precision, by either way."""
    few = 64
    exact_model = copy.deepcopy(setting.model).double()
    masks = setting.region_mask[:few], setting.word_mask[:few]
    images, texts = setting.images[:few].double(), setting.texts[:few].double()
    exact = exact_model.score(images, masks[0], texts, masks[1], backend="reference")
    pairs = len(setting.images) * len(setting.texts)
    click.echo(f"\n{len(setting.images)} x {len(setting.texts)} pairs, {setting.words:.1f} words a caption, d {D}")
    click.echo("  products  small part  seconds  share of the limit  greatest difference from float64  memory, GB")
    for precision in PRECISIONS:
        for way in ("Triton", "torch"):

            def score(count: int | None = None, precision: str = precision) -> torch.Tensor:
                return setting.model.score(
                    setting.images[:count], setting.region_mask[:count], setting.texts[:count],
                    setting.word_mask[:count], precision="bfloat16" if precision == "bfloat16" else "float32",
                )  # fmt: skip

            with tf32(precision == "tf32"), small_part(way):
                difference = float((score(few) - exact).abs().max())
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
                time = timed(score, 3)
                memory = (torch.cuda.max_memory_allocated() - before) / 1e9
            share = pairs * setting.flops / rates[precision] / time
            click.echo(f"  {precision:<8}  {way:<10}  {time:<7.3f}  {share:<18.2f}  {difference:<32.1e}  {memory:.1f}")


def training(setting: Setting) -> None:
    """Milliseconds of scores, loss and gradients of a batch."""
    click.echo(f"\na training step of {BATCH} x {BATCH} pairs, d {D}")
    for way in ("Triton", "torch"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        with small_part(way):
            time = timed(lambda: setting.step(setting.images[:BATCH], slice(BATCH)), 9)
        memory = (torch.cuda.max_memory_allocated() - before) / 1e9
        click.echo(f"  {way:<10}  {time * 1e3:.1f} ms, {memory:.1f} GB")


@click.command()
@click.option("--images", default=1000, show_default=True)
@click.option("--texts", default=5000, show_default=True)
def main(images: int, texts: int) -> None:
    """Print what docs/results/speed.md says of a GPU."""
    if not torch.cuda.is_available():
        sys.exit("gpu.py: no CUDA device here, nothing to measure")
    click.echo(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    rates = {precision: product_rate(precision) for precision in PRECISIONS}
    for precision, rate in rates.items():
        click.echo(f"  {rate / 1e12:.1f} TFLOP/s of a large product in {precision}")
    with torch.device("cuda"):
        setting = Setting(images, texts, d=D)
    with torch.inference_mode():
        all_pairs(setting, rates)
    training(setting)
    if gpu_single_block._failed:
        click.echo(f"  the kernel failed with (M, N) = {sorted(gpu_single_block._failed)}: torch's statements ran")


if __name__ == "__main__":
    main()
