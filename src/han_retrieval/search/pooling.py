"""One vector an item, so that a matrix product finds the photos worth scoring.

Legend: N items of t tokens each, d numbers a token, e numbers a pooled vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from han_retrieval.errors import HANError
from han_retrieval.files import write_whole

TEXT_MAP = "candidates.safetensors"


class Pooling(Protocol):
    """Tokens to vectors whose dot products order photos nearly as the model's scores do.

    Attributes:
        name: What an index remembers of it.
        size: e.
    """

    name: str
    size: int

    def images(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(N, t, d), (N, t) bool to (N, e) of unit length."""
        ...

    def texts(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(N, t, d), (N, t) bool to (N, e)."""
        ...


@dataclass(frozen=True, eq=False)
class TextMap:
    """What a sentence's mean becomes, so that its products with photos' means go as the scores do; see ``distil``.

    It acts on sentences alone, so an index needs no change where a model gets one.

    Attributes:
        weight: (e, d).
        bias: (e,).
    """

    weight: Tensor
    bias: Tensor

    def write(self, folder: Path, *, model: str) -> Path:
        """Keep it in the folder of the model of this hash; returns the file."""
        path = folder / TEXT_MAP
        tensors = {"weight": self.weight.contiguous(), "bias": self.bias.contiguous()}
        write_whole(path, save(tensors, metadata={"model": model}))
        return path

    @classmethod
    def read(cls, folder: Path, *, model: str) -> TextMap | None:
        """That of a model's folder; None where there is none, or one of other weights.

        Raises:
            HANError: The file is not what it should be.
        """
        path = folder / TEXT_MAP
        if not path.is_file():
            return None
        try:
            with safe_open(path, "pt") as file:
                if (file.metadata() or {}).get("model") != model:
                    return None
                return cls(file.get_tensor("weight").clone(), file.get_tensor("bias").clone())  # not the file's pages
        except (OSError, SafetensorError) as error:
            raise HANError(f"{path}: cannot be read ({error}); `han distil` writes it anew") from None


class MeanPooling:
    """The mean of the tokens that are there, of unit length; e = d.

    Args:
        joint_size: d.
        text_map: What is done with a sentence's mean; None leaves it.
    """

    name = "mean"

    def __init__(self, joint_size: int, text_map: TextMap | None = None) -> None:
        self.size, self._map = joint_size, text_map

    def images(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(N, t, d), (N, t) bool to (N, d) of unit length."""
        return functional.normalize((tokens * mask.to(tokens.device).unsqueeze(2)).sum(1), dim=1)

    def texts(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(N, t, d), (N, t) bool to (N, d), of unit length where there is no map."""
        means = self.images(tokens, mask)
        if self._map is None:
            return means
        return functional.linear(means, self._map.weight.to(means), self._map.bias.to(means))


def pooling_for(name: str, *, joint_size: int, text_map: TextMap | None = None) -> Pooling:
    """The pooling that an index remembers by name.

    Raises:
        HANError: There is none of that name here.
    """
    if name != MeanPooling.name:
        raise HANError(f"its vectors are pooled by {name!r}, which this version does not have: upgrade it")
    return MeanPooling(joint_size, text_map)
