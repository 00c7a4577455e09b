"""One block on a GPU in float32: ``single_block`` with the forward of its small part in one kernel.

Backwards, and where the kernel (``single_block_kernel``) has no room for a pair or cannot run, for want of Triton or of
the right card, the small part is ``single_block``'s own in plain torch. In the last case a warning says so, once.

Legend: I images, T texts, m regions, n words; z items of t tokens.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from han_retrieval.scoring import single_block
from han_retrieval.scoring.projections import Projections
from han_retrieval.scoring.single_block import PreparedItems, Products, Tables, matches_from_products, products

MOST_TOKENS = 128  # of an item that the kernel takes

# Sizes (M, N) at which the kernel has failed in this process.
_failed: set[tuple[int, int]] = set()


def prepare(projections: Projections, mask: Tensor, *, factors: torch.dtype, over: str = "both") -> PreparedItems:
    """``single_block.prepare`` with its ``squares``, from float32 projections (z, t, d) and mask (z, t)."""
    plain = single_block.prepare(projections, mask, factors=factors, over=over)
    return plain._replace(squares=_squares(plain.tables)) if mask.shape[1] <= MOST_TOKENS else plain


@torch.no_grad()
def _squares(tables: Tables) -> Tensor:
    """The (z, t, t) tables as one (z, 7, M, M), M a power of two that holds t and that tensor cores take, from 16 on.

    So whole vectors of them can be read. A kernel reads this copy, gradients reach the tables themselves.
    """
    t = tables.inner.shape[-1]
    pad = max(16, 1 << (t - 1).bit_length()) - t
    return F.pad(torch.stack(tables[2:], dim=1), (0, pad, 0, pad))


def word_matches(images: PreparedItems, texts: PreparedItems, *, temperature: float) -> Tensor:
    """r_j of every word of every pair, (T, I, n), of what ``prepare`` gave, on one GPU. Differentiable, once."""
    between = products(images, texts)
    if _fits(images, texts):
        try:
            return _KernelMatches.apply(
                temperature, images.squares, texts.squares, *between, *images.tables, *texts.tables
            )
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # what Triton, its compilers and the driver raise has no other common ancestor
            if not _failed:
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                warnings.warn(f"pairs are scored without Triton, more slowly: {reason}", RuntimeWarning, stacklevel=2)
            _failed.add(_size(images, texts))
    return matches_from_products(between, images.tables, texts.tables, temperature=temperature)


def _fits(images: PreparedItems, texts: PreparedItems) -> bool:
    """Whether the kernel takes such pairs.

    At 64 regions and 64 words, or 128 and 32, its matrices are far from fitting into registers (compiled for capability
    8.0: 20 KB of a thread's numbers in memory), and it counts the numbers that an image's products have in 32 bits.
    """
    if images.squares is None or texts.squares is None:
        return False
    M, N = _size(images, texts)
    counted = texts.tables.closed.numel() * images.tables.closed.shape[1]  # T n m
    return N <= 32 and M * N <= 64 * 32 and counted < 1 << 31 and (M, N) not in _failed


def _size(images: PreparedItems, texts: PreparedItems) -> tuple[int, int]:
    """M and N of the squares."""
    assert images.squares is not None
    assert texts.squares is not None
    return images.squares.shape[-1], texts.squares.shape[-1]


class _KernelMatches(torch.autograd.Function):
    """Forward by the kernel; backward through torch's statements, computed anew from the products."""

    @staticmethod
    def forward(ctx: Any, temperature: float, image_squares: Tensor, text_squares: Tensor, *tensors: Tensor) -> Tensor:
        from han_retrieval.scoring.gpu import single_block_kernel  # Triton is not everywhere, and slow to import

        ctx.save_for_backward(*tensors)
        ctx.temperature = temperature
        between, image_tables, text_tables = _sorted(tensors)
        return single_block_kernel.matches(
            between, image_tables, text_tables, image_squares, text_squares, temperature=temperature
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_matches: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[3:]
        tensors = [x.detach().requires_grad_(need) for x, need in zip(ctx.saved_tensors, needed, strict=True)]
        with torch.enable_grad():
            r = matches_from_products(*_sorted(tensors), temperature=ctx.temperature)
        wanted = [x for x in tensors if x.requires_grad]
        gradients = iter(torch.autograd.grad(r, wanted, d_matches, allow_unused=True))
        return None, None, None, *(next(gradients) if need else None for need in needed)


def _sorted(tensors: Any) -> tuple[Products, Tables, Tables]:
    """The products and both sides' tables, from one after another."""
    p, t = len(Products._fields), len(Tables._fields)
    return Products(*tensors[:p]), Tables(*tensors[p : p + t]), Tables(*tensors[p + t :])
