"""The processor that a command runs on."""

from __future__ import annotations

import click
import torch

from han_retrieval.errors import ConfigError

device_option = click.option(
    "--device", default="auto", show_default=True, help="cpu, cuda, cuda:1; auto takes a GPU if there is one."
)


def find_device(name: str) -> torch.device:
    """The device of a name as torch has it; "auto" is a GPU if there is one.

    Raises:
        ConfigError: There is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError):
        found = ", ".join(["cpu", *(f"cuda:{k}" for k in range(torch.cuda.device_count()))])
        raise ConfigError(f"no device {name!r} here: take one of {found}") from None
