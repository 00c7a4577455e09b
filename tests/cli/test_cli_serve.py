"""``han serve`` as a user has it: a process that answers until it is told to stop."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest
from served import make_index

from han_retrieval.cli.main import main

HAN = [sys.executable, "-c", "from han_retrieval.cli.main import main; main()"]
SLOW = [  # searches for "red dog" take as long as the environment says, in a thread that nothing can interrupt
    sys.executable, "-c", """
import os, time
from han_retrieval.cli.main import main
from han_retrieval.serve import SearchService
search = SearchService.search
def slow(self, query, page, photo=None):
    time.sleep(float(os.environ["SECONDS"]) * (query == "red dog"))
    return search(self, query, page, photo)
SearchService.search = slow
main()
"""]  # fmt: skip


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return make_index(tmp_path_factory.mktemp("cli"), photos=2)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_and_stops_when_told(index, sent):
    process = subprocess.Popen(
        [*HAN, "serve", str(index), "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = re.fullmatch(r".*: 2 photos at (http://127\.0\.0\.1:\d+/)\n", line)
        assert address is not None, line + process.communicate(timeout=5)[1]
        with urllib.request.urlopen(f"{address[1]}api/search?q=a+dog", timeout=30) as answer:
            assert len(json.load(answer)["hits"]) == 2
        process.send_signal(sent)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert err.splitlines()[-1] == "stopped"
    assert "Traceback" not in err


@pytest.mark.skipif(os.name == "nt", reason="no signal asks a process there to stop")
@pytest.mark.parametrize(("seconds", "status"), [pytest.param(1.5, 200, marks=pytest.mark.slow), (60, 503)])
def test_when_told_to_stop_it_finishes_what_runs_within_five_seconds(index, seconds, status):
    process = subprocess.Popen(
        [*SLOW, "serve", str(index), "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "SECONDS": str(seconds)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        got = []

        def ask() -> None:
            try:
                got.append(urllib.request.urlopen(f"{address}api/search?q=red+dog", timeout=30).status)
            except urllib.error.HTTPError as refusal:
                got.append(refusal.status)

        asking = threading.Thread(target=ask)
        asking.start()
        while "han_waiting_requests 1.0" not in urllib.request.urlopen(f"{address}metrics").read().decode():
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        _, err = process.communicate(timeout=30)
        took = time.monotonic() - began
        asking.join()
    finally:
        process.kill()
    assert took < 5
    assert process.returncode == 0
    assert got == [status]
    assert ("cut off" in err) == (status == 503)
    assert "Traceback" not in err


def test_what_is_wrong_is_one_line(index, capsys, monkeypatch):
    def error(*args: object) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(["serve", *map(str, args)])
        captured = capsys.readouterr()
        assert (stopped.value.code, captured.out) == (2, "")
        (line,) = captured.err.splitlines()
        return line

    assert "no such index" in error("none")
    assert "--token" in error(index, "--host", "0.0.0.0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr("han_retrieval.serve.SearchService", None)  # it is said before anything is loaded
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1, port {port} (Address already in use); " in error(index, "--port", port)
    for module in [name for name in sys.modules if name.startswith("han_retrieval.serve")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert error(index) == "han: error: fastapi is missing: pip install 'han-retrieval[serve]'"
