"""The folder of a language model, here or in the cache of the Hugging Face Hub, and a hash of what it holds."""

from __future__ import annotations

from pathlib import Path

from han_retrieval.errors import ModelError
from han_retrieval.regions.backbones.loading import library, local, one_line

VERSION = 1
"""Of the way in which tokens are made of a language model's states; raise it when they change."""

# What is downloaded of a model: no pickle, no code.
_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
_NOT_FILES = ("onnx/*", "openvino/*")
_TOKENIZER = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "*.model")


def find_folder(argument: str) -> tuple[Path, str]:
    """The folder that FOLDER, NAME or NAME@REVISION names, and the name by which the same is found again.

    A folder's name is its absolute path. A name on the Hub is pinned to the commit that was found.

    Raises:
        ModelError: There is neither such a folder nor such a model on the Hub, or it cannot be had. What begins with
            "/", "." or "~" is a folder.
    """
    if (folder := local(argument)) is not None:
        if not folder.is_dir():
            raise ModelError(
                f"hf:{argument}: no such folder; put the language model there, or, for a model that was trained with "
                f"it, into that model's own folder as {folder.name}"
            )
        return folder, str(folder)
    name, _, revision = argument.partition("@")
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


def settings_hash(folder: Path) -> str:
    """A hash of a folder's JSON, such as config.json, most of which the fingerprint leaves out.

    A saved model has the fingerprint, which must therefore stay as it is; tokens that are kept need not.
    """
    import xxhash

    digest = xxhash.xxh3_128()
    for file in sorted(folder.glob("*.json")):
        digest.update(f"{file.name} {file.stat().st_size} ".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _download(name: str, revision: str | None) -> Path:
    hub = library("huggingface_hub", wanted_by=f"hf:{name}", extra="hf")
    with one_line(f"hf:{name}", offline="name its folder: hf:FOLDER"):
        files, others = list(_FILES), list(_NOT_FILES)
        return Path(hub.snapshot_download(name, revision=revision, allow_patterns=files, ignore_patterns=others))
