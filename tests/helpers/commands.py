"""The command ``han`` in this process."""

from __future__ import annotations

import pytest

from han_retrieval.cli.main import main


def run_han(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run ``han ARGUMENTS``: its exit code, standard output and standard error."""
    try:
        main([str(argument) for argument in arguments])
        code = 0
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err
