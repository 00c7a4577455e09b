"""Connections that are slow, idle or many, and bodies without an end: others are served all the same."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from served import make_index, running

from han_retrieval.serve import Limits, SearchService, connections, create_app
from han_retrieval.serve.connections import GuardedConnection, NoFlood, network_of

BIG = 30_000_000
PART = 60_000


async def app(scope, receive, send):
    """Answers /big with much, /parts with as much part by part, /body when it has the body; others at once."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/body":
        while (message := await receive()).get("more_body"):
            pass
        if message["type"] == "http.disconnect":
            return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    for _ in range(BIG // PART if scope["path"] == "/parts" else 0):
        await send({"type": "http.response.body", "body": bytes(PART), "more_body": True})
    await send({"type": "http.response.body", "body": bytes(BIG if scope["path"] == "/big" else 10)})


@pytest.fixture
def address(monkeypatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr(connections, "_PATIENCE", 1.0)
    monkeypatch.setattr(connections, "_SLOWEST", 100_000)
    monkeypatch.setattr(GuardedConnection, "most", 12)
    with running(app) as address:
        yield address


def ask(address: tuple[str, int], path: str = "/", **options: object) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(*address, timeout=20)
    connection.request(str(options.pop("method", "GET")), path, **options)
    answer = connection.getresponse()
    answer.read()
    return answer


def seconds_until_closed(connection: socket.socket, feed: bytes) -> float:
    """How long the server keeps a connection to which something is sent every tenth of a second."""
    began = time.monotonic()
    connection.settimeout(0.1)
    while time.monotonic() - began < 20:
        try:
            connection.sendall(feed)
            if not connection.recv(1000):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - began


SLOW = [
    (b"", b""),
    (b"GET / HTTP/1.1\r\nHost: x\r\n", b""),
    (b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b"a"),  # a letter at a time
    (b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", b""),
    (b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", b"a" * 100),
    (b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
    (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b"a" * 4096 + b"\r\n"),
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b""),  # kept after its answer
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET", b" "),
]  # what each sends at first, and then every tenth of a second


def test_who_is_slow_is_hung_up_on(address, monkeypatch):
    monkeypatch.setattr(GuardedConnection, "most", 100)

    def seconds(begins: bytes, feed: bytes) -> float:
        with socket.create_connection(address) as connection:
            connection.sendall(begins)
            return seconds_until_closed(connection, feed)

    with ThreadPoolExecutor(len(SLOW)) as pool:
        took = list(pool.map(seconds, *zip(*SLOW, strict=True)))
    assert all(0.8 < each < 8 for each in took), took
    assert ask(address).status == 200


def test_who_takes_no_answer_is_hung_up_on(address, monkeypatch):
    monkeypatch.setattr(connections, "_SLOWEST", BIG)
    with socket.create_connection(address) as connection:
        connection.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(3.5)
        connection.settimeout(10)
        taken = 0
        with contextlib.suppress(ConnectionError):
            while more := connection.recv(2**20):
                taken += len(more)
    assert taken < BIG  # the rest was given up
    assert ask(address, "/big").status == 200


def test_an_answer_that_is_taken_at_a_fair_speed_is_sent_whole(address):
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        connection.connect(address)
        connection.settimeout(10)
        connection.sendall(b"GET /parts HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        taken, began = 0, time.monotonic()
        while more := connection.recv(2**16):
            taken += len(more)
            time.sleep(0.02 if time.monotonic() - began < 4 else 0)  # some 3 MB a second
    assert taken > BIG


def test_a_body_that_comes_at_a_fair_speed_is_waited_for(address):
    def body() -> Iterator[bytes]:
        for _ in range(16):
            time.sleep(0.1)
            yield bytes(20_000)

    assert ask(address, "/body", method="POST", body=body()).status == 200


def test_idle_strangers_make_room(address):
    with contextlib.ExitStack() as stack:
        working = socket.create_connection(address)  # has asked, and may stay
        working.sendall(b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
        held = [stack.enter_context(socket.create_connection(address)) for _ in range(40)]
        time.sleep(0.2)
        assert ask(address).status == 200
        open_now = 0
        for connection in held:
            connection.setblocking(False)
            try:
                open_now += bool(connection.recv(1))
            except BlockingIOError:
                open_now += 1
            except OSError:
                pass
        assert open_now <= 6  # half of 12: they are of one address
        working.close()


def test_an_answer_on_a_kept_connection_leaves_at_once(address):
    connection = http.client.HTTPConnection(*address)
    seconds = []
    for _ in range(15):
        began = time.perf_counter()
        connection.request("GET", "/")
        connection.getresponse().read()
        seconds.append(time.perf_counter() - began)
    assert statistics.median(seconds) < 0.02  # 0.04 where the system waits for more to send


def test_networks_of_addresses():
    assert network_of(("192.0.2.7", 1)) == "192.0.2.7"
    assert network_of(("2001:db8::1", 1)) == network_of(("2001:db8::ffff:2", 1)) != network_of(("2001:db8:0:1::1", 1))
    assert network_of(("fe80::1%eth0", 1)) == "fe80::/64"
    assert network_of(("testclient", 1)) == "testclient"
    assert network_of(None) == ""


def test_a_log_is_not_flooded(caplog):
    log = logging.getLogger("flooded")
    calm = NoFlood()
    log.addFilter(calm)
    for i in range(1000):
        log.warning("no more files")
        log.warning("another: %d", i)
    log.removeFilter(calm)
    said = [record.getMessage() for record in caplog.records]
    assert said.count("no more files") <= 5  # again after it has been forgotten among many others
    assert len(calm._passed) <= 256


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return make_index(tmp_path_factory.mktemp("connections"), photos=2)


@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_over_the_limit_is_told_so(index, chunked):
    limits = Limits(upload_bytes=100_000)
    with running(create_app(SearchService(index), limits=limits)) as address:
        begin = b'--x\r\nContent-Disposition: form-data; name="photo"; filename="mine.jpg"\r\n\r\n'
        parts = [begin, *[bytes(10_000)] * 50]
        body = iter(parts) if chunked else b"".join(parts)
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        answer = ask(address, "/api/similar", method="POST", body=body, headers=headers)
        assert answer.status == 413
        assert ask(address, "/health").status == 200


def test_uploads_that_do_not_end_keep_nobody_from_searching(index):
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    begins = b"POST /api/similar HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n"
    begins += b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
    with running(create_app(SearchService(index), limits=Limits(uploads=2, seconds=0.3))) as address:
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                stack.enter_context(socket.create_connection(address)).sendall(begins)
            deadline = time.monotonic() + 10
            while (refused := ask(address, "/api/similar", method="POST", body=b"a", headers=form)).status != 503:
                assert time.monotonic() < deadline  # until both are begun
            assert (refused.status, refused.getheader("retry-after")) == (503, "1")
            assert ask(address, "/api/search?q=dog").status == 200
        assert ask(address, "/api/similar", method="POST", body=b"a", headers=form).status == 400


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="limits of open files are POSIX's")
def test_four_hundred_strangers_neither_block_nor_fill_the_log(index):
    process = subprocess.Popen(
        ["bash", "-c", 'ulimit -n 128; exec "$@"', "-", sys.executable, "-c",
         "from han_retrieval.cli.main import main; main()", "serve", str(index), "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        port = int(re.findall(rb":(\d+)/", process.stdout.readline())[0])
        with contextlib.ExitStack() as stack:
            for _ in range(400):
                with contextlib.suppress(OSError):
                    stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            for _ in range(20):
                assert ask(("127.0.0.1", port), "/api/search?q=dog").status == 200
                time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    assert len(err) < 20_000
