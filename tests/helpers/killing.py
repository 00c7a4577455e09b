"""Processes that are killed by the system, on any system."""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.context import BaseContext
from typing import Any

_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows ends a process at once, whichever signal it is

KILLED = -_KILL if os.name == "posix" else _KILL
"""The exit code of a process that was killed."""


def kill_this_process() -> None:
    """End this process as a power cut would: nothing is cleaned up."""
    os.kill(os.getpid(), _KILL)


def kill_at(owner: Any, name: str, times: int) -> None:
    """Kill this process at the beginning of the n-th call of a function or method of ``owner``."""
    original = getattr(owner, name)
    left = [times]

    def killing(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            kill_this_process()
        return original(*args, **kwargs)

    is_static = isinstance(vars(owner).get(name), staticmethod)
    setattr(owner, name, staticmethod(killing) if is_static else killing)


def processes_with(*modules: str) -> BaseContext:
    """Makes processes, where the system can do it from one that has imported some modules and done nothing else."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(modules))
    return context
