"""Models on the Hugging Face Hub: ``user/name`` where a model's folder can be given."""

from __future__ import annotations

import re
from pathlib import Path

from han_retrieval.errors import ModelError

# What a model folder may hold. No pickle and no code is among it, and nothing else is downloaded.
FILES = (
    "config.json",
    "model.safetensors",
    "vocabulary.json",
    "README.md",
    "calibration.json",
    "candidates.safetensors",
    "checksums.json",
)
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_hub_name(name: str | Path) -> bool:
    """Whether a name is ``user/name`` on the Hub: one slash, and no such folder here, nor the folder ``user``."""
    text = str(name)
    return isinstance(name, str) and bool(_NAME.fullmatch(text)) and not Path(text.partition("/")[0]).exists()


def download(name: str, *, revision: str | None = None, local_files_only: bool = False) -> Path:
    """The folder of a model of the Hub, downloaded once and kept in the Hub's cache.

    Args:
        name: ``user/name``.
        revision: A branch, tag or commit; the newest by default.
        local_files_only: Take what is in the cache; do not ask the network.

    Raises:
        ModelError: huggingface_hub is not installed, there is no such model, it is private or gated, or it cannot be
            reached; the message says which.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
    except ImportError:
        raise ModelError(
            f"{name}: no such folder; to load a model of that name from the Hugging Face Hub: "
            "pip install 'han-retrieval[hub]'"
        ) from None
    try:
        return Path(
            snapshot_download(name, revision=revision, allow_patterns=list(FILES), local_files_only=local_files_only)
        )
    except GatedRepoError:
        reason = "its owner lets only some people in: accept its terms on its page and log in with `hf auth login`"
    except RevisionNotFoundError:
        reason = f"it has no revision {revision!r}"
    except RepositoryNotFoundError:
        reason = "the Hub has none of that name, or it is private: log in with `hf auth login`"
    except Exception as error:  # many kinds of network trouble, of several libraries
        lines = str(error).strip().splitlines()
        reason = f"the Hub cannot be reached and it is not in the cache ({lines[0] if lines else type(error).__name__})"
    raise ModelError(f"{name}: no such folder, nor a model that can be had from the Hugging Face Hub: {reason}")
