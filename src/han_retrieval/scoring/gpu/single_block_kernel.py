"""The small part of ``single_block`` on a GPU, forward, a program a pair: only its matches are written to memory.

The statements are those of ``single_block.matches_from_products`` with the same names, in an order that makes every
product one of an M-row matrix, and fewer of them. With Z_jk = b_j pu_jk + cu_jk inside a text,

    S = a (N_o V) + (cu + E UU') F + b (CU N_w') + CC + E Z'        as W = F' UU + Z
    |attended|^2 = alpha' G alpha                                   G = a a' pp + a (2 p.c) + c.c + E B'

Products run on tensor cores, which know no float32: see ``_dot``. Regions and words are padded to M and N, powers of
two; what stands in padding is finite and meets weights of 0.

Indices: i, l regions of m; j, k words of n.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from han_retrieval.scoring.single_block import CLOSED, Products, Tables

# Where the tables lie in ``single_block.PreparedItems.squares``: those of ``Tables`` from its third on.
INNER, UU_, PU_, CU_, PP, PC, CC_ = (tl.constexpr(index) for index in range(7))
SQUARES = tl.constexpr(7)
AWAY = tl.constexpr(CLOSED)
TINY = tl.constexpr(1e-24)  # as in ``gram.positive_sqrt``


def matches(
    between: Products,
    image_tables: Tables,
    text_tables: Tables,
    image_squares: Tensor,
    text_squares: Tensor,
    *,
    temperature: float,
) -> Tensor:
    """r_j of every word of every pair, (T, I, n), of float32 on one GPU. Not differentiable.

    Args:
        between: From ``single_block.products``, (T, I, m, n) each.
        image_tables: Of the images, (I, m) and (I, m, m) each.
        text_tables: Of the texts, (T, n) and (T, n, n) each.
        image_squares: (I, 7, M, M), from ``gpu.single_block.prepare``.
        text_squares: (T, 7, N, N).
        temperature: lambda.

    Raises:
        RuntimeError: The card is none that the kernel is for.
    """
    _check(between.qk.device)
    T, I, m, n = between.qk.shape
    M, N = image_squares.shape[-1], text_squares.shape[-1]
    r = between.qk.new_empty(T, I, n)
    rows = (x.permute(1, 2, 0, 3).contiguous() for x in between)  # (I, m, T, n), as the products leave them: no copies
    of_images = image_tables.closed.contiguous(), image_tables.lse.contiguous(), image_squares
    of_texts = text_tables.closed.contiguous(), text_tables.lse.contiguous(), text_squares
    with torch.cuda.device_of(r):
        _match[(I * T,)](
            r, *rows, *of_images, *of_texts, I, T, m, n, float(temperature), M=M, N=N, num_warps=warps(M)
        )  # fmt: skip
    return r


def _check(device: torch.device) -> None:
    """Without tensor cores for TF32 the kernel would compile for minutes."""
    if device.type == "cuda" and (torch.version.hip or torch.cuda.get_device_capability(device) < (8, 0)):
        raise RuntimeError(f"{torch.cuda.get_device_name(device)} is not an NVIDIA card of compute capability 8.0")


def warps(M: int) -> int:
    """Warps a program: one for 16 regions, as tensor cores share rows out."""
    return M // 16


@triton.jit(do_not_specialize=["images", "texts", "m", "n"])  # each combination would be compiled anew
def _match(
    r, qk, kq, uu, uc, cu, cc, o_closed, o_lse, o_squares,
    w_closed, w_lse, w_squares, images, texts, m, n, temperature,
    M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    # Programs of one image are neighbours: what they read of it stays in the cache.
    i, t = (tl.program_id(0) // texts).to(tl.int64), (tl.program_id(0) % texts).to(tl.int64)
    regions, words = tl.arange(0, M), tl.arange(0, N)
    region, word = regions < m, words < n
    block = i * m * texts * n + t * n
    at = regions[:, None] * (texts * n) + words[None, :]
    there = region[:, None] & word[None, :]
    io, tw = o_squares + i * SQUARES * M * M, w_squares + t * SQUARES * N * N
    none = tl.zeros((M, N), tl.float32)

    closed_o = tl.load(o_closed + i * m + regions, mask=region, other=AWAY)
    lse_o = tl.load(o_lse + i * m + regions, mask=region, other=0.0)
    closed_w = tl.load(w_closed + t * n + words, mask=word, other=AWAY)
    lse_w = tl.load(w_lse + t * n + words, mask=word, other=0.0)

    # Attention: of regions to words E (M, N), to their own image a (M,); of words F (M, N) and b (N,).
    logits = tl.load(qk + block + at, mask=there, other=0.0) + closed_w[None, :]
    top = tl.maximum(tl.max(logits, 1), lse_o)
    E, a = tl.exp(logits - top[:, None]), tl.exp(lse_o - top)
    total = tl.sum(E, 1) + a
    E, a = E / total[:, None], a / total
    logits = tl.load(kq + block + at, mask=there, other=0.0) + closed_o[:, None]
    top = tl.maximum(tl.max(logits, 0), lse_w)
    F, b = tl.exp(logits - top[None, :]), tl.exp(lse_w - top)
    total = tl.sum(F, 0) + b
    F, b = F / total[None, :], b / total

    # Words: V, and their lengths (N,).
    UU = tl.load(uu + block + at, mask=there, other=0.0)
    N_w = tl.trans(_square(tw, INNER, words, n, N))
    H = b[None, :] * _dot(UU, N_w, none) + tl.load(uc + block + at, mask=there, other=0.0)
    V = _dot(_square(io, UU_, regions, m, M), F, H)
    square = (b * _diagonal(tw, PP, words, N) + _diagonal(tw, PC, words, N)) * b + _diagonal(tw, CC_, words, N)
    w_norm = tl.sqrt(tl.maximum(square + tl.sum(F * (H + V), 0), TINY))

    # Regions: B, and their lengths (M,).
    N_o = _square(io, INNER, regions, m, M)
    S = a[:, None] * _dot(N_o, V, none)
    CU = tl.load(cu + block + at, mask=there, other=0.0)
    B = 2 * (a[:, None] * _dot(N_o, UU, none) + CU)
    B = _dot(E, _square(tw, UU_, words, n, N), B)
    square = (a * _diagonal(io, PP, regions, M) + _diagonal(io, PC, regions, M)) * a + _diagonal(io, CC_, regions, M)
    o_norm = tl.sqrt(tl.maximum(square + tl.sum(E * B, 1), TINY))

    # S_ij = o^_i.w^_j
    S += b[None, :] * _dot(CU, N_w, none) + tl.load(cc + block + at, mask=there, other=0.0)
    pu, cu_w = tl.trans(_square(tw, PU_, words, n, N)), tl.trans(_square(tw, CU_, words, n, N))
    S = _dot(E, b[None, :] * pu + cu_w, S)
    S = _dot(_dot(E, tl.trans(UU), _square(io, CU_, regions, m, M)), F, S)

    # Alignment.
    logits = temperature * S / (w_norm[None, :] * o_norm[:, None]) + closed_o[:, None]
    alpha = tl.exp(logits - tl.max(logits, 0)[None, :])
    alpha = alpha / tl.sum(alpha, 0)[None, :]

    # Matching.
    gram = a[:, None] * (a[None, :] * _square(io, PP, regions, m, M) + _square(io, PC, regions, m, M))
    gram = _dot(E, tl.trans(B), gram + _square(io, CC_, regions, m, M))
    attended_norm = tl.sqrt(tl.maximum(tl.sum(alpha * _dot(gram, alpha, none), 0), TINY))
    matched = tl.sum(alpha * S, 0) / (w_norm * attended_norm)
    tl.store(r + (t * images + i) * n + words, matched, mask=word)


@triton.jit
def _square(squares, which: tl.constexpr, index, count, size: tl.constexpr):
    """One table of an item, (size, size)."""
    edge = tl.cdiv(count, 16) * 16  # beyond is padding; a multiple of 16 lets whole vectors be read or left
    at = squares + which * size * size + index[:, None] * size + index[None, :]
    return tl.load(at, mask=(index < edge)[:, None] & (index < edge)[None, :], other=0.0)


@triton.jit
def _diagonal(squares, which: tl.constexpr, index, size: tl.constexpr):
    return tl.load(squares + which * size * size + index * (size + 1))


@triton.jit
def _dot(left, right, start):
    """start + left @ right to some 1e-6, as three products of numbers of 11 bits, whose sums are float32.

    Triton's float32 products ("ieee") run outside of tensor cores and spill every register here; its own "tf32x3" cuts
    numbers rather than rounding them, which leaves larger remainders and takes a fifth more instructions.
    """
    left_high, right_high = _rounded(left), _rounded(right)
    start = tl.dot(left - left_high, right_high, start, input_precision="tf32")
    start = tl.dot(left_high, right - right_high, start, input_precision="tf32")
    return tl.dot(left_high, right_high, start, input_precision="tf32")


@triton.jit
def _rounded(x):
    """To the 11 bits that TF32 keeps."""
    return ((x.to(tl.int32, bitcast=True) + 0x1000) & -0x2000).to(tl.float32, bitcast=True)
