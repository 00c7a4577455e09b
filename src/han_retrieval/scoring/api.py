"""All pairs of images and texts, cut into chunks: texts of one length together, as many pairs as memory allows.

Legend: I images, T texts, m regions, n words, d the joint size.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from han_retrieval import processor
from han_retrieval.processor import PRECISIONS
from han_retrieval.scoring import many_blocks, max_similarity, one_way, single_block
from han_retrieval.scoring.alignment import matches_of_pairs
from han_retrieval.scoring.gpu import single_block as gpu_single_block
from han_retrieval.scoring.matching import DIRECTIONS, Items, Matching
from han_retrieval.scoring.projections import AttentionBlock, Projections, project

DTYPES = (torch.float32, torch.float64, torch.bfloat16)

# Some 0.6 GB of projections at 36 regions and d = 1024, and as much for as many texts of up to 32 words.
IMAGES_A_CHUNK, TEXTS_A_CHUNK, WORDS_A_CHUNK = 1024, 512, 1 << 14

# Elements of a pair block: those of a CPU stay in cache, those of a GPU keep it busy.
CPU_ELEMENTS, GPU_ELEMENTS = 1 << 20, 1 << 24

# Pairs on a GPU up to which texts of unlike length are put together: with so few, starting the same operations for each
# length is taken to cost more than words that are not there.
FEW_PAIRS = 1 << 18


def score_all_pairs(
    image_tokens: Tensor,
    region_mask: Tensor,
    text_tokens: Tensor,
    word_mask: Tensor,
    *,
    blocks: Sequence[AttentionBlock],
    matching: Matching,
    precision: str = "float32",
    chunk_elements: int | None = None,
    kernels: bool = True,
) -> Tensor:
    """Scores of all pairs in Gram space, differentiable.

    Args:
        image_tokens: (I, m, d) unit-length tokens, float32 or float64; or bfloat16, in plain torch and coarsely.
        region_mask: (I, m) bool, at least one true an image.
        text_tokens: (T, n, d) unit-length tokens, of the same dtype.
        word_mask: (T, n) bool, at least one true a text.
        blocks: The blocks of attention, their weights of the same dtype.
        matching: What makes a score of the attended tokens.
        precision: "float32" for all, or "bfloat16" for the large products of float32 tokens without blocks or through
            one (on a GPU, unless it is one-way: where words alone attend), if no gradient is asked for; all else stays
            in float32.
        chunk_elements: Upper bound on the elements of one pair block, (m + n)^2 or m n numbers a pair, where no kernel
            for the CPU is at hand. Some forty blocks are alive at once. None: ``CPU_ELEMENTS`` or ``GPU_ELEMENTS``.
        kernels: Whether the CPU's kernels score where they can, which may have to be compiled first.

    Returns:
        (I, T) scores in the tokens' dtype, also under ``torch.autocast``, which is off in here. A pair's score does not
        depend on the other pairs, on padding or on ``chunk_elements``.

    Raises:
        ValueError: Tokens of another dtype, or of two; unknown direction, attention or precision; "clipped" or "max"
            with blocks, or "max" of regions; "bfloat16" where the processor is not faster in it.
    """
    dtypes = image_tokens.dtype, text_tokens.dtype
    if dtypes[0] != dtypes[1] or dtypes[0] not in DTYPES:
        raise ValueError(
            "tokens of images and texts must be float32, float64 or bfloat16, both the same; "
            f"got {dtypes[0]} and {dtypes[1]} (torch.autocast may have made them so: encode outside of it)"
        )
    if matching.direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}; got {matching.direction!r}")
    if matching.attention not in (("cosine",) if blocks else ("cosine", "clipped", "max")):
        raise ValueError(
            f"attention must be 'cosine' or, without blocks, 'clipped' or 'max'; got {matching.attention!r}"
        )
    if matching.attention == "max" and matching.direction != "words":
        raise ValueError(f"with attention 'max', direction must be 'words'; got {matching.direction!r}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}")
    if precision == "bfloat16" and not prefers_bfloat16(image_tokens.device):
        raise ValueError(
            "precision 'bfloat16' needs a processor that is faster in it (AMX, AMD's AVX-512 BF16, Arm BF16, a GPU), "
            "which this one is not: leave it at 'float32'"
        )
    if not len(region_mask) or not len(word_mask):
        return image_tokens.new_zeros(len(region_mask), len(word_mask))
    if chunk_elements is None:
        chunk_elements = GPU_ELEMENTS if image_tokens.is_cuda else CPU_ELEMENTS
    items = Items(image_tokens, region_mask, text_tokens, word_mask)
    with torch.autocast(image_tokens.device.type, enabled=False):
        if matching.attention == "max":
            factors = _factors(precision, image_tokens, text_tokens)
            return max_similarity.scores(items, matching=matching, factors=factors, chunk_elements=chunk_elements)
        if kernels and has_kernel(image_tokens, blocks):
            return _by_kernel(items, blocks, matching, precision)
        if len(blocks) > 1 or (blocks and matching.direction != "words" and blocks[0].over != "one-way"):
            return many_blocks.scores(items, blocks=blocks, matching=matching, chunk_elements=chunk_elements)
        return _in_torch(items, blocks, matching, precision, chunk_elements)


def prefers_bfloat16(device: torch.device) -> bool:
    """Whether products are faster in bfloat16 than in float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return processor.prefers_bfloat16()


def has_kernel(tokens: Tensor, blocks: Sequence[AttentionBlock]) -> bool:
    """Whether the kernels in ``cpu`` can score: float32 on the CPU, one block or none, and Numba compiles."""
    return could_have_kernel(tokens, blocks) and can_compile()


def could_have_kernel(tokens: Tensor, blocks: Sequence[AttentionBlock]) -> bool:
    """Whether kernels can score where Numba compiles; nothing is tried."""
    weights = [block.query.weight for block in blocks]
    in_float32 = all(each.dtype == torch.float32 for each in (tokens, *weights))
    return tokens.device.type == "cpu" and in_float32 and len(blocks) <= 1


@functools.cache
def can_compile() -> bool:
    """Whether Numba is here and compiles for this processor. If not, a warning says so once."""
    try:
        from han_retrieval.scoring.cpu import products

        products.try_out()
    except Exception as error:  # what Numba, LLVM and the disk raise has no other common ancestor
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        warnings.warn(f"pairs are scored without Numba, more slowly: {reason}", RuntimeWarning, stacklevel=2)
        return False
    return True


def _on_gpu(tokens: Tensor) -> bool:
    """Whether tokens are such as ``gpu`` scores."""
    return tokens.is_cuda and tokens.dtype == torch.float32


def _by_kernel(items: Items, blocks: Sequence[AttentionBlock], matching: Matching, precision: str) -> Tensor:
    """(I, T) scores by a kernel in ``cpu``, some images and texts at a time: their projections fit in memory."""
    from han_retrieval.scoring.cpu import alignment as cpu_alignment
    from han_retrieval.scoring.cpu import one_way as cpu_one_way
    from han_retrieval.scoring.cpu import single_block as cpu_single_block

    options: dict[str, Any] = {
        "directions": matching.directions, "temperature": matching.temperature, "precision": precision
    }  # fmt: skip
    image_tokens, region_mask, text_tokens, word_mask = items
    attention = cpu_one_way if blocks and blocks[0].over == "one-way" else cpu_single_block
    lengths, order = word_mask.sum(1).sort(stable=True)
    parts = order.split(_texts_a_chunk(lengths.tolist()))
    rows: list[Tensor] = []
    for images in _slices(len(region_mask), IMAGES_A_CHUNK):
        mask = region_mask[images]
        if blocks:
            prepared = attention.prepare_images(blocks[0], image_tokens[images], mask)
        else:
            prepared = cpu_alignment.prepare_images(image_tokens[images], mask)
        row: list[Tensor] = []
        for texts in parts:
            some = text_tokens[texts], word_mask[texts]
            if blocks:
                found = attention.matches(prepared, *some, block=blocks[0], **options)
            else:
                found = cpu_alignment.matches(prepared, *some, attention=matching.attention, **options)
            row.append(matching.scores(found, region_mask=mask.unsqueeze(1), word_mask=word_mask[texts]))
        rows.append(torch.cat(row, dim=1))
    return torch.cat(rows)[:, order.argsort()]


def _texts_a_chunk(lengths: Sequence[int]) -> list[int]:
    """How many texts of ascending lengths go together, those of many words a few at a time."""
    sizes: list[int] = []
    start = 0
    for end in range(1, len(lengths) + 1):
        here = end - start
        if end == len(lengths) or here == TEXTS_A_CHUNK or (here + 1) * lengths[end] > WORDS_A_CHUNK:
            sizes.append(here)
            start = end
    return sizes or [0]


def _in_torch(
    items: Items, blocks: Sequence[AttentionBlock], matching: Matching, precision: str, chunk_elements: int
) -> Tensor:
    """(I, T) scores by ``single_block``, ``one_way`` or ``alignment``, texts of about one length together, in chunks.

    On a GPU in float32 the small part of ``single_block`` is a kernel, see ``gpu``.
    """
    image_tokens, region_mask, text_tokens, word_mask = items
    m = region_mask.shape[1]
    lengths = word_mask.sum(1)
    flat = text_tokens[word_mask]  # (valid words of all texts, d), so that little is spent on padding
    starts = lengths.cumsum(0) - lengths
    per_word = project(blocks[0], flat) if blocks else (flat,)
    widths = _widths(lengths, len(region_mask), on_gpu=lengths.is_cuda) if blocks else lengths
    order = widths.argsort(stable=True)
    sizes, counts = (x.tolist() for x in widths.unique(return_counts=True))
    groups = list(zip(sizes, order.split(counts), strict=True))

    prepare, matches = _steps(blocks, matching, _factors(precision, image_tokens, *per_word), _on_gpu(image_tokens))

    columns: list[Tensor] = []
    for images in _slices(len(region_mask), _images_a_chunk(max(sizes), m, chunk_elements)):
        mask = region_mask[images]
        prepared = prepare(image_tokens[images], mask)
        rows: list[Tensor] = []
        for n, texts in groups:
            for part in texts.split(min(TEXTS_A_CHUNK, max(1, chunk_elements // (m * n * len(mask))))):
                nth, last = torch.arange(n, device=part.device), lengths[part].unsqueeze(1) - 1
                at = starts[part].unsqueeze(1) + nth.minimum(last)  # (texts of the part, n), in padding the last word
                word = nth <= last
                found = matches(prepared, [x[at] for x in per_word], word)
                scores = matching.scores(found, region_mask=mask, word_mask=word.unsqueeze(1))
                rows.append(scores)  # (texts of the part, images)
        columns.append(torch.cat(rows))
    return torch.cat(columns, dim=1)[order.argsort()].mT


def _steps(
    blocks: Sequence[AttentionBlock], matching: Matching, factors: torch.dtype, on_gpu: bool
) -> tuple[Callable[[Tensor, Tensor], Any], Callable[[Any, list[Tensor], Tensor], dict[str, Tensor]]]:
    """What ``_in_torch`` does once for each image, and what it does with the pairs of images and texts.

    From (I, m, d) tokens and (I, m) mask; from what that gave, (T, n, d) of the words (projections or tokens) and
    (T, n) mask to matches by direction.
    """
    of_pairs: dict[str, Any] = {"temperature": matching.temperature, "factors": factors}
    if not blocks:
        return lambda tokens, mask: (tokens, mask), lambda images, words, _: {
            direction: matches_of_pairs(
                images[0], images[1], words[0], direction=direction, attention=matching.attention, **of_pairs
            )
            for direction in matching.directions
        }

    def projections(tokens: Tensor, mask: Tensor) -> Projections:
        return project(blocks[0], tokens.masked_fill(~mask.unsqueeze(2), 0))

    if blocks[0].over == "one-way":
        return lambda tokens, mask: one_way.attended_regions(projections(tokens, mask), mask), (
            lambda images, words, word: one_way.matches(
                images, one_way.attending_words(Projections(*words), word), directions=matching.directions, **of_pairs
            )
        )
    module = gpu_single_block if on_gpu else single_block
    prepare = functools.partial(module.prepare, factors=factors, over=blocks[0].over)
    return lambda tokens, mask: prepare(projections(tokens, mask), mask), lambda images, words, word: {
        "words": module.word_matches(images, prepare(Projections(*words), word), temperature=matching.temperature)
    }


def _factors(precision: str, *factors: Tensor) -> torch.dtype:
    """What the factors of the large products are rounded to, in plain torch."""
    gradient = torch.is_grad_enabled() and any(x.requires_grad for x in factors)
    in_half = _on_gpu(factors[0]) and precision == "bfloat16" and not gradient
    return torch.bfloat16 if in_half else factors[0].dtype


def _widths(lengths: Tensor, images: int, *, on_gpu: bool) -> Tensor:
    """(T,) words that each text is given room for: its own, or with few pairs on a GPU the next multiple of 8."""
    few = on_gpu and images * len(lengths) <= FEW_PAIRS
    return (lengths + 7) // 8 * 8 if few else lengths


def _images_a_chunk(n: int, m: int, chunk_elements: int) -> int:
    """As many images as leave room for some 16 texts of n words beside them."""
    return min(IMAGES_A_CHUNK, max(1, chunk_elements // (16 * m * n)))


def _slices(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
