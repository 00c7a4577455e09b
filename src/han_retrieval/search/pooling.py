"""Pool tokens into one vector, so that a matrix product can choose candidates.

Legend: N items of t tokens each, d numbers a token, e numbers a pooled vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from han_retrieval.errors import ModelError
from han_retrieval.storage.folder_checksums import refuse_damage, write_files

TEXT_MAP = "candidates.safetensors"


@dataclass(frozen=True, eq=False)
class TextMap:
    """A linear map of a sentence's mean, which brings its products with photos' means closer to the scores.

    ``distil`` learns it. Photos keep their means, so an index stays as it is when its model gets a map.

    Attributes:
        weight: (e, d).
        bias: (e,).
    """

    weight: Tensor
    bias: Tensor

    def write(self, folder: Path, *, model: str) -> Path:
        """Write it into the folder of the model with this hash, and return the file's path."""
        tensors = {"weight": self.weight.contiguous(), "bias": self.bias.contiguous()}
        write_files(folder, {TEXT_MAP: save(tensors, metadata={"model": model})})
        return folder / TEXT_MAP

    @classmethod
    def read(cls, folder: Path, *, model: str, size: int) -> TextMap | None:
        """The map in the folder of a model with this joint size; None if there is none, or one of other weights.

        Raises:
            ModelError: The file is damaged or no such map.
        """
        path = folder / TEXT_MAP
        refuse_damage(folder, [TEXT_MAP], anew="han distil")
        if not path.is_file():
            return None
        try:
            with safe_open(path, "pt") as file:
                if (file.metadata() or {}).get("model") != model:
                    return None
                # Clones, as the tensors lie in the file's pages.
                weight, bias = (file.get_tensor(name).clone() for name in ("weight", "bias"))
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path}: cannot be read ({error}); `han distil` writes it anew") from None
        if weight.shape != (size, size) or bias.shape != (size,):
            raise ModelError(
                f"{path}: a map of {tuple(weight.shape)} and {tuple(bias.shape)} numbers; this model takes "
                f"{(size, size)} and {(size,)}; `han distil` writes it anew"
            )
        return cls(weight, bias)


class MeanPooling:
    """The mean of the tokens that are no padding, scaled to unit length: e = d.

    Dot products of these vectors order photos nearly as the model's scores do.

    Args:
        joint_size: d.
        text_map: Maps a sentence's mean, if given.
    """

    name = "mean"  # by which an index remembers it

    def __init__(self, joint_size: int, text_map: TextMap | None = None) -> None:
        self.size, self._map = joint_size, text_map

    def images(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Tokens (N, t, d) and their mask (N, t) to vectors (N, d) of unit length."""
        return functional.normalize((tokens * mask.to(tokens.device).unsqueeze(2)).sum(1), dim=1)

    def texts(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Tokens (N, t, d) and their mask (N, t) to vectors (N, d), of unit length without a map."""
        means = self.images(tokens, mask)
        if self._map is None:
            return means
        return functional.linear(means, self._map.weight.to(means), self._map.bias.to(means))
