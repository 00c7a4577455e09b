"""The vector of a sentence as a sentence-transformers folder makes it of a language model's states.

Legend: T texts, L sub-words, h numbers a state, P numbers a vector.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from han_retrieval.errors import ModelError
from han_retrieval.parsing import read_settings
from han_retrieval.weights import Unfilled, read_tensors

_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last",
}
_WRONG = (AttributeError, KeyError, OverflowError, RuntimeError, TypeError, ValueError)
_ACTIVATIONS: dict[str, type[nn.Module]] = {"Tanh": nn.Tanh, "Identity": nn.Identity, "GELU": nn.GELU, "ReLU": nn.ReLU}


class SentencePooling(nn.Module):
    """The modules behind the language model of a sentence-transformers folder; the mean where the folder has none.

    Args:
        poolings: How states become one vector, of "cls", "mean", "max", "last"; several are put side by side.
        behind: What the vector goes through.
    """

    def __init__(self, poolings: list[str], behind: list[nn.Module]) -> None:
        super().__init__()
        self.poolings = poolings
        self.behind = nn.Sequential(*behind)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The modules of ``modules.json`` behind the first, which is the language model.

        Raises:
            ModelError: A file is missing or broken, or a module is of a kind that is not known here.
        """
        if not (folder / "modules.json").is_file():
            return cls(["mean"], [])
        modules: Any = read_settings(folder / "modules.json", kind=ModelError)
        poolings, behind = ["mean"], []
        try:
            for module in modules[1:]:
                kind, path = str(module["type"]).rpartition(".")[2], folder / str(module["path"])
                if kind == "Pooling":
                    poolings = _poolings(read_settings(path / "config.json", kind=ModelError))
                elif kind == "Dense":
                    behind += _dense(path)
                elif kind == "Normalize":
                    behind.append(_Normalize())
                else:
                    raise ModelError(f"{folder / 'modules.json'}: the module {kind} is not known here")
        except _WRONG as error:
            raise ModelError(f"{folder / 'modules.json'}: not as sentence-transformers writes it ({error!r})") from None
        return cls(poolings, behind)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """(T, L, h) states and (T, L) bool to (T, P)."""
        there = mask.unsqueeze(-1)
        parts = []
        for pooling in self.poolings:
            if pooling == "mean":
                parts.append(torch.where(there, states, 0).sum(1) / there.sum(1))
            elif pooling == "max":
                parts.append(states.masked_fill(~there, -torch.inf).amax(1))
            else:
                place = mask.sum(1) - 1 if pooling == "last" else torch.zeros_like(mask[:, 0], dtype=torch.int64)
                parts.append(states[torch.arange(len(states), device=states.device), place])
        return self.behind(torch.cat(parts, dim=-1))


class _Normalize(nn.Module):
    def forward(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=-1)


def _poolings(config: Any) -> list[str]:
    if isinstance(mode := config.get("pooling_mode"), str):  # of newer versions
        return [{"cls": "cls", "mean": "mean", "max": "max", "lasttoken": "last"}[mode]]
    wanted = [_POOLINGS[key] for key, value in config.items() if key.startswith("pooling_mode") and value is True]
    if not wanted:
        raise ValueError("no pooling is named")
    return wanted


def _dense(folder: Path) -> list[nn.Module]:
    config = read_settings(folder / "config.json", kind=ModelError)
    with Unfilled():
        linear = nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
    weights = read_tensors(folder / "model.safetensors")
    linear.load_state_dict({name.removeprefix("linear."): value for name, value in weights.items()})
    return [linear, _ACTIVATIONS[str(config.get("activation_function", "Tanh")).rpartition(".")[2]]()]
