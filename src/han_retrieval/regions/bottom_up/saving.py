"""Saving and loading a bottom-up detector: a folder with config.json, model.safetensors in float16 and a card."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from han_retrieval.errors import ModelError, first_line
from han_retrieval.files import write_whole
from han_retrieval.parsing import read_settings
from han_retrieval.regions.bottom_up.network import BottomUp, BottomUpConfig
from han_retrieval.storage.folder_checksums import refuse_damage, write_files
from han_retrieval.weights import Unfilled

_CONFIG, _WEIGHTS, _CARD = "config.json", "model.safetensors", "README.md"


def save_detector(folder: Path, config: BottomUpConfig, learned: dict[str, Tensor], *, card: str) -> None:
    """Write the learned weights (``BottomUp.learned``) in float16, and checksums; each file is written whole."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = save({name: value.half().cpu().contiguous() for name, value in learned.items()})
    write_files(folder, {_WEIGHTS: weights, _CONFIG: (config.model_dump_json() + "\n").encode()})
    write_whole(folder / _CARD, card)


def load_config(folder: Path) -> BottomUpConfig:
    """The configuration of a folder's detector.

    Raises:
        ModelError: There is no detector in the folder, or its configuration cannot be read.
    """
    try:
        return BottomUpConfig.model_validate(read_settings(folder / _CONFIG, kind=ModelError))
    except OSError as error:
        raise _unreadable(error) from None
    except ValidationError as error:
        raise ModelError(
            f"{folder / _CONFIG}: not the configuration of a detector ({error.errors()[0]['msg']})"
        ) from None


def _unreadable(error: OSError) -> ModelError:
    return ModelError(
        f"{error.filename}: cannot be read ({error.strerror}); a detector is a folder that han train-detector wrote"
    )


def load_network(folder: Path) -> tuple[BottomUp, str]:
    """The network of a folder, in evaluation mode, and the hash of its weights.

    Raises:
        ModelError: There is no detector in the folder, or it is damaged or cannot be read.
    """
    refuse_damage(folder, [_CONFIG, _WEIGHTS])
    config = load_config(folder)
    try:
        data = (folder / _WEIGHTS).read_bytes()
        with Unfilled():
            network = BottomUp(config)
        learned = load(data)
        if odd := sorted(learned.keys() ^ network.learned().keys()):
            raise ModelError(
                f"{folder / _WEIGHTS}: not the weights of its config.json ({odd[0]} is "
                f"{'of no use' if odd[0] in learned else 'missing'})"
            )
        network.load_state_dict({**network.state_dict(), **learned})
    except OSError as error:
        raise _unreadable(error) from None
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(f"{folder / _WEIGHTS}: not the weights of its config.json ({first_line(error)})") from None
    return network.eval(), hashlib.sha256(data).hexdigest()
