"""Nobody waits for kernels in a search: plain torch scores until they are loaded."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import portalocker
import pytest
import torch

from han_retrieval.matchers import HAN, HANConfig
from han_retrieval.scoring import collection, kernels
from han_retrieval.scoring.cpu import compiling
from han_retrieval.scoring.kernels import Use


@pytest.fixture
def nothing_ready(monkeypatch):
    for name, nothing in {"_ready": {}, "_threads": {}, "_compiling": set()}.items():
        monkeypatch.setattr(kernels, name, nothing)
    monkeypatch.setattr(collection, "are_ready", kernels.are_ready)  # which other tests wait for


def model_and_photos(**options):
    torch.manual_seed(0)
    model = HAN(HANConfig(region_size=11, vocabulary_size=40, word_size=8, joint_size=32, **options)).eval()
    mask = torch.rand(21, 9) < 0.7
    mask[:, 0] = True
    words = torch.randint(1, 40, (1, 7))
    there = torch.ones(1, 7, dtype=torch.bool)
    with torch.no_grad():
        return model, model.encode_images(torch.randn(21, 9, 11), mask), mask, model.encode_texts(words, there)[0]


@pytest.mark.parametrize(
    "options",
    [{}, {"alignment": "both"}, {"alignment": "regions"}, {"attention_over": "one-way"}, {"blocks": 0}],
    ids=str,
)
def test_scores_are_the_same_before_and_after(options, nothing_ready, monkeypatch):
    model, photos, mask, query = model_and_photos(**options)
    begun = []
    monkeypatch.setattr(kernels, "prepare", lambda use, threads: begun.append((use, threads)))
    stored = model.store_images(photos, mask, storage="int8", wait=False)
    before = stored.scores(query)
    assert stored.split() is None
    ((use, _),) = begun
    kernels._ready[use] = True
    after = model.store_images(photos, mask, storage="int8", wait=False)
    assert (after.split() is None) == (options.get("blocks") == 0)
    assert (after.scores(query) - before).abs().max() < 1e-5
    assert len(begun) == 1


def test_kernels_are_made_ready_in_the_background(nothing_ready, tmp_path, monkeypatch):
    use, mark = Use("images", "int8", "words", "cosine", "both"), tmp_path / "mark"
    monkeypatch.setattr(kernels, "_mark", lambda use: mark)
    monkeypatch.setattr(kernels, "_compile_elsewhere", lambda use: True)
    assert not kernels.are_ready(use)
    for _ in range(1200):
        if kernels.are_ready(use):
            break
        time.sleep(0.1)
    assert kernels.are_ready(use)
    assert mark.exists()


@pytest.mark.usefixtures("nothing_ready")
def test_what_was_loaded_is_all_that_a_search_calls():
    """In a process of its own, which has called nothing before."""
    program = """if True:
        from test_kernels_ready import compiled_functions, kernels, model_and_photos

        kernels.prepare(kernels.Use("images", "int8", "words", "cosine", "both"), 1)
        known = [set(each.signatures) for each in compiled_functions()]
        assert all(known)
        model, photos, mask, query = model_and_photos()
        model.store_images(photos, mask, storage="int8").scores(query)
        assert [set(each.signatures) for each in compiled_functions()] == known
    """
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, env=environment)
    assert run.returncode == 0, run.stderr


def compiled_functions():
    from han_retrieval.scoring.cpu import products, stored_kernel

    return [
        next(cell.cell_contents for cell in each.__closure__ if hasattr(cell.cell_contents, "signatures"))
        for each in (products.multiply_stored, stored_kernel.against_images)
    ]


def test_a_server_waits_for_kernels_that_are_loaded_and_not_for_those_that_are_compiled(nothing_ready, monkeypatch):
    use = Use("images", "int8", "words", "cosine", "both")
    monkeypatch.setattr(kernels, "prepare", lambda *_: time.sleep(0.5))
    assert not kernels.are_ready(use)
    kernels.finish_loading()
    assert not kernels._threads[use].is_alive()

    other, done = use._replace(storage="float16"), threading.Event()
    monkeypatch.setattr(kernels, "prepare", lambda use, _: kernels._compiling.add(use) or done.wait(60))
    assert not kernels.are_ready(other)
    kernels.finish_loading()
    assert kernels._threads[other].is_alive()
    done.set()


def test_a_process_that_ends_ends_the_compiler(tmp_path):
    code = (
        "import os, sys, threading, time\nfrom han_retrieval.scoring import kernels\n"
        "kernels.sys.executable = sys.argv[1]\n"
        "threading.Thread(target=kernels._compile_elsewhere, args=(kernels.Use(*'abcde'),), daemon=True).start()\n"
        "deadline = time.monotonic() + 30\n"
        "while not os.path.exists(sys.argv[2]) and time.monotonic() < deadline: time.sleep(0.05)\n"
        "print('ends', flush=True)\n"
    )
    pid = tmp_path / "pid"
    compiler = tmp_path / "compiler"
    compiler.write_text(f"#!/bin/sh\necho $$ > {pid}.new; mv {pid}.new {pid}\nexec sleep 100\n")
    compiler.chmod(0o755)
    found = subprocess.run([sys.executable, "-c", code, compiler, pid], capture_output=True, text=True, timeout=60)
    assert found.stdout == "ends\n", found.stderr
    deadline = time.monotonic() + 10
    while alive(int(pid.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(int(pid.read_text()))
    assert found.stderr == ""


def test_a_compiler_that_is_killed_is_told_of(tmp_path, monkeypatch, caplog):
    compiler = tmp_path / "compiler"
    compiler.write_text("#!/bin/sh\nkill -KILL $$\n")
    compiler.chmod(0o755)
    monkeypatch.setattr(kernels.sys, "executable", str(compiler))
    assert not kernels._compile_elsewhere(Use("images", "int8", "words", "cosine", "both"))
    assert "was killed, perhaps for want of memory" in caplog.text


def alive(pid):
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(found) and not found.startswith("Z")


def one_more(x):
    return x + 1


def test_kernels_are_written_one_process_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(compiling._settings, "CACHE_DIR", str(tmp_path))
    function = compiling.cached_njit(one_more)
    folder = compiling.kept_in()
    folder.mkdir(parents=True, exist_ok=True)
    with portalocker.Lock(folder / "lock", "a"):
        worker = threading.Thread(target=function, args=(1,))
        worker.start()
        worker.join(1.5)
        assert worker.is_alive()
        assert not list(folder.glob("*/*.nbi"))
    worker.join(60)
    assert list(folder.glob("*/*.nbi"))


def test_a_folder_that_cannot_be_written_to_is_no_place_for_kernels(tmp_path, monkeypatch):
    monkeypatch.setattr(compiling._settings, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compiling, "is_writable", lambda folder: False)
    if sys.platform == "linux":
        assert tmp_path in compiling.kept_in().parents
    monkeypatch.setattr(compiling, "is_writable", lambda folder: True)
    assert compiling.kept_in().parent == compiling.Path(compiling.__file__).parent / "__pycache__"


def test_where_kernels_cannot_be_kept_they_still_run(tmp_path, monkeypatch):
    monkeypatch.setattr(compiling._settings, "CACHE_DIR", str(tmp_path))
    function = compiling.cached_njit(one_more)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compiling.portalocker, "Lock", full)
    assert function(1) == 2
