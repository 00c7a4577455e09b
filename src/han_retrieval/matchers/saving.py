"""A model as a folder: config.json, model.safetensors, vocabulary.json, their checksums and a card, README.md.

Nothing is pickled. The card is not among the checksums: people edit it, and programs read nothing of it that matters
to scores.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from han_retrieval.errors import ModelError
from han_retrieval.files import from_home, write_whole
from han_retrieval.matchers import hub
from han_retrieval.objects import is_remote, to_path
from han_retrieval.parsing import read_settings
from han_retrieval.storage.folder_checksums import refuse_damage, write_files
from han_retrieval.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from han_retrieval.matchers.base import MatcherConfig

CONFIG, WEIGHTS, VOCABULARY, CARD = "config.json", "model.safetensors", "vocabulary.json", "README.md"
DEFAULT_MODEL = "default"
"""The name of the model that ships, wherever a model's folder can be given."""
_SHIPPED = Path(__file__).parents[1] / "pretrained" / "han"

C = TypeVar("C", bound=BaseModel)
M = TypeVar("M", bound="MatcherConfig")

# Fields of configurations that earlier versions saved: those that only decided how a training began, and renamed ones.
_DROPPED = ("attention_start", "value_start")
_RENAMED = {"boundary_words": "bos_eos"}


def model_folder(name: str | Path) -> Path:
    """The folder of a model: ``DEFAULT_MODEL`` is the one that ships, ``user/name`` one of the Hugging Face Hub.

    As text, "./default" is a folder of one's own, and "~" the home folder. A folder that is here counts before the Hub.

    Raises:
        ModelError: The Hub does not have it, or a path may mean two folders: ``Path("./default")`` is
            ``Path("default")``, and there is such a folder.
    """
    if is_remote(to_path(name)):
        raise ModelError(f"{name}: models are read from a folder or the Hub; copy it to a folder")
    path = Path(name)
    if path != Path(DEFAULT_MODEL):
        return hub.download(str(name)) if hub.is_hub_name(name) else from_home(path)
    if str(name) != DEFAULT_MODEL:
        return path.absolute()
    if isinstance(name, Path) and name.is_dir():
        raise ModelError(
            f"{DEFAULT_MODEL}: may be the model that ships or the folder here; name your own as {path.absolute()}, and "
            f"the one that ships by the text {DEFAULT_MODEL!r}, not a Path"
        )
    return _SHIPPED


def save_folder(
    folder: Path,
    config: BaseModel,
    state: dict[str, Tensor],
    vocabulary: Vocabulary | None,
    *,
    card: str | None,
    half: bool = False,
) -> None:
    """Write a model's files, each whole, and their checksums; the weights come last, so that a folder with weights is
    complete.

    With ``half``, numbers are kept in float16; models are loaded in float32 all the same.
    """
    from han_retrieval.weights import tensor_bytes

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"{folder}: the folder cannot be made ({error.strerror})") from None
    if card is not None:
        write_whole(folder / CARD, card)
    if half:
        state = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    contents = {} if vocabulary is None else {VOCABULARY: vocabulary.to_json().encode()}
    own = {"vocabulary": None if vocabulary is None else VOCABULARY}
    contents[CONFIG] = (json.dumps({**config.model_dump(), **own}, indent=2) + "\n").encode()
    contents[WEIGHTS] = tensor_bytes(state)
    write_files(folder, contents)


def matcher_name(folder: Path) -> str:
    """The name of the matcher that a folder holds.

    Raises:
        ModelError: As ``load_folder``.
    """
    return str(config_fields(folder)["matcher"])


def config_fields(folder: Path) -> dict[str, Any]:
    """The fields of config.json; one that names no matcher is a HAN's."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder")
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: {name} is missing; a model folder holds {CONFIG}, {WEIGHTS} and {VOCABULARY}")
    refuse_damage(folder, [CONFIG])
    fields: dict[str, Any] = read_settings(folder / CONFIG, kind=ModelError)
    if not isinstance(fields, dict):
        raise ModelError(f"{folder / CONFIG}: not the configuration of a model")
    if fields.pop("box_geometry", False):
        raise ModelError(
            f"{folder / CONFIG}: box_geometry is on, which this version no longer has; train the model anew, or load "
            "it with the version that made it"
        )
    kept = {_RENAMED.get(name, name): value for name, value in fields.items() if name not in _DROPPED}
    return {"matcher": "han", **kept}


def load_folder(folder: Path, kind: type[C]) -> tuple[C, dict[str, Tensor], Vocabulary | None]:
    """Read what ``save_folder`` wrote of a matcher with this kind of configuration.

    Raises:
        ModelError: The folder or a file is missing, a file is not what it should be, or it is another matcher's; the
            message names it.
    """
    from han_retrieval.weights import read_tensors

    fields = config_fields(folder)
    wanted = kind.model_fields["matcher"].default
    if fields["matcher"] != wanted:
        raise ModelError(
            f"{folder / CONFIG}: of the matcher {fields['matcher']!r}, not {wanted!r}; load_matcher loads any"
        )
    # Older folders do not say whether they have one.
    words = fields.pop("vocabulary", VOCABULARY if (folder / VOCABULARY).is_file() else None)
    try:
        config = kind.model_validate(fields)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ModelError(f"{folder / CONFIG}: {wrong}") from None
    if words is not None and not (folder / VOCABULARY).is_file():
        raise ModelError(f"{folder}: {VOCABULARY} is missing; the model cannot read sentences without it")
    refuse_damage(folder, [CONFIG, WEIGHTS, *([VOCABULARY] if words is not None else [])])
    state = read_tensors(folder / WEIGHTS)
    return config, state, None if words is None else Vocabulary.load(folder / VOCABULARY)


def with_language_model(folder: Path, config: M) -> M:
    """A matcher's configuration with the folder of its language model as it is here.

    Where there is no such folder any more, as on another machine, one of that name inside the model's folder counts.
    """
    kind, _, path = config.text_encoder.partition(":")
    there = Path(path.removesuffix("@proj"))
    own = folder / there.name
    if kind not in ("hf", "open_clip") or not there.is_absolute() or there.exists() or not own.is_dir():
        return config
    suffix = "@proj" if path.endswith("@proj") else ""
    return config.model_copy(update={"text_encoder": f"{kind}:{own}{suffix}"})


def folder_hash(folder: Path) -> str:
    """A hash of a saved model's configuration, weights and vocabulary: the same for the same model in any folder.

    Raises:
        ModelError: The folder or one of its files is missing.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name in (CONFIG, WEIGHTS, VOCABULARY):
        path = folder / name
        if not path.is_file() and name != VOCABULARY:
            raise ModelError(f"{path}: no such file; a model folder holds {CONFIG}, {WEIGHTS} and {VOCABULARY}")
        content = path.read_bytes() if path.is_file() else b""
        digest.update(f"{name} {len(content)} ".encode())
        digest.update(content)
    return digest.hexdigest()


def refuse_other_weights(folder: Path, wanted: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    """Check that weights have the names and shapes that the configuration asks for.

    Raises:
        ModelError: Names or shapes differ; the message names the first difference.
    """
    for name in sorted(wanted.keys() | found.keys()):
        there, here = (state[name].shape if name in state else None for state in (found, wanted))
        if there != here:
            raise ModelError(
                f"{folder / WEIGHTS}: {name} is {_shape(there)} there, {_shape(here)} by {CONFIG}: "
                "the two files are of different models"
            )


def _shape(shape: torch.Size | None) -> str:
    return "missing" if shape is None else str(tuple(shape))
