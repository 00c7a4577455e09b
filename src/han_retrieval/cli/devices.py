"""The processor that a command runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from han_retrieval.errors import ConfigError
from han_retrieval.processor import device_or_best

if TYPE_CHECKING:
    import torch

device_option = click.option(
    "--device", default="auto", show_default=True, help="cpu, cuda, cuda:1; auto takes a GPU if there is one."
)


def find_device(name: str, *, local_rank: int | None = None) -> torch.device:
    """The device of a name as torch has it; "auto" is a GPU if there is one.

    Args:
        name: What was asked for.
        local_rank: The number of one of several processes of this machine, each of which takes a GPU of its own.

    Raises:
        ConfigError: There is no such device.
    """
    import torch

    if local_rank is not None and (name == "cuda" or (name == "auto" and torch.cuda.is_available())):
        if local_rank >= (count := torch.cuda.device_count()):
            raise ConfigError(
                f"process {local_rank + 1} of this machine has no GPU of its own, there are {count}: start as many "
                "with torchrun --nproc-per-node, or take --device cpu"
            )
        return torch.device("cuda", local_rank)
    if name == "auto":
        return device_or_best(None)
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError):
        found = ", ".join(["cpu", *(f"cuda:{k}" for k in range(torch.cuda.device_count()))])
        raise ConfigError(f"no device {name!r} here: take one of {found}") from None
