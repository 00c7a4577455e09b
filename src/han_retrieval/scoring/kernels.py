"""Compiled kernels that nobody waits for: they are loaded, or compiled, while plain torch scores.

Loading takes half a second of a process, compiling some twenty once a machine. A search asks ``are_ready`` and, until
they are, scores in plain torch; ``prepare`` runs in a thread of its own. It compiles in a process of its own, because
compiling holds Python's global lock for most of its time.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from han_retrieval.errors import one_line
from han_retrieval.scoring.matching import Matching
from han_retrieval.scoring.tokens import Tokens


class Use(NamedTuple):
    """What kernels are compiled for.

    Attributes:
        of: "images" or "texts": what is stored.
        storage: How tokens are stored, one of ``STORAGES``.
        direction: As in ``Matching``.
        attention: As in ``Matching``.
        over: What the block's tokens attend to, see ``projections.over_of``; "" for no block.
    """

    of: str
    storage: str
    direction: str
    attention: str
    over: str


_NOTHING = subprocess.DEVNULL
_lock = threading.Lock()
_ready: dict[Use, bool] = {}
_threads: dict[Use, threading.Thread] = {}
_compiling: set[Use] = set()


def are_ready(use: Use) -> bool:
    """Whether the kernels are loaded. If not, they are being made ready, or cannot be."""
    with _lock:
        if use not in _ready:
            _ready[use] = False
            threads = torch.get_num_threads()
            _threads[use] = threading.Thread(target=prepare, args=(use, threads), name="kernels", daemon=True)
            _threads[use].start()
        return _ready[use]


def finish_loading(*, seconds: float = 10.0, compiling: bool = False) -> None:
    """Wait for kernels that are being loaded, so many seconds at most; for those that are compiled if ``compiling``."""
    end = time.monotonic() + seconds
    for use, thread in list(_threads.items()):
        while thread.is_alive() and (compiling or use not in _compiling) and time.monotonic() < end:
            thread.join(0.02)


def prepare(use: Use, threads: int) -> None:
    """Load the kernels, after compiling them where no process has; ``are_ready`` from then on.

    ``threads`` is what torch counts, which a new thread may find set to one for the time of a product.
    """
    from han_retrieval.scoring.api import can_compile

    torch.set_num_threads(threads)
    with contextlib.suppress(ImportError):
        from han_retrieval.scoring.cpu.compiling import is_writable

        mark = _mark(use)
        if not mark.exists() and is_writable(mark.parent):
            _compiling.add(use)
            if not _compile_elsewhere(use):
                return
    if not can_compile():
        return
    try:
        run_once(use)
    except Exception as error:  # what Numba, LLVM and the disk raise has no other common ancestor
        logging.getLogger(__name__).warning("searches are scored without Numba, more slowly: %s", one_line(str(error)))
        return
    with contextlib.suppress(OSError):
        _mark(use).touch()
    with _lock:
        _ready[use] = True


def run_once(use: Use) -> None:
    """Score one pair with the kernels, which compiles or loads them."""
    from han_retrieval.scoring.collection import Collection

    d = 16
    blocks = [_Block(d, use.over)] if use.over else []
    matching = Matching(1.0, use.direction, lambda matches, _: matches.sum(-1), use.attention)
    token, there = torch.ones(1, 1, d), torch.ones(1, 1, dtype=torch.bool)
    stored = Tokens.store(token, use.storage)
    collection = Collection(stored, there, of=use.of, blocks=blocks, matching=matching)
    collection.scores(token[0])


class _Block(nn.Module):
    """An ``AttentionBlock`` that does nothing of use."""

    def __init__(self, d: int, over: str) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(d, d) for _ in range(4))
        self.temperature, self.residual, self.over = 1.0, "query", over


def _mark(use: Use) -> Path:
    """A file that is there once a process of this machine has compiled the kernels."""
    import llvmlite.binding as llvm
    import numba

    from han_retrieval.scoring.cpu.compiling import kept_in

    made_by = f"{numba.__version__}-{sys.implementation.cache_tag}-{llvm.get_host_cpu_name()}"
    return kept_in() / f"{'-'.join(map(str, use))}-{made_by}.done"


def _compile_elsewhere(use: Use) -> bool:
    """Compile the kernels in another process; False if that was killed, as by this one when it ends."""
    if not sys.executable or getattr(sys, "frozen", False):  # a program of its own, which is no Python
        return True
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "han_retrieval.scoring.kernels", *map(str, use)]
    try:
        # Of a session of its own, so that Ctrl-C at the terminal reaches this process alone, which then ends that one.
        process = subprocess.Popen(
            command, env=environment, stdin=_NOTHING, stdout=_NOTHING, stderr=_NOTHING, start_new_session=True
        )
    except OSError:
        return True
    ending = threading.Event()

    def end() -> None:
        ending.set()
        process.kill()

    atexit.register(end)
    process.wait()
    atexit.unregister(end)
    was_killed = process.returncode < 0
    if was_killed and not ending.is_set():
        logging.getLogger(__name__).warning(
            "searches are scored without compiled kernels, more slowly: the process that compiled them was killed, "
            "perhaps for want of memory; the next start tries again"
        )
    return not was_killed


if __name__ == "__main__":
    lower_priority = getattr(os, "nice", None)  # which Windows lacks
    if lower_priority is not None:
        with contextlib.suppress(OSError):
            lower_priority(5)
    run_once(Use(*sys.argv[1:]))
