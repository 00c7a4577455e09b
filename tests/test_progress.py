"""Progress bars: few lines in a log, none where nobody can see them."""

from __future__ import annotations

import io
import sys

from han_retrieval.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_few_lines_and_a_terminal_many(monkeypatch):
    for stream, seconds in ((io.StringIO(), 30.0), (Terminal(), 0.1)):
        monkeypatch.setattr(sys, "stderr", stream)
        with progress_bar(range(3), unit="photo") as bar:
            assert list(bar) == [0, 1, 2]
            assert bar.mininterval == seconds
            assert bar.maxinterval >= bar.mininterval
        assert "3/3" in stream.getvalue()


def test_without_a_stderr_the_work_goes_on(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert list(progress_bar(range(3))) == [0, 1, 2]
    assert list(progress_bar(range(3), show=False)) == [0, 1, 2]
