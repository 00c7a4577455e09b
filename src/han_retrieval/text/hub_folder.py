"""The folder of a language model, here or in the cache of the Hugging Face Hub, and a hash of what it holds."""

from __future__ import annotations

import re
from pathlib import Path

from han_retrieval.errors import ModelError
from han_retrieval.files import from_home

VERSION = 1
"""Of the way in which tokens are made of a language model's states; raise it when they change."""

# What is downloaded of a model: no pickle, no code.
_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
_NOT_FILES = ("onnx/*", "openvino/*")
_NAME = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*")
_TOKENIZER = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "*.model")


def find_folder(argument: str) -> tuple[Path, str]:
    """The folder that FOLDER, NAME or NAME@REVISION names, and the name by which the same is found again.

    A folder's name is its absolute path. A name on the Hub is pinned to the commit that was found.

    Raises:
        ModelError: There is neither such a folder nor such a model on the Hub, or it cannot be had.
    """
    folder = from_home(argument)
    if folder.is_dir():
        return folder, str(folder.resolve())
    name, _, revision = argument.partition("@")
    if not _NAME.fullmatch(name):
        raise ModelError(f"hf:{argument}: no such folder")
    folder = _download(name, revision or None)
    return folder, f"{name}@{folder.name}"


def folder_fingerprint(folder: Path, name: str) -> str:
    """``NAME-VERSION-HASH``, with a hash of the weights and the tokenizer."""
    import xxhash

    weights = (
        file for file in folder.rglob("*.safetensors") if file.relative_to(folder).parts[0] not in ("onnx", "openvino")
    )
    tokenizer = (file for pattern in _TOKENIZER for file in folder.glob(pattern))
    digest = xxhash.xxh3_128()
    try:
        for file in sorted({*weights, *tokenizer}):
            digest.update(f"{file.relative_to(folder).as_posix()} {file.stat().st_size} ".encode())
            with file.open("rb") as opened:
                while part := opened.read(2**22):
                    digest.update(part)
    except OSError as error:
        raise ModelError(f"{error.filename or folder}: cannot be read ({error.strerror or error})") from None
    return f"{name}-{VERSION}-{digest.hexdigest()[:16]}"


def _download(name: str, revision: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
    except ImportError:
        raise ModelError(
            f"hf:{name}: no such folder; to take it from the Hugging Face Hub: pip install 'han-retrieval[hf]'"
        ) from None
    try:
        return Path(
            snapshot_download(name, revision=revision, allow_patterns=list(_FILES), ignore_patterns=list(_NOT_FILES))
        )
    except GatedRepoError:
        reason = "its owner lets only some people in: accept its terms on its page and log in with `hf auth login`"
    except RevisionNotFoundError:
        reason = f"it has no revision {revision!r}"
    except RepositoryNotFoundError:
        reason = "the Hub has none of that name, or it is private: log in with `hf auth login`"
    except Exception as error:  # many kinds of network trouble, of several libraries
        lines = str(error).strip().splitlines()
        reason = (
            f"the Hub cannot be reached and it is not in the cache ({lines[0] if lines else type(error).__name__}); "
            "without a network, name a folder: hf:FOLDER"
        )
    raise ModelError(f"hf:{name}: no such folder, nor a model that can be had from the Hugging Face Hub: {reason}")
