"""Kernels that processes compiled one by one are right together in a third."""

from __future__ import annotations

import os
import subprocess
import sys

KERNELS = """
import numpy as np
from han_retrieval.scoring.cpu.compiling import cached_njit
from han_retrieval.scoring.cpu.lanes import LANES
from han_retrieval.scoring.cpu.products import add_product, product

@cached_njit
def product_first(out, left, right):
    product(out, left, right)
    add_product(out, left, right)

@cached_njit
def sum_first(out, left, right):
    add_product(out, left, right)
    product(out, left, right)

left, right = np.full((2, 3, LANES), 2, np.float32), np.full((3, 2, LANES), 5, np.float32)

def run(kernel):
    out = np.ones((2, 2, LANES), np.float32)
    kernel(out, left, right)
    return float(out.min()), float(out.max())
"""


def test_kernels_of_other_processes_do_not_change_each_other(tmp_path):
    (tmp_path / "kernels.py").write_text(KERNELS)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": path}

    def printed(*names: str) -> str:
        program = "import kernels\n" + "".join(f"print(kernels.run(kernels.{name}))\n" for name in names)
        return subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert printed("product_first") == "(60.0, 60.0)\n"
    assert printed("sum_first") == "(30.0, 30.0)\n"
    assert printed("product_first", "sum_first") == "(60.0, 60.0)\n(30.0, 30.0)\n"
    assert printed("sum_first", "product_first") == "(30.0, 30.0)\n(60.0, 60.0)\n"
