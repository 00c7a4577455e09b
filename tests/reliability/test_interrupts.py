"""Ctrl-C and SIGTERM at any moment of extracting and indexing: a line, the usual exit code, and nothing is lost."""

from __future__ import annotations

import random
import signal

import pytest
from disturbed import check_output

NAMES = ("extract", "extract more", "index", "index update", "index rebuild", "train")
ENDS = {signal.SIGINT: (130,), signal.SIGTERM: (130, -signal.SIGTERM)}  # a training ends its step at both
START = 0.03  # seconds until a command has begun


def interrupt(command, out, number: int, *, times: int, seed: str) -> None:
    moments = random.Random(seed)
    for _ in range(times):
        command.start(out)
        run = command.run(out, number=number, after=moments.uniform(START, command.seconds))
        check_output(run, out)
        assert run.code in (0, *ENDS[number]), run.err
        if run.code == 130:
            assert "stopped" in run.err
        command.check(out)
        command.check_goes_on(out)


@pytest.mark.parametrize("name", ["index update"])
def test_interrupted(command, tmp_path, name):
    interrupt(command(name), tmp_path / "out", signal.SIGINT, times=2, seed="1")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", NAMES)
def test_interrupted_at_many_moments(command, tmp_path, name, number):
    interrupt(command(name), tmp_path / "out", number, times=6, seed=name)
