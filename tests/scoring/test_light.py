"""Scoring is light to import, and scores without Numba too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HEAVY = ("numba", "llvmlite", "scipy", "triton", "lance", "pyarrow", "PIL", "matplotlib", "torchvision")

IMPORT = f"""
import sys
import torch, numpy
before = set(sys.modules)
import han_retrieval.scoring
print(*(name for name in {HEAVY!r} if name in sys.modules and name not in before))
"""

WITHOUT_NUMBA = """
import sys, warnings
sys.modules[sys.argv[1]] = None
import torch
from random_items import random_mask, random_model
torch.manual_seed(0)
region_mask, word_mask = random_mask(5, 4), random_mask(7, 3)
items = torch.randn(5, 4, 5), region_mask, torch.randint(1, 9, (7, 3)), word_mask
for options in ({}, {"blocks": 0}, {"alignment": "both"}):
    model = random_model(joint_size=16, **options)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        scores = model.similarity(*items)
        scores.sum().backward()
        with torch.no_grad():
            images, texts = model.encode_images(*items[:2]), model.encode_texts(*items[2:])
            stored = model.store_images(images, region_mask, storage="float32").scores(texts[1, word_mask[1]])
    print(*(warning.message for warning in seen if warning.category is RuntimeWarning), sep="; ")
    exact = model.double().similarity(items[0].double(), *items[1:], backend="reference")
    assert (scores - exact).abs().max() < 1e-5
    assert (stored - exact[:, 1]).abs().max() < 1e-5
"""


def run(program: str, *args: str) -> str:
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    found = subprocess.run(
        [sys.executable, "-c", program, *args], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_scoring_loads_nothing_large_beside_torch_and_numpy():
    assert run(IMPORT).split() == []


def test_without_numba_torch_scores_and_says_so_once():
    lines = run(WITHOUT_NUMBA, "numba").splitlines()
    assert lines[0].startswith("pairs are scored without Numba, more slowly: ModuleNotFoundError")
    assert lines[1:] == ["", ""]


def test_where_numba_cannot_compile_torch_scores():
    lines = run(WITHOUT_NUMBA, "llvmlite").splitlines()
    assert lines[0].startswith("pairs are scored without Numba, more slowly: ")
