"""A training session: one process at work on a run, with its clock, its checkpoints and its signals."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, Self

from han_retrieval.training.log import Log
from han_retrieval.training.state import RunState

_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C; what service managers and job schedulers send
_STOPPING = b"\nstopping after this step, with a checkpoint; asked once more, at once\n"


class TrainingSession:
    """Writes checkpoints while a process trains, and stops it in order when it is asked to.

    Inside the ``with`` block, SIGINT and SIGTERM ask the training to stop: the step at work is finished, a checkpoint
    is written, and ``KeyboardInterrupt`` is raised. A second signal raises it at once, and the last checkpoint stands.
    Signals that were ignored before stay ignored (``nohup``). In threads other than the main one, where Python cannot
    handle signals, they are left to the caller.

    The log is flushed before each checkpoint, as a checkpoint stands for everything logged before it. Checkpoints are
    ``minutes`` apart; ``notes`` say on standard error that the training is stopping.
    """

    def __init__(self, state: RunState, log: Log, folder: Path, *, minutes: float, notes: bool = True) -> None:
        self._state, self._log, self._folder, self._minutes, self._notes = state, log, folder, minutes, notes
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

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def end_step(self, *, end_of_epoch: bool = False) -> None:
        """Write a checkpoint at the end of an epoch, when it is time, and before stopping.

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
        if self._notes:
            os.write(2, _STOPPING)  # print is not re-entrant, and may be at work
