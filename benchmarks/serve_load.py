"""What `han serve` bears: clients that each ask again as soon as they have an answer, and how long answers take.

    python benchmarks/serve_load.py INDEX QUERIES [--clients 64] [--seconds 60]

QUERIES is a text file with a sentence a line. Half of the requests are searches, the others lists, evidence, thumbnails
and photos. Each client keeps one connection. Refused are answers with status 503.
"""

from __future__ import annotations

import http.client
import itertools
import os
import platform
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import click
import numpy as np


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, and how many seconds it took; status 0 where the connection broke."""

    path: str
    status: int
    seconds: float
    body: bytes


def ask(connection: http.client.HTTPConnection, path: str) -> Answer:
    began = time.perf_counter()
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        status, body = answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        status, body = 0, b""
    return Answer(path, status, time.perf_counter() - began, body)


def load(address: tuple[str, int], paths: Sequence[str], *, clients: int, seconds: float) -> list[Answer]:
    """The answers to many clients, each of which asks for paths in an order of its own."""
    answers: list[list[Answer]] = [[] for _ in range(clients)]
    end = time.monotonic() + seconds

    def client(number: int) -> None:
        order = random.Random(number)
        connection = http.client.HTTPConnection(*address, timeout=60)
        while time.monotonic() < end:
            answers[number].append(ask(connection, order.choice(paths)))
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [answer for each in answers for answer in each]


def mixed_paths(sentences: Sequence[str], ids: Sequence[str]) -> list[str]:
    """Half searches, and a share of everything else that a page asks for."""
    searches = [f"/api/search?q={quote(sentence)}" for sentence in sentences]
    others = [
        path
        for number, photo_id in enumerate(ids)
        for path in (
            f"/api/photos?first={number}",
            f"/api/photos/{photo_id}/evidence?q={quote(sentences[number % len(sentences)])}",
            f"/thumbnails/{photo_id}.jpg",
            f"/photos/{photo_id}.jpg",
        )
    ]
    return [*itertools.islice(itertools.cycle(searches), len(others)), *others]


@click.command()
@click.argument("index", type=click.Path(exists=True, path_type=Path))
@click.argument("queries", type=click.Path(exists=True, path_type=Path))
@click.option("--clients", default=64, show_default=True)
@click.option("--seconds", default=60.0, show_default=True)
def main(index: Path, queries: Path, clients: int, seconds: float) -> None:
    """Print requests a second, percentiles and refusals by kind of request."""
    han = [sys.executable, "-c", "from han_retrieval.cli.main import main; main()"]
    server = subprocess.Popen(
        [*han, "serve", str(index), "--port", "0"], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert server.stdout is not None
    try:
        address = "127.0.0.1", int(re.findall(r":(\d+)/", server.stdout.readline())[0])
        listed = ask(http.client.HTTPConnection(*address), "/api/photos?k=100").body
        ids = re.findall(rb'"id":"(\w+)"', listed)
        sentences = [line.strip() for line in queries.read_text("utf-8").splitlines() if line.strip()]
        answers = load(
            address, mixed_paths(sentences, [each.decode() for each in ids]), clients=clients, seconds=seconds
        )
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{clients} clients, {seconds:g} s, {len(answers):,} requests, {len(answers) / seconds:.0f} a second")
    kinds = {"all": "/", "search": "/api/search", "list": "/api/photos?", "evidence": "/api/photos/"}
    for kind, begin in (kinds | {"thumbnail": "/thumbnails/", "photo": "/photos/"}).items():
        some = [answer for answer in answers if answer.path.startswith(begin)]
        if some:
            p50, p95, p99 = np.percentile(
                [1e3 * each.seconds for each in some if each.status == 200] or [0], [50, 95, 99]
            )
            refused = sum(each.status == 503 for each in some)
            failed = sum(each.status not in (200, 503) for each in some)
            print(
                f"{kind:10} {len(some):7,} p50 {p50:7.0f} ms  p95 {p95:7.0f} ms  p99 {p99:7.0f} ms  "
                f"refused {refused:,}  failed {failed:,}"
            )


if __name__ == "__main__":
    main()
