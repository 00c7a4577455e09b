"""Signals end the server once, and what must be done at its end is done even if a request is cut off."""

from __future__ import annotations

import signal

import pytest

from han_retrieval.serve import run
from han_retrieval.serve.run import make_server


async def app(*_: object) -> None:
    """No application."""


def test_a_signal_within_the_first_is_no_fault(monkeypatch):
    server, begun = make_server(app), []

    def start():
        assert not begun, "a thread starts once"
        begun.append(True)
        server.handle_exit(signal.SIGTERM, None)

    monkeypatch.setattr(server.end, "start", start)
    server.handle_exit(signal.SIGINT, None)
    assert server.should_exit
    assert begun


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_to_be_done_is_done_where_a_request_is_cut_off(monkeypatch, capsys, fails):
    done, ended = [], []
    monkeypatch.setattr(run.os, "_exit", ended.append)
    monkeypatch.setattr(run.threading, "excepthook", lambda _: None)

    def cut_off():
        done.append(True)
        if fails:
            raise RuntimeError("the cluster is gone")

    server = make_server(app, cut_off=cut_off)
    server.end.function(*server.end.args)
    assert (done, ended) == ([True], [0])
    assert "a request that still ran was cut off" in capsys.readouterr().err
