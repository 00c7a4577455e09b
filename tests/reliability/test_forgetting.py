"""A folder is forgotten whole, or the same command can be given again."""

from __future__ import annotations

import pytest


@pytest.mark.usefixtures("faults")
def test_forgetting_that_is_killed_goes_on(command, tmp_path):
    changing, out = command("index forget"), tmp_path / "out"
    changing.start(out)
    calls = changing.run(out, kind="count").calls
    for at in [place for place, call in enumerate(calls, 1) if call.name == "rename"]:
        changing.start(out)
        assert changing.run(out, kind="kill", at=at).code == -9
        changing.check(out)
        assert changing.run(out).code == 0
        changing.check_done(out)
