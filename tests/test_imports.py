"""What is loaded by an import: the model alone stays as light as torch."""

from __future__ import annotations

import json
import subprocess
import sys

LARGE = (
    "PIL", "fastapi", "huggingface_hub", "jinja2", "lance", "llvmlite", "matplotlib", "mteb", "numba", "pandas",
    "pyarrow", "scipy", "timm", "torchvision", "tqdm", "transformers",
)  # fmt: skip


def loaded(code: str) -> set[str]:
    """The top-level modules that a fresh process has after some code."""
    code = f"import json, sys\n{code}\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout))


def test_the_model_loads_torch_numpy_pydantic_and_safetensors_and_nothing_else():
    plain = loaded("import torch, numpy, pydantic.fields, safetensors.torch")
    code = (
        "import torch\n"
        "from han_retrieval import HAN, HANConfig\n"
        "model = HAN(HANConfig(region_size=4, vocabulary_size=9, word_size=4, joint_size=8))\n"
        "there = torch.ones(2, 3, dtype=torch.bool)\n"
        "model.similarity(torch.randn(2, 3, 4), there, torch.randint(4, 9, (2, 3)), there, backend='reference')\n"
    )
    more = loaded(code) - plain - set(sys.stdlib_module_names)
    assert more == {"han_retrieval"}


def test_errors_and_the_version_load_nothing():
    assert not loaded("import han_retrieval\nhan_retrieval.HANError, han_retrieval.__version__") & {"torch", *LARGE}


def test_the_help_of_the_command_loads_no_torch():
    code = "from han_retrieval.cli.main import main\nimport contextlib, io\nsys.argv = ['han', '--help']\n"
    code += "with contextlib.redirect_stdout(io.StringIO()):\n    main()"
    assert not loaded(code) & {"torch", *LARGE}


def test_regions_of_one_s_own_take_numpy_alone():
    code = (
        "import numpy as np\nfrom han_retrieval.regions import Regions\nRegions(np.ones((3, 4), 'float16'), None, 0, 0)"
    )
    assert not loaded(code) & {"torch", *LARGE}


def test_evidence_loads_pillow_and_jinja_only_when_it_is_drawn():
    torch_s_own = loaded("import torch")  # it loads tqdm itself
    assert not (loaded("import han_retrieval.evidence") - torch_s_own) & set(LARGE)
