"""Weights from safetensors files, and modules that are made to take them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from torch.overrides import TorchFunctionMode

from han_retrieval.errors import HANError, ModelError
from han_retrieval.process import interrupts_wait


def tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Tensors as the content of a safetensors file; those that share memory, as tied weights do, each for itself."""
    values: dict[str, Tensor] = {}
    seen = set()
    for name, value in tensors.items():
        value = value.detach().cpu().contiguous()
        place = value.untyped_storage().data_ptr()
        values[name] = value.clone() if place in seen else value
        seen.add(place)
    return save(values)


def read_tensors(path: Path, *, error: type[HANError] = ModelError) -> dict[str, Tensor]:
    """The tensors of a safetensors file. They lie in the file's pages: copy what outlives it.

    Raises:
        HANError: It is not a whole safetensors file; of the kind ``error``.
    """
    try:
        with interrupts_wait():  # safetensors would say that the file is broken
            return load_file(path)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as reason:
        raise error(f"{path}: not a whole safetensors file ({reason})") from None


class Unfilled(TorchFunctionMode):
    """Inside the ``with`` block, modules are made without random weights, for weights that replace all of them.

    This takes a fifth of the time. Memory that nothing was written into is not used yet, so that a configuration with
    absurd sizes can be refused by its shapes.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if _FILLING.get():
            return func(*args, **kwargs)
        if getattr(func, "__module__", None) == "torch.nn.init" or func in (Tensor.normal_, Tensor.uniform_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


_FILLING: ContextVar[bool] = ContextVar("filling", default=False)


@contextmanager
def filled() -> Iterator[None]:
    """Inside the ``with`` block, modules are made with their values also within ``Unfilled``."""
    token = _FILLING.set(True)
    try:
        yield
    finally:
        _FILLING.reset(token)
