"""A sitting of a run: its clock, its checkpoints, and the wish to stop, which ends it with a checkpoint."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from han_retrieval.training.log import Log
from han_retrieval.training.state import State

_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C; what service managers and job schedulers send
_STOPPING = b"\nstopping after this step, with a checkpoint; asked once more, at once\n"


class Sitting:
    """From the first step of a process to its last.

    As long as it lasts, SIGINT and SIGTERM are wishes to stop: the step that is being done is finished, a checkpoint is
    written, and ``KeyboardInterrupt`` raised. A second one raises it at once, and the last checkpoint stands. Signals
    that were ignored before stay so (``nohup``), and away from the main thread, where Python hands out none, they are
    the caller's.

    Args:
        state: What is saved; its ``seconds`` go on from those of the sittings before.
        log: Flushed before each checkpoint, which vouches for it.
        folder: Where checkpoints go.
        minutes: Time between checkpoints.
        tell: Say on standard error that the wish was heard.
    """

    def __init__(self, state: State, log: Log, folder: Path, *, minutes: float, tell: bool = True) -> None:
        self._state, self._log, self._folder, self._minutes, self._tell = state, log, folder, minutes, tell
        self._before = state.seconds
        self._started = self._saved = time.monotonic()
        self._asked = False
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._handlers[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def end_step(self, *, end_of_epoch: bool = False) -> None:
        """Write a checkpoint, with the seconds till now: at the end of an epoch, when it is time, and before stopping.

        Raises:
            KeyboardInterrupt: The run was asked to stop.
        """
        now, asked = time.monotonic(), self._asked
        self._state.seconds = self._before + now - self._started
        if asked or end_of_epoch or now - self._saved > 60 * self._minutes:
            self._log.flush()
            self._state.save(self._folder)
            self._saved = time.monotonic()
        if asked:
            raise KeyboardInterrupt

    def _ask(self, _: int, __: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        if self._tell:
            os.write(2, _STOPPING)  # print may be in the middle of a line here, and does not take being entered twice
