"""Runs ``han`` in processes of their own, one after another, forked from this one, which has imported everything.

A line of JSON on standard input asks for a run (see ``child_commands.Run``), a line on standard output tells its end.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
import warnings
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import faults
import lance  # noqa: F401
import tiny_index
import torch

from han_retrieval import plugins
from han_retrieval.cli.main import COMMANDS, cli, main


def make_detector(argument: str, *, regions: int) -> tiny_index.FakeDetector:
    """The detector ``fake``."""
    return tiny_index.FakeDetector(f"fake-1-{regions}")


def prepare() -> None:
    """Import what commands need, and let them commit every 4 photos."""
    own = plugins.entry_points(group="han_retrieval.detectors")
    fake = EntryPoint("fake", "child_runner:make_detector", "han_retrieval.detectors")
    others = plugins.entry_points
    plugins.entry_points = lambda *, group: [*own, fake] if group == "han_retrieval.detectors" else others(group=group)
    for name in COMMANDS:
        cli.get_command(None, name)  # type: ignore[arg-type]
    import han_retrieval.regions.extraction as extraction

    tiny_index.set_small_commits()
    extraction._ROWS_A_COMMIT = 4
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="lance is not fork-safe")  # it is, as long as it has done nothing yet
    gc.freeze()


def prepare_training() -> None:
    """Import what trainings need besides."""
    import scipy.linalg  # noqa: F401

    from han_retrieval.scoring.api import can_compile

    can_compile()
    gc.freeze()


def supervise(child: int, run: dict[str, Any], theirs: socket.socket) -> list[faults.Call]:
    """Let a run be disturbed as it is asked for, and wait for its end."""
    _, listeners, _, _ = socket.recv_fds(theirs, 1, 1)  # until it is about to begin
    for listener in listeners:
        fault = faults.Fault(run["kind"], run["at"], Path(run["folder"]))
        try:
            return faults.supervise(listener, child, fault, seconds=run["seconds"])
        finally:
            os.close(listener)
    pidfd = os.pidfd_open(child)
    for number, after in ((run["signal"], run["after"]), (signal.SIGKILL, run["seconds"])):
        if after is not None:
            if select.select([pidfd], [], [], after)[0]:
                break
            os.kill(child, number)
    os.close(pidfd)
    return []


def suffer(run: dict[str, Any], ours: socket.socket) -> None:
    """In the new process: become what the run asks for."""
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(run[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if run["file_size"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (run["file_size"], run["file_size"]))
    listeners = [faults.listen()] if run["kind"] else []
    socket.send_fds(ours, [b"x"], listeners)
    for listener in listeners:
        os.close(listener)


def serve() -> list[str]:
    """Start runs as they are asked for; in each new process, returns the command's arguments."""
    print(json.dumps(faults.why_not()), flush=True)
    for line in sys.stdin:
        run = json.loads(line)
        if run["arguments"][0] in ("train", "distil"):
            prepare_training()
        ours, theirs = socket.socketpair()
        started = time.perf_counter()
        child = os.fork()
        if not child:
            suffer(run, ours)
            return run["arguments"]
        ours.close()
        calls = supervise(child, run, theirs)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        theirs.close()
        print(json.dumps({"code": code, "seconds": time.perf_counter() - started, "calls": calls}), flush=True)
    sys.exit()


def run_and_exit(arguments: list[str]) -> None:
    """Run the command and end the process, without the second that Python takes to give back torch's memory."""
    code = 0
    try:
        main(arguments)
    except SystemExit as stopped:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        code = int(stopped.code or 0)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
