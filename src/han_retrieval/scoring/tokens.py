"""Tokens in four, two or one bytes a number."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

STORAGES = ("float32", "float16", "bfloat16", "int8")


@dataclass(frozen=True)
class Tokens:
    """Tokens in few bytes; one scale a token for int8, which its largest number sets.

    Attributes:
        values: (..., d) in the storage's dtype.
        scale: (...) float32; 1 unless int8.
    """

    values: Tensor
    scale: Tensor

    @classmethod
    def store(cls, tokens: Tensor, storage: str) -> Tokens:
        """(..., d) float32 tokens, rounded to one of ``STORAGES``."""
        if storage not in STORAGES:
            raise ValueError(f"storage must be one of {', '.join(STORAGES)}; got {storage!r}")
        if storage == "int8":
            scale = tokens.abs().amax(-1).clamp_min(1e-12) / 127
            return cls((tokens / scale.unsqueeze(-1)).round().to(torch.int8), scale)
        return cls(tokens.to(getattr(torch, storage)), torch.ones(tokens.shape[:-1], device=tokens.device))

    def load(self) -> Tensor:
        """(..., d) float32."""
        return self.values.float() * self.scale.unsqueeze(-1)

    def to(self, device: torch.device | str) -> Tokens:
        """The same on another device."""
        return Tokens(self.values.to(device), self.scale.to(device))
