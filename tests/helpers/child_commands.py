"""The command ``han`` as processes that can be killed, or whose system calls fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from faults import Call

import han_retrieval

_PROGRAM = """
from han_retrieval.process import tune_process
tune_process()  # before the rest is imported, as in the command itself
from child_runner import prepare, run_and_exit, serve
prepare()
run_and_exit(serve())
"""


@dataclass(frozen=True)
class Run:
    """A run that has ended: its exit code (minus the number of the signal that killed it), outputs, time and calls."""

    code: int
    out: str
    err: str
    seconds: float
    calls: list[Call]


class Commands:
    """Starts ``han`` as processes of a process that has imported everything, so that one takes a fraction of a second.

    Commits are of 4 photos, and there is a detector ``fake``. Close it in the end.

    Attributes:
        no_faults: Why ``kind`` cannot be used here, or None.
    """

    def __init__(self) -> None:
        helpers, package = Path(__file__).parent, Path(han_retrieval.__file__).parents[1]
        path = os.pathsep.join([str(package), str(helpers)])
        self._folder = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
            text=True,
        )
        self.no_faults: str | None = json.loads(self._read())

    def run(
        self,
        *arguments: object,
        kind: str | None = None,
        at: int = 0,
        folder: Path | None = None,
        number: int = signal.SIGKILL,
        after: float | None = None,
        file_size: int | None = None,
        seconds: float = 600,
    ) -> Run:
        """Run ``han ARGUMENTS``.

        Args:
            arguments: Of the command.
            kind, at, folder: A fault, see ``faults.Fault``.
            number, after: A signal, sent so many seconds after the start.
            file_size: No file may become larger.
            seconds: It is killed after so many.
        """
        out, err = (Path(self._folder.name, name) for name in ("out", "err"))
        asked = {
            "arguments": [str(each) for each in arguments],
            "kind": kind,
            "at": at,
            "folder": str(folder),
            "signal": number,
            "after": after,
            "file_size": file_size,
            "seconds": seconds,
            "out": str(out),
            "err": str(err),
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        ended = json.loads(self._read())
        return Run(
            code=ended["code"],
            out=out.read_text(),
            err=err.read_text(),
            seconds=ended["seconds"],
            calls=[Call(*call) for call in ended["calls"]],
        )

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
        self._folder.cleanup()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()
