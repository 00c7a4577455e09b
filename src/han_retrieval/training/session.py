"""A training session: one process at work on a run, with its clock, its checkpoints and its signals."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, Self

from han_retrieval.ranks import ALONE, Ranks
from han_retrieval.training.log import Log
from han_retrieval.training.state import RunState

_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C; what service managers and job schedulers send
_STOPPING = b"\nstopping after this step, with a checkpoint; asked once more, at once\n"
_SAME = 5.0  # seconds; with several ranks, Ctrl-C reaches each of them from the terminal and from torchrun as well


class TrainingSession:
    """Writes checkpoints while a process trains, and stops it in order when it is asked to.

    Inside the ``with`` block, SIGINT and SIGTERM ask the training to stop: the step at work is finished, a checkpoint
    is written, and ``KeyboardInterrupt`` is raised. A second signal raises it at once, and the last checkpoint stands.
    Signals that were ignored before stay ignored (``nohup``). In threads other than the main one, where Python cannot
    handle signals, they are left to the caller.

    The log is flushed before each checkpoint, as a checkpoint stands for everything logged before it. Checkpoints are
    ``minutes`` apart; ``notes`` say on standard error that the training is stopping.

    Several ``ranks`` stop together, after the same step, whichever of them was asked; the first writes.
    """

    def __init__(
        self,
        state: RunState,
        log: Log,
        folder: Path,
        *,
        minutes: float,
        notes: bool = True,
        ranks: Ranks = ALONE,
    ) -> None:
        self._state, self._log, self._folder, self._minutes, self._notes = state, log, folder, minutes, notes
        self._ranks = ranks
        self._before = state.seconds
        self._started = self._saved = time.monotonic()
        self._asked: float | None = None  # when
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
        now = time.monotonic()
        self._state.seconds = self._before + now - self._started
        is_time = self._ranks.first and now - self._saved > 60 * self._minutes
        asked, is_time = self._ranks.any(self._asked is not None, is_time)
        if (asked or end_of_epoch or is_time) and self._ranks.first:
            self._log.flush()
            self._state.save(self._folder)
            self._saved = time.monotonic()
        if asked:
            self._ranks.wait()  # who ends before the checkpoint is whole makes torchrun end them all
            raise KeyboardInterrupt

    def _ask(self, _: int, __: FrameType | None) -> None:
        now = time.monotonic()
        if self._asked is not None:
            if self._ranks.count > 1 and now - self._asked < _SAME:
                return
            raise KeyboardInterrupt
        self._asked = now
        if self._notes and self._ranks.count == 1:  # several are asked as well when one of them fails
            os.write(2, _STOPPING)  # print is not re-entrant, and may be at work
