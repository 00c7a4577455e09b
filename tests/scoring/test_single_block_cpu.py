"""The engine for one block on the CPU: the scores and gradients of the formulas, in float32, for any sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from closeness import assert_close, assert_gradients_close, in_float64
from hypothesis import given, settings
from hypothesis import strategies as st

from han_retrieval.matchers import HAN, HANConfig
from han_retrieval.scoring import api
from han_retrieval.scoring.cpu import lanes, products, tile_kernel, tiles
from han_retrieval.scoring.cpu.compiling import njit
from han_retrieval.scoring.cpu.layout import Layout

ALIGNMENTS = ["words", "regions", "both"]
TIGHT = 1e-5  # of scores in [-1, 1]; the rounding of float32 leaves some 1e-7
GRADIENTS = 1e-4  # of their scale


def random_model(*, joint_size: int = 32, **options: object) -> HAN:
    model = HAN(HANConfig(region_size=11, vocabulary_size=40, word_size=8, joint_size=joint_size, **options))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def random_items(images: int, texts: int, m: int, n: int, *, full: bool = False):
    region_mask = torch.rand(images, m) < 0.7
    region_mask[torch.arange(images), torch.randint(m, (images,))] = True
    word_mask = torch.rand(texts, n) < 0.7
    word_mask[torch.arange(texts), torch.randint(n, (texts,))] = True
    if full:
        region_mask[:] = True
    return torch.randn(images, m, 11), region_mask, torch.randint(1, 40, (texts, n)), word_mask


def exact_scores(model: HAN, items: tuple) -> torch.Tensor:
    """Those of the plain forward in float64."""
    return in_float64(model).similarity(items[0].double(), *items[1:], backend="reference")


@given(
    st.integers(1, 5), st.integers(1, 20), st.integers(1, 100), st.integers(1, 80), st.sampled_from(["query", "token"]),
    st.sampled_from(ALIGNMENTS), st.integers(0, 999),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
@torch.inference_mode()
def test_scores_are_those_of_the_formulas(images, texts, m, n, residual, alignment, seed):
    torch.manual_seed(seed)
    model = random_model(residual=residual, alignment=alignment)
    items = random_items(images, texts, m, n)
    assert (model.similarity(*items) - exact_scores(model, items)).abs().max() < TIGHT


def gradients(model: HAN, items: tuple, weights: torch.Tensor, backend: str) -> list[torch.Tensor]:
    model.zero_grad()
    (model.similarity(*items, backend=backend) * weights.to(items[0].dtype)).sum().backward()
    return [p.grad.clone() for p in model.parameters()]


def exact_gradients(model: HAN, items: tuple, weights: torch.Tensor) -> list[torch.Tensor]:
    """Those of the plain forward in float64."""
    return gradients(in_float64(model), (items[0].double(), *items[1:]), weights, "reference")


def assert_exact_gradients(model: HAN, items: tuple) -> None:
    weights = torch.randn(len(items[0]), len(items[2]))
    names = [name for name, _ in model.named_parameters()]
    exact = exact_gradients(model, items, weights)
    assert_gradients_close(gradients(model, items, weights, "gram"), exact, GRADIENTS, names=names)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("over", ["own", "other", "one-way"])
@torch.inference_mode()
def test_scores_of_attention_over_one_set_are_those_of_the_formulas(alignment, over):
    torch.manual_seed(0)
    model = random_model(attention_over=over, alignment=alignment)
    items = random_items(5, 19, 36, 12)
    assert (model.similarity(*items) - exact_scores(model, items)).abs().max() < TIGHT


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("over", ["own", "other", "one-way"])
def test_gradients_of_attention_over_one_set_are_those_of_the_formulas(alignment, over):
    torch.manual_seed(0)
    assert_exact_gradients(random_model(attention_over=over, alignment=alignment), random_items(4, 19, 7, 5))


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("residual", ["query", "token"])
@pytest.mark.parametrize(("m", "n"), [(1, 1), (7, 5), (36, 12), (5, 30)])
def test_gradients_are_those_of_the_formulas(residual, m, n, alignment):
    torch.manual_seed(m)
    model = random_model(residual=residual, alignment=alignment)
    assert_exact_gradients(model, random_items(4, 19, m, n))


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize(("threads", "rows"), [(1, 60), (3, 60), (1, 1152)])
@pytest.mark.parametrize("kept", [0, 1 << 27])
def test_threads_tiles_and_memory_do_not_matter(threads, rows, kept, alignment, monkeypatch):
    torch.manual_seed(0)
    model = random_model(alignment=alignment)
    items = random_items(9, 40, 13, 9, full=True)
    assert len(items[0]) > 2 * tile_kernel.IMAGES_AT_ONCE  # with 1152 rows they are all in one tile
    monkeypatch.setattr(tiles, "KEPT_ELEMENTS", kept)
    monkeypatch.setattr(tiles, "IMAGE_ROWS", rows)
    monkeypatch.setattr(tiles, "WORD_ROWS", 200)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert_exact_gradients(model, items)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("forward", "backward"), [(2, 1), (1, 2)])
def test_the_number_of_threads_may_change_before_the_backward(forward, backward, monkeypatch):
    monkeypatch.setattr(tiles, "IMAGE_ROWS", 100)  # three slices of images for one thread, four for two
    torch.manual_seed(0)
    model = random_model()
    items = random_items(10, 9, 13, 9, full=True)
    weights = torch.randn(10, 9)
    exact = exact_gradients(model, items, weights)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(forward)
        scores = model.similarity(*items)
        torch.set_num_threads(backward)
        model.zero_grad()
        (scores * weights).sum().backward()
    finally:
        torch.set_num_threads(before)
    assert_gradients_close([p.grad for p in model.parameters()], exact, GRADIENTS)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_gradients_are_the_same_to_the_last_bit_each_time(alignment, monkeypatch):
    monkeypatch.setattr(tiles, "IMAGE_ROWS", 60)  # many tiles a thread
    monkeypatch.setattr(tiles, "WORD_ROWS", 200)
    torch.manual_seed(0)
    model = random_model(alignment=alignment)
    items = random_items(9, 40, 13, 9)
    weights = torch.randn(9, 40)
    first = gradients(model, items, weights, "gram")
    for _ in range(5):
        for x, y in zip(gradients(model, items, weights, "gram"), first, strict=True):
            assert torch.equal(x, y)


def test_a_second_backward_gives_the_same():
    torch.manual_seed(0)
    model = random_model(alignment="both")
    scores = model.similarity(*random_items(3, 5, 4, 6))
    first = torch.autograd.grad(scores.sum(), list(model.parameters()), retain_graph=True)
    second = torch.autograd.grad(scores.sum(), list(model.parameters()))
    for x, y in zip(first, second, strict=True):
        assert torch.equal(x, y)


def test_an_error_in_a_thread_is_raised_and_leaves_the_threads_as_they_were(monkeypatch):
    model = random_model()
    monkeypatch.setattr(tiles, "_room", lambda *_: 1 / 0)
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError):
        model.similarity(*random_items(3, 5, 4, 6))
    assert torch.get_num_threads() == before


def test_layout_gives_each_word_its_own_row():
    torch.manual_seed(0)
    mask = torch.rand(37, 11) < 0.5
    mask[:, 3] = True
    layout = Layout.of(mask)
    rows = layout.rows[mask]
    assert len(rows.unique()) == len(rows)
    assert rows.max() < layout.words * lanes.LANES
    assert layout.words * lanes.LANES < 1.3 * mask.sum() + lanes.LANES * 11
    assert sorted(layout.places.tolist()) == list(range(37))


@njit
def _apply(x, out):
    for j in range(x.shape[1]):
        lanes.store(lanes.exp(lanes.load(x, 0, j)), out, 0, j)


def test_exp_is_that_of_numpy():
    x = np.concatenate([-np.geomspace(1e-8, 86.9, 4000 * lanes.LANES - 1), [0.0]]).astype(np.float32)
    x = x.reshape(1, -1, lanes.LANES)
    out = np.empty_like(x)
    _apply(x, out)
    assert np.abs(out / np.exp(x.astype(np.float64)) - 1).max() < 2.5e-7
    _apply(np.full((1, 1, lanes.LANES), -1e30, np.float32), out[:, :1])
    assert not out[:, :1].any()


@pytest.mark.parametrize("rows", [1, 3, 4, 9, 14])
@pytest.mark.parametrize("columns", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 6])
def test_products_are_those_of_numpy(rows, columns, count):
    random = np.random.default_rng(0)

    def some(*shape):
        return random.standard_normal((*shape, lanes.LANES)).astype(np.float32)

    left, right, out = some(rows, count), some(count, columns), some(rows, columns)
    plain = left[..., 0].copy()
    start, sums = out.copy(), random.standard_normal((rows, columns)).astype(np.float32)
    exact = np.einsum("ikv,kjv->ijv", left.astype(np.float64), right)
    products.add_product(out, left, right)
    assert_close(torch.from_numpy(out), torch.from_numpy(start + exact), 1e-6)
    products.product(out, plain, right)
    of_plain = np.einsum("ik,kjv->ijv", plain.astype(np.float64), right)
    assert_close(torch.from_numpy(out), torch.from_numpy(of_plain), 1e-6)
    before = sums.copy()
    products.add_product(sums, left, right)
    assert_close(torch.from_numpy(sums), torch.from_numpy(before + exact.sum(-1)), 1e-5)


@pytest.mark.parametrize("whole", [False, True])
def test_a_tiles_products_are_those_of_numpy(whole):
    random = np.random.default_rng(0)
    words, d, first, n = 7, tile_kernel.TERMS_AT_ONCE + 3, 2, 3
    images = tuple(random.standard_normal((6, rows, d)).astype(np.float32) for rows in (5, 10))
    texts = tuple(random.standard_normal((words * k, d, lanes.LANES)).astype(np.float32) for k in (1, 2))
    size, place = ((6, words), (0, first)) if whole else ((tile_kernel.IMAGES_AT_ONCE, n), (4, 0))
    blocks = tuple(
        lanes.zeros((size[0], x.shape[1], size[1] * k, lanes.LANES)) for x, k in zip(images, (1, 2), strict=True)
    )
    factors = tile_kernel.Factors(images, texts)
    assert tile_kernel.fill(blocks, factors, whole, (4, 6), (first, first + n), words) == place
    skipped, at = place
    for block, left, right, k in zip(blocks, images, texts, (1, 2), strict=True):
        exact = np.einsum("zid,jdv->zijv", left[4:].astype(np.float64), right[k * first : k * (first + n)])
        found = block[4 - skipped : 6 - skipped, :, k * at : k * (at + n)]
        assert_close(torch.from_numpy(found), torch.from_numpy(exact), 1e-6)
        assert np.count_nonzero(block) == exact.size  # the rest is as it was
    before = [block.copy() for block in blocks]
    filled = tile_kernel.Factors(images, tuple(x[:0] for x in texts))
    assert tile_kernel.fill(blocks, filled, whole, (4, 6), (first, first + n), words) == place
    assert all(np.array_equal(x, y) for x, y in zip(blocks, before, strict=True))


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_memory_of_kernels_starts_with_a_cache_line(dtype):
    for size in (1, 3, 1000):
        array = lanes.empty((size, 2, lanes.LANES), dtype)
        assert array.shape == (size, 2, lanes.LANES)
        assert array.dtype == dtype
        assert array.ctypes.data % lanes.CACHE_LINE == 0
        assert array.flags.c_contiguous


def test_zeros_are_zeros_wherever_their_memory_is(monkeypatch):
    monkeypatch.setattr(lanes, "empty", lambda shape, dtype: np.ones(shape, dtype))
    assert not lanes.zeros((3, 2), np.uint16).any()


@pytest.mark.parametrize("alignment", ["words", "both"])
@torch.inference_mode()
def test_bfloat16_is_close_and_only_where_the_processor_is_faster_in_it(alignment, monkeypatch):
    torch.manual_seed(0)
    model = random_model(joint_size=256, alignment=alignment)
    items = random_items(8, 20, 12, 9)
    tokens = model.encode_images(*items[:2]), items[1], model.encode_texts(*items[2:]), items[3]
    monkeypatch.setattr(api, "prefers_bfloat16", lambda device: False)
    with pytest.raises(ValueError, match="needs a processor that is faster in it"):
        model.score(*tokens, precision="bfloat16")
    with pytest.raises(ValueError, match="precision must be one of float32, bfloat16; got 'half'"):
        model.score(*tokens, precision="half")
    monkeypatch.setattr(api, "prefers_bfloat16", lambda device: True)
    exact, rounded = model.score(*tokens), model.score(*tokens, precision="bfloat16")
    assert 0 < (exact - rounded).square().mean().sqrt() < 0.02 * exact.std()
