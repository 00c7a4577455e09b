"""Commands that the tests of faults disturb, made once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest
from child_commands import Commands
from disturbed import Command, make_command


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    if not sys.platform.startswith("linux"):
        pytest.skip("processes are forked and killed as on Linux")
    started = Commands()
    yield started
    started.close()


@pytest.fixture(scope="session")
def faults(commands) -> None:
    """Skips where system calls cannot be made to fail."""
    if commands.no_faults:
        pytest.skip(commands.no_faults)


@pytest.fixture(scope="session")
def command(commands, tmp_path_factory) -> Callable[[str], Command]:
    """Gives a command by its name."""
    folder, made = tmp_path_factory.mktemp("commands"), {}

    def find(name: str) -> Command:
        if name not in made:
            made[name] = make_command(name, folder, commands)
        return made[name]

    return find
