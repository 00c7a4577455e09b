"""Every parser refuses what is wrong in one line, or reads it; see attack.py, which counts."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import pytest
from attack import Outcome, attack, quick_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from parsers import PARSERS

from han_retrieval.errors import LONGEST_MESSAGE, HANError, QueryError, one_line
from han_retrieval.parsing import shown
from han_retrieval.search import Part, parse_query

HERE = Path(__file__).parent
JSON_FILES = sorted((name, file) for name, each in PARSERS.items() for file in each.files if file.endswith(".json"))
GUIDED = ("entities xml", "features npz", "features tsv", "configuration", "query", "metadata csv")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


def attack_in_a_process(name: str, inputs: int) -> Outcome:
    with tempfile.TemporaryDirectory(dir=quick_folder()) as folder:
        return attack(name, Path(folder), inputs=inputs)


@pytest.mark.parametrize("name", PARSERS)
def test_spoiled_files_are_refused_in_a_line_or_read(tmp_path: Path, name: str) -> None:
    outcome = attack(name, tmp_path, inputs=20)
    assert not outcome.faults, outcome.faults[0]


@pytest.fixture(scope="module")
def many() -> Iterator[dict[str, Future[Outcome]]]:
    """10,000 inputs for each parser, those of several parsers at once."""
    context = multiprocessing.get_context("spawn")
    path = [str(HERE), str(HERE.parent / "helpers")]
    with ProcessPoolExecutor(os.cpu_count(), context, initializer=sys.path.extend, initargs=(path,)) as pool:
        yield {name: pool.submit(attack_in_a_process, name, 10_000) for name in PARSERS}


@pytest.mark.slow
@pytest.mark.parametrize("name", PARSERS)
def test_ten_thousand_spoiled_files(many: dict[str, Future[Outcome]], name: str) -> None:
    outcome = many[name].result(timeout=1200)
    assert not outcome.faults, "\n\n".join(outcome.faults[:5])
    assert outcome.megabytes < 500


@pytest.mark.parametrize(("name", "file"), JSON_FILES)
@given(data=st.data())
@settings(max_examples=1, deadline=None)
def test_any_json_is_refused_in_a_line_or_read(tmp_path_factory, name: str, file: str, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("json")
    PARSERS[name].write(folder)
    for _ in range(20):
        (folder / file).write_text(json.dumps(data.draw(JSON)))
        with contextlib.suppress(HANError):
            PARSERS[name].read(folder)


def _as_asked(part: Part) -> str:
    if part.written:
        return f'{"-" if part.weight < 0 else ""}text:"{part.written}"'
    what = f'"{part.text}"' if part.photo is None else f'photo:"{part.photo}"'
    return f"{part.weight:+.30f} * {what}"


@given(st.text() | st.text(alphabet='"+-*. photo:ab.jpg“−2text'))
def test_a_query_is_refused_or_says_what_was_asked(query: str) -> None:
    with contextlib.suppress(QueryError):
        parts = parse_query(query)
        # A sentence may hold quotation marks and the like, which no part of a longer query can.
        if parts != [Part(query)] and not any(set('"“”„‟−') & set(part.text) for part in parts):
            assert parse_query(" ".join(map(_as_asked, parts))) == parts


@given(st.text(st.characters() | st.characters(categories=["Cs", "Cc", "Zl"]), min_size=1))
def test_any_text_becomes_a_line(text: str) -> None:
    line = one_line(f"x {text * 100}")
    assert line.isprintable()
    assert len(line) <= LONGEST_MESSAGE
    assert line.encode()
    assert len(shown(text * 100)) <= 60


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is made for Linux on x86-64 alone")
@pytest.mark.parametrize(
    "name", ["entities xml", "features npz", "features tsv", "configuration", "query", "metadata csv"]
)
def test_inputs_that_reach_new_code(tmp_path: Path, name: str) -> None:
    """Atheris keeps the inputs that reach code which no input before reached, and spoils those."""
    command = [sys.executable, str(HERE / "guided.py"), name, "-max_total_time=10", f"-artifact_prefix={tmp_path}/"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-4000:]
