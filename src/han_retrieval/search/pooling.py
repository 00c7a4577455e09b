"""One vector a photo and a sentence, so that a matrix product can choose candidates.

They are the mean of the model's tokens, or, as ``han index --candidates pooled`` asks for, the vectors that the two
towers of a vision-language model give: ``Regions.pooled`` and the text encoder's ``pooled``.

Legend: N items of t tokens each, d numbers a token, e numbers a pooled vector.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from han_retrieval.errors import ConfigError, DataError, ModelError
from han_retrieval.storage.folder_checksums import refuse_damage, write_files

if TYPE_CHECKING:
    from torch import Tensor

    from han_retrieval.matchers import Matcher
    from han_retrieval.regions import RegionBatch

TEXT_MAP = "candidates.safetensors"
MAP_PHOTOS, MAP_SENTENCES = 3000, 1500
"""How many photos and sentences a text map is learned from, unless more or fewer are asked for."""


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
        from safetensors.torch import save

        tensors = {"weight": self.weight.contiguous(), "bias": self.bias.contiguous()}
        write_files(folder, {TEXT_MAP: save(tensors, metadata={"model": model})})
        return folder / TEXT_MAP

    @classmethod
    def read(cls, folder: Path, *, model: str, size: int) -> TextMap | None:
        """The map in the folder of a model with this joint size; None if there is none, or one of other weights.

        Raises:
            ModelError: The file is damaged or no such map.
        """
        from safetensors import SafetensorError, safe_open

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


class Pooling(Protocol):
    """What gives photos and sentences their vectors; ``name`` is how an index remembers it."""

    name: str

    def photos(self, batch: RegionBatch, tokens: Tensor, mask: Tensor) -> Tensor:
        """The vectors (N, e), of unit length, of photos with these regions, tokens (N, m, d) and mask (N, m)."""
        ...

    def sentences(self, model: Matcher, words: Tensor, word_mask: Tensor, tokens: Tensor) -> Tensor:
        """The vectors (N, e) of sentences: what the text encoder takes, its mask (N, n), and their tokens (N, n, d)."""
        ...


class MeanPooling:
    """The mean of the tokens that are no padding, scaled to unit length: e = d.

    Dot products of these vectors order photos nearly as the model's scores do.

    Args:
        text_map: Maps a sentence's mean, if given.
    """

    name = "mean"  # by which an index remembers it

    def __init__(self, text_map: TextMap | None = None) -> None:
        self._map = text_map

    def photos(self, batch: RegionBatch, tokens: Tensor, mask: Tensor) -> Tensor:
        """See ``Pooling.photos``."""
        return self.images(tokens, mask)

    def sentences(self, model: Matcher, words: Tensor, word_mask: Tensor, tokens: Tensor) -> Tensor:
        """See ``Pooling.sentences``."""
        return self.texts(tokens, word_mask)

    def images(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Tokens (N, t, d) and their mask (N, t) to vectors (N, d) of unit length."""
        from torch.nn import functional

        return functional.normalize((tokens * mask.to(tokens.device).unsqueeze(2)).sum(1), dim=1)

    def texts(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Tokens (N, t, d) and their mask (N, t) to vectors (N, d), of unit length without a map."""
        from torch.nn import functional

        means = self.images(tokens, mask)
        if self._map is None:
            return means
        return functional.linear(means, self._map.weight.to(means), self._map.bias.to(means))


class TowerPooling:
    """The vectors of a model's image tower and text tower, of unit length."""

    name = "pooled"

    def photos(self, batch: RegionBatch, tokens: Tensor, mask: Tensor) -> Tensor:
        """See ``Pooling.photos``.

        Raises:
            DataError: The detector gives no vector of the whole photo.
        """
        from torch.nn import functional

        if batch.pooled is None:
            raise DataError(
                "the detector gives no vector of the whole photo to choose candidates by; leave --candidates pooled "
                "out, or take a model whose detector is an image tower"
            )
        return functional.normalize(batch.pooled, dim=1)

    def sentences(self, model: Matcher, words: Tensor, word_mask: Tensor, tokens: Tensor) -> Tensor:
        """See ``Pooling.sentences``.

        Raises:
            ConfigError: The text encoder gives no vector of a sentence.
        """
        from torch.nn import functional

        encoder = model.text_encoder
        if not callable(getattr(encoder, "pooled", None)):
            raise ConfigError(
                f"the text encoder {model.config.text_encoder} gives no vector of a whole sentence to choose "
                "candidates by; leave --candidates pooled out, or take a model with a text tower, such as "
                "open_clip:NAME/PRETRAINED"
            )
        return functional.normalize(encoder.pooled(words, word_mask).float(), dim=1)  # type: ignore[operator]


POOLINGS = (MeanPooling.name, TowerPooling.name)
"""How an index can choose candidates, by name; the first by default."""


def make_pooling(name: str, text_map: TextMap | None = None) -> Pooling:
    """The pooling of this name; the map is used where means are."""
    return TowerPooling() if name == TowerPooling.name else MeanPooling(text_map)
