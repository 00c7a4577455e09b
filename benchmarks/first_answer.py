"""What a person waits for: a search from the command line, a server's first answer and its next ones, by part.

    python benchmarks/first_answer.py INDEX QUERIES [--before REVISION] [--rounds 5] [--only PART]

QUERIES is a text file with a sentence a line, or a dataset. With --before, each figure is taken of that revision of
the project too, in turns. Figures are medians of the seconds waited; "processor" is what processors were busy for,
which other work disturbs less. Cold means that nothing is in the page cache, which only root can have on Linux.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
import numpy as np

from han_retrieval.data import read_sentences

PARTS = ("command", "process", "server", "compile")
_HERE = Path(__file__).parents[1]
_DROP = Path("/proc/sys/vm/drop_caches")

# What `han search` does, step by step; before torch could be left out it was done with ``Index``.
_STEPS = """
import sys, time
began, marks = float(sys.argv[1]), {}
def mark(name):
    global began
    now = time.time()
    marks[name], began = now - began, now
mark("Python")
import han_retrieval.cli.search
try:
    from han_retrieval.light.search import LightSearch
except ImportError:
    LightSearch = None
from han_retrieval.search import parse_query
if LightSearch:
    from han_retrieval.search.reader import IndexReader as Index
else:
    from han_retrieval.search import Index
mark("imports")
index = Index(sys.argv[2])
mark("index")
model = LightSearch.open(index, None) if LightSearch else index.model
mark("model")
how = {"k": 10, "candidates": 200, "where": None, "exact": False}
found = (model if LightSearch else index).search(parse_query(sys.argv[3]), **how)
marks |= found.seconds
import json; print(json.dumps(marks))
"""

# The first search of a process that has its model, and the next ones: of photos that were not scored yet, and again.
_PROCESS = """
import json, sys, threading, time
from han_retrieval.process import tune_process
tune_process()
from han_retrieval.search import Index
index = Index(sys.argv[1])
index.model
def timed(query):
    start, busy = time.perf_counter(), time.process_time()
    found = index.search(query)
    return found.seconds | {"all": time.perf_counter() - start, "processor": time.process_time() - busy}
sentences = sys.stdin.read().splitlines()
first = timed(sentences[0])
try:
    from han_retrieval.scoring import kernels
    loading = [thread for thread in threading.enumerate() if thread.name == "kernels"]
    while not all(kernels._ready.values()) and any(thread.is_alive() for thread in loading):
        time.sleep(0.1)
except ImportError:
    pass
timed(sentences[1])
half = len(sentences) // 2  # by now nearly all photos were scored once
early = [timed(query) for query in sentences[2:12]]
for query in sentences[12:half]:
    timed(query)
late = [timed(query) for query in sentences[half:]]
print(json.dumps({"first": [first], "next ten": early, "later": late}))
"""

# Compiles what the others find compiled.
_KERNELS = """
import sys, torch
from han_retrieval.search import Index
index = Index(sys.argv[1])
tokens, mask = index.stored_tokens([0, 1])
words, there = index.model.words([sys.argv[2]])
with torch.no_grad():
    index.model.store_images(tokens, mask).scores(index.model.encode_texts(words, there)[0])
"""


@click.command()
@click.argument("index", type=click.Path(exists=True, path_type=Path))
@click.argument("queries", type=click.Path(exists=True, path_type=Path))
@click.option("--before", metavar="REVISION", help="Compare with this revision.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--only", type=click.Choice(PARTS), multiple=True)
def main(index: Path, queries: Path, before: str | None, rounds: int, only: tuple[str, ...]) -> None:
    """Print what a search takes, by part."""
    sentences = np.random.default_rng(0).permutation(read_sentences(queries)).tolist()
    index = index.absolute()
    with tempfile.TemporaryDirectory() as folder:
        trees = {"now": _HERE}
        if before:
            trees = {before: _checked_out(before, Path(folder)), **trees}
        for tree in trees.values():
            _run(tree, ["-c", _KERNELS, str(index), sentences[0]])
        for part in only or PARTS:
            click.echo(f"\n{part}")
            {"command": _command, "process": _process, "server": _server, "compile": _compile}[part](
                trees, index, sentences, rounds
            )


def _command(trees: dict[str, Path], index: Path, sentences: list[str], rounds: int) -> None:
    """``han search`` as a whole, and its steps, in fresh processes."""
    for cold in (False, True) if os.access(_DROP, os.W_OK) else (False,):
        whole: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
        steps: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
        for sentence in sentences[: rounds + 1]:
            for name, tree in trees.items():
                _empty_cache(cold)
                command = ["-m", "han_retrieval", "search", str(index), sentence]
                whole[name].append(_timed(partial(_run, tree, command)))
                _empty_cache(cold)
                steps[name].append(json.loads(_run(tree, ["-c", _STEPS, repr(time.time()), str(index), sentence])))
        for name in trees:
            found = _medians(steps[name][1:])
            _print(f"{name}, {'cold' if cold else 'warm'} page cache", _medians(whole[name][1:]) | found)


def _process(trees: dict[str, Path], index: Path, sentences: list[str], rounds: int) -> None:
    """The searches of one process."""
    found: dict[str, list[dict[str, list[dict[str, float]]]]] = {name: [] for name in trees}
    given = "\n".join(sentences[:160])
    for _ in range(rounds):
        for name, tree in trees.items():
            found[name].append(json.loads(_run(tree, ["-c", _PROCESS, str(index)], given=given)))
    for name in trees:
        for which in found[name][0]:
            rows = [row for each in found[name] for row in each[which]]
            for percent in (50, 95):
                values = {stage: float(np.percentile([row[stage] for row in rows], percent)) for stage in rows[0]}
                _print(f"{name}, {which}, p{percent}", values)


def _server(trees: dict[str, Path], index: Path, sentences: list[str], rounds: int) -> None:
    """Seconds until a server answers, its first answer and the median of the next twenty."""
    for cold in (False, True) if os.access(_DROP, os.W_OK) else (False,):
        found: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
        for _ in range(rounds):
            for name, tree in trees.items():
                _empty_cache(cold)
                start = time.perf_counter()
                with _served(tree, index) as address:
                    up = time.perf_counter() - start
                    first, *others = (_timed(partial(_ask, address, each))["all"] for each in sentences[:21])
                    found[name].append({"start": up, "first answer": first, "next": statistics.median(others)})
        for name in trees:
            _print(f"{name}, {'cold' if cold else 'warm'} page cache", _medians(found[name]))


def _compile(trees: dict[str, Path], index: Path, sentences: list[str], _: int) -> None:
    """The first search where no kernel was compiled yet: from the command line, and of a process with its model."""
    first = _PROCESS.split("try:")[0] + 'print(json.dumps(first["all"]))'
    for name, tree in trees.items():
        with tempfile.TemporaryDirectory() as folder:
            command = ["-m", "han_retrieval", "search", str(index), sentences[0]]
            whole = _timed(partial(_run, tree, command, kernels=folder))
        with tempfile.TemporaryDirectory() as folder:
            alone = json.loads(_run(tree, ["-c", first, str(index)], given=sentences[0], kernels=folder))
        _print(name, {**whole, "a process's first": alone})


def _run(tree: Path, arguments: list[str], *, given: str = "", kernels: str | None = None) -> str:
    command = [sys.executable, *arguments]
    result = subprocess.run(command, input=given, capture_output=True, text=True, check=True, env=_of(tree, kernels))
    return result.stdout


def _of(tree: Path, kernels: str | None = None) -> dict[str, str]:
    more = {} if kernels is None else {"NUMBA_CACHE_DIR": kernels}
    return {**os.environ, "PYTHONPATH": str(tree / "src"), **more}


@contextmanager
def _served(tree: Path, index: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "han_retrieval", "serve", str(index), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_of(tree)
    ) as server:
        assert server.stdout is not None
        for line in server.stdout:
            if found := re.search(r"http://\S+?:\d+", line):
                break
        else:
            raise click.ClickException("the server did not start")
        try:
            yield found[0]
        finally:
            server.terminate()


def _ask(address: str, sentence: str) -> None:
    with urllib.request.urlopen(f"{address}/api/search?k=60&q={urllib.parse.quote(sentence)}") as answer:
        answer.read()


def _timed(work: Callable[[], object]) -> dict[str, float]:
    """The seconds of some work, and those of processors in the processes that it starts."""
    start, before = time.perf_counter(), os.times()
    work()
    after = os.times()
    busy = after.children_user + after.children_system - before.children_user - before.children_system
    return {"all": time.perf_counter() - start, "processor": busy}


def _medians(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def _checked_out(revision: str, folder: Path) -> Path:
    archive = subprocess.run(["git", "-C", _HERE, "archive", revision, "src"], capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
    return folder


def _empty_cache(cold: bool) -> None:
    if cold:
        os.sync()
        _DROP.write_text("3")


def _print(name: str, seconds: dict[str, float]) -> None:
    columns = "  ".join(f"{step} {1000 * value:.0f}" for step, value in seconds.items() if value >= 0.0005)
    click.echo(f"{name:<28} {columns}  ms")


if __name__ == "__main__":
    main()
