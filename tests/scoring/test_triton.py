"""The small part in Triton: the numbers of ``single_block`` in float64, its gradients, and what happens without it.

Tests of the kernel run on a card where there is one, and in Triton's interpreter in a process of their own, since the
interpreter has to be asked for before Triton is imported.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import warnings

import pytest
import torch
from closeness import assert_gradients_close
from random_items import random_mask, random_model

from han_retrieval.scoring import api, gpu, single_block
from han_retrieval.scoring.gpu import single_block as gpu_single_block
from han_retrieval.scoring.projections import Projections, project

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
ON_CARD = torch.cuda.is_available() and not INTERPRETED
DEVICE = "cuda" if ON_CARD else "cpu"
TIGHT = 1e-5  # of matches in [-1, 1]

has_triton = importlib.util.find_spec("triton") is not None
needs_triton = pytest.mark.skipif(not has_triton, reason="Triton is not installed, as on macOS and Windows")
NO_KERNEL = "no GPU: run in a process with Triton's interpreter, below"
needs_kernel = pytest.mark.skipif(not (INTERPRETED or ON_CARD), reason=NO_KERNEL)
without_kernel = pytest.mark.skipif(INTERPRETED or ON_CARD, reason="here the kernel runs")


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(gpu_single_block, "_failed", set())


def random_projections(images: int, texts: int, m: int, n: int, *, residual: str = "query", d: int = 24):
    """Projections of images and of texts in float64, and which of their tokens are there."""
    block = random_model(joint_size=d, residual=residual).double().blocks[0]
    masks = random_mask(images, m), random_mask(texts, n)
    tokens = [torch.nn.functional.normalize(torch.randn(*x.shape, d, dtype=torch.float64), dim=-1) for x in masks]
    with torch.no_grad():
        return [project(block, x) for x in tokens], masks


def matches(module, projections, masks, *, dtype: torch.dtype, over: str = "both", temperature: float = 9.0):
    """``module.word_matches`` (T, I, n) in ``dtype``, zero where there is no word."""
    device = DEVICE if module is gpu_single_block else "cpu"
    sides = [
        module.prepare(Projections(*(x.to(device, dtype) for x in of)), mask.to(device), factors=dtype, over=over)
        for of, mask in zip(projections, masks, strict=True)
    ]
    r = module.word_matches(*sides, temperature=temperature)
    assert r.shape == (len(masks[1]), len(masks[0]), masks[1].shape[1])
    assert r.isfinite().all()
    return r.cpu() * masks[1].unsqueeze(1)


def assert_near(projections, masks, *, over: str = "both") -> None:
    """What ``gpu_single_block`` gives in float32 are the numbers of ``single_block`` in float64."""
    exact = matches(single_block, projections, masks, dtype=torch.float64, over=over)
    found = matches(gpu_single_block, projections, masks, dtype=torch.float32, over=over)
    assert (found - exact).abs().max() < TIGHT


@pytest.fixture
def kernel_only(monkeypatch):
    """Any failure of the kernel is an error."""
    monkeypatch.setattr(gpu_single_block.warnings, "warn", None)


@needs_kernel
@pytest.mark.parametrize(
    ("images", "texts", "m", "n", "residual"),
    [
        (1, 1, 1, 1, "query"),
        (2, 3, 5, 4, "token"),
        (2, 2, 16, 16, "query"),
        (2, 1, 17, 3, "query"),
        (1, 2, 36, 12, "query"),
        (2, 1, 36, 12, "token"),
        (1, 1, 64, 32, "query"),
        (1, 1, 100, 16, "query"),
    ],
)
@torch.inference_mode()
def test_matches_are_those_of_single_block(images, texts, m, n, residual, kernel_only, monkeypatch):
    monkeypatch.setattr(gpu_single_block, "matches_from_products", None)
    torch.manual_seed(m)
    assert_near(*random_projections(images, texts, m, n, residual=residual))


@needs_kernel
@pytest.mark.parametrize("over", ["own", "other"])
@torch.inference_mode()
def test_matches_of_attention_over_one_set(over, kernel_only, monkeypatch):
    monkeypatch.setattr(gpu_single_block, "matches_from_products", None)
    torch.manual_seed(17)
    assert_near(*random_projections(2, 2, 17, 5), over=over)


@needs_kernel
@torch.inference_mode()
def test_extreme_temperatures_stay_finite(kernel_only):
    torch.manual_seed(0)
    projections, masks = random_projections(2, 3, 6, 5)
    projections = [of._replace(q=1e3 * of.q) for of in projections]
    r = matches(gpu_single_block, projections, masks, dtype=torch.float32, temperature=1e3)
    assert 0 < r.abs().max() <= 1 + TIGHT


@needs_kernel
@pytest.mark.skipif(ON_CARD, reason="a card rounds by itself")
@torch.inference_mode()
def test_factors_of_eleven_bits_are_enough(kernel_only, monkeypatch):
    """Tensor cores read 11 bits of a factor: with the rest cut off, products must still be those of float32."""
    from triton.runtime.interpreter import InterpreterBuilder

    def cut(factor):
        factor.data = (factor.data.view("int32") & -0x2000).view("float32")
        return factor

    whole, products = InterpreterBuilder.create_dot, []

    def create_dot(self, left, right, *others):
        products.append(left.data.shape)
        return whole(self, cut(left), cut(right), *others)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", create_dot)
    torch.manual_seed(36)
    assert_near(*random_projections(1, 2, 36, 12))
    assert len(products) == 2 * 11 * 3


@needs_kernel
def test_gradients_are_those_of_single_block(kernel_only):
    torch.manual_seed(1)
    projections, masks = random_projections(2, 3, 7, 5)
    weights = torch.randn(3, 2, 5)
    gradients = []
    for module, dtype in ((single_block, torch.float64), (gpu_single_block, torch.float32)):
        leaves = [Projections(*(x.clone().requires_grad_() for x in of)) for of in projections]
        (matches(module, leaves, masks, dtype=dtype) * weights).sum().backward()
        gradients.append([x.grad for of in leaves for x in of])
    exact, got = gradients
    assert all(x.norm() > 1e-3 for x in exact)
    assert_gradients_close(got, exact, 1e-4)


@needs_kernel
@pytest.mark.parametrize("elements", [300, None])
def test_plan_scores_with_the_kernel(elements, kernel_only, monkeypatch):
    torch.manual_seed(7)
    model = random_model(joint_size=16).double()
    items = torch.randn(3, 6, 5).double(), random_mask(3, 6), torch.randint(1, 9, (4, 5)), random_mask(4, 5)
    with torch.inference_mode():
        exact = model.similarity(*items, backend="reference")
    monkeypatch.setattr(gpu_single_block, "matches_from_products", None)  # without the kernel there is nothing
    monkeypatch.setattr(api, "has_kernel", lambda *_: False)
    monkeypatch.setattr(api, "_on_gpu", lambda tokens: True)
    if elements:
        monkeypatch.setattr(api, "CPU_ELEMENTS", elements)
        monkeypatch.setattr(api, "GPU_ELEMENTS", elements)
    items = items[0].float(), *items[1:]
    with torch.inference_mode():
        assert (model.float().to(DEVICE).similarity(*(x.to(DEVICE) for x in items)).cpu() - exact).abs().max() < TIGHT


@needs_triton
@without_kernel
def test_the_kernel_in_the_interpreter():
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", __file__],
        env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert NO_KERNEL not in run.stdout


@without_kernel
@pytest.mark.parametrize("installed", [True, False])
def test_without_the_kernel_torch_scores_and_says_so_once(installed, monkeypatch):
    if not installed:
        monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "han_retrieval.scoring.gpu.single_block_kernel", raising=False)
    monkeypatch.delattr(gpu, "single_block_kernel", raising=False)
    torch.manual_seed(2)
    reason = "" if installed else "ModuleNotFoundError"
    with pytest.warns(RuntimeWarning, match=f"scored without Triton, more slowly: {reason}"):
        assert_near(*random_projections(2, 3, 7, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for m in (7, 40):
            assert_near(*random_projections(1, 1, m, 3))


@pytest.mark.parametrize(("m", "n"), [(3, 33), (65, 17), (130, 2)])
def test_large_pairs_are_left_to_torch(m, n, monkeypatch):
    monkeypatch.setattr(gpu_single_block, "_KernelMatches", None)
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_near(*random_projections(1, 1, m, n))


def test_want_of_memory_is_not_hidden(monkeypatch):
    def apply(*_):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(gpu_single_block._KernelMatches, "apply", apply)
    with pytest.raises(torch.OutOfMemoryError):
        assert_near(*random_projections(1, 1, 2, 2))


@needs_triton
@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason="nothing is compiled in the interpreter")
@pytest.mark.parametrize(("capability", "shared"), [(80, 99), (90, 227)])  # KB of a block, of 8.x the least
@pytest.mark.parametrize(("M", "N"), [(64, 16), (64, 32), (128, 16)])
def test_the_kernel_compiles_for_cards_that_are_not_there(capability, shared, M, N):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from han_retrieval.scoring.gpu.single_block_kernel import _match, warps

    names = _match.arg_names
    kinds = dict.fromkeys(("images", "texts", "m", "n"), "i32")
    kinds |= {"temperature": "fp32", "M": "constexpr", "N": "constexpr"}
    source = ASTSource(
        _match,
        {name: kinds.get(name, "*fp32") for name in names},
        constexprs={(names.index("M"),): M, (names.index("N"),): N},
        attrs={(place,): [["tt.divisibility", 16]] for place, name in enumerate(names) if name not in kinds},
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps(M)})
    assert compiled.asm["cubin"]
    assert compiled.metadata.shared <= shared * 1024
