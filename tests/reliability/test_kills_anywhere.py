"""Every command that writes, killed by signal 9 at any moment: nothing is lost, and the same command goes on.

``HAN_EVERY_CALL=1`` kills at every single system call that changes a file, for an hour; without it, at some of them.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from disturbed import NAMES

EVERY_CALL = bool(os.environ.get("HAN_EVERY_CALL"))
KILLS = 50  # of each command at random moments


def places(command, count: int, *, first: int = 1) -> list[int]:
    """So many of the command's calls, evenly from the first on; all of them where that is asked for."""
    step = 1 if EVERY_CALL else max(1, command.calls / count)
    return sorted({first + int(step * each) for each in range(int((command.calls - first) / step) + 1)})


def check_recovery(command, out, run) -> None:
    assert run.code in (0, -9), run.err
    command.check(out)
    command.check_goes_on(out)


def disturb_at(command, out, places, kind: str, check) -> None:
    """Disturb the command at each of some calls, and check what it leaves."""
    assert places
    disturbed = 0
    for at in places:
        command.start(out)
        run = command.run(out, kind=kind, at=at)
        disturbed += len(run.calls) >= at
        try:
            check(command, out, run)
        except AssertionError as error:
            call = run.calls[at - 1] if len(run.calls) >= at else "no call"
            raise AssertionError(f"{command.name}, {kind} at call {at} ({call}): {error}") from None
    assert disturbed  # a run may have fewer calls than the one before, but not all of them


@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize("name", ["index update", "index forget"])
def test_killed_at_a_system_call(command, tmp_path, name):
    changing = command(name)
    disturb_at(changing, tmp_path / "out", places(changing, 2, first=17), "kill", check_recovery)


@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize("name", [pytest.param("extract", marks=pytest.mark.slow), "index"])
def test_killed_before_there_is_anything(command, tmp_path, name):
    """Also between a temporary file and its name: the folder is not refused for what is in it."""
    changing, out = command(name), tmp_path / "out"
    calls = changing.run(out, kind="count").calls
    named = [place for place, call in enumerate(calls, 1) if Path(call.path).name.startswith((".link", ".index"))]
    disturb_at(changing, out, named[:6] if EVERY_CALL else named[1:5:2], "kill", check_recovery)


@pytest.mark.slow
@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize(("kind", "count"), [("kill", 12), ("torn", 6)])
@pytest.mark.parametrize("name", NAMES)
def test_killed_at_many_system_calls(command, tmp_path, name, kind, count):
    changing = command(name)
    disturb_at(changing, tmp_path / "out", places(changing, count), kind, check_recovery)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_killed_at_random_moments(command, tmp_path, name):
    """One run after another is killed, each going on from the one before, until one ends by itself; then from new."""
    changing, moments, kills = command(name), random.Random(name), 0
    out = tmp_path / "out"
    while kills < KILLS:
        changing.start(out)
        for _ in range(4):
            after = moments.uniform(0, changing.seconds)
            run = changing.run(out, after=after)
            kills += run.code == -9
            changing.check(out)
            if run.code == 0:
                break
        changing.check_goes_on(out)
