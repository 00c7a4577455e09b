"""A training that is stopped, wherever and however, goes on exactly, and says that it stops."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import training_data
from damaging import outcome
from training_data import EVERY_STEP, interrupted_at, same_run, small_config

import han_retrieval.storage.folder_checksums
from han_retrieval.checkup import check_model
from han_retrieval.errors import StoreError
from han_retrieval.matchers import load_matcher
from han_retrieval.training import train
from han_retrieval.training.checkpoint import save_checkpoint
from han_retrieval.training.log import Log, read_log
from han_retrieval.training.run_folder import claimed_folder


@pytest.mark.parametrize("stop_at", [1, 4, 8, 9, 17, 24])
def test_resumes_exactly_after_an_interrupt(data, unbroken, tmp_path, monkeypatch, stop_at):
    config = small_config(checkpoint_minutes=EVERY_STEP if stop_at % 2 else 1000.0)
    with interrupted_at(stop_at):
        train(config, *data, tmp_path / "model", progress=False)
    train(config, *data, tmp_path / "model", resume=True, progress=False)
    assert same_run(tmp_path / "model", unbroken)


@pytest.fixture(autouse=True)
def usual_handlers():
    """Signals do what they usually do, also where the tests run in the background, whose shell ignores Ctrl-C."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def signalled(monkeypatch, *, step: int, times: int, number: signal.Signals) -> None:
    """Let a signal come in the midst of a step, so many times."""
    logged = Log.step

    def sent(log, at, **values):
        for _ in range(times if at == step else 0):
            signal.raise_signal(number)
        logged(log, at, **values)

    monkeypatch.setattr(Log, "step", sent)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stop_at", [4, 8])
def test_a_signal_lets_the_step_end_and_keeps_it(data, unbroken, tmp_path, monkeypatch, capfd, number, stop_at):
    config = small_config(checkpoint_minutes=1000.0)
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        signalled(patch, step=stop_at, times=1, number=number)
        with pytest.raises(KeyboardInterrupt):
            train(config, *data, tmp_path / "model")
    assert "stopping after this step, with a checkpoint" in capfd.readouterr().err
    assert [path.name for path in (tmp_path / "model/training").glob("checkpoint-*")] == [f"checkpoint-{stop_at:09d}"]
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    train(config, *data, tmp_path / "model", resume=True, progress=False)
    assert same_run(tmp_path / "model", unbroken)


def test_a_second_signal_stops_at_once(data, unbroken, tmp_path, monkeypatch):
    config = small_config(checkpoint_minutes=1000.0)
    with monkeypatch.context() as patch:
        signalled(patch, step=4, times=2, number=signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            train(config, *data, tmp_path / "model", progress=False)
    assert not list((tmp_path / "model/training").glob("checkpoint-*"))
    train(config, *data, tmp_path / "model", resume=True, progress=False)
    assert same_run(tmp_path / "model", unbroken)


def test_signals_that_are_ignored_and_other_threads_are_left_alone(data, unbroken, tmp_path, monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with monkeypatch.context() as patch:
            signalled(patch, step=4, times=1, number=signal.SIGINT)
            train(small_config(), *data, tmp_path / "ignored", progress=False)
    finally:
        signal.signal(signal.SIGINT, before)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(train, small_config(), *data, tmp_path / "thread", progress=False).result()
    assert same_run(tmp_path / "ignored", unbroken)
    assert same_run(tmp_path / "thread", unbroken)


@pytest.mark.parametrize("call", [1, 2, 3, 4, 6, 10, 11, 12, 13])
def test_resumes_exactly_after_a_stop_while_writing(data, unbroken, tmp_path, monkeypatch, call):
    """The process ends in the midst of a checkpoint or a model: at its n-th write, half of the file being there."""
    calls = 0
    write = han_retrieval.storage.folder_checksums.write_whole

    def half_written(path, content):
        nonlocal calls
        calls += 1
        if calls == call:
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        write(path, content)

    config = small_config(checkpoint_minutes=EVERY_STEP)
    with monkeypatch.context() as patch:
        patch.setattr(han_retrieval.storage.folder_checksums, "write_whole", half_written)
        with pytest.raises(KeyboardInterrupt):
            train(config, *data, tmp_path / "model", progress=False)
    refused = outcome(load_matcher, tmp_path / "model")[1]
    assert "is missing" in refused or "is cut off" in refused or "is damaged" in refused
    train(config, *data, tmp_path / "model", resume=True, progress=False)
    assert same_run(tmp_path / "model", unbroken)
    assert check_model(tmp_path / "model") == []


def test_what_kills_left_of_checkpoints_does_not_stay(tmp_path):
    for step in (3, 7):
        (tmp_path / f".checkpoint-{step:09d}").mkdir()
        (tmp_path / f".checkpoint-{step:09d}/tensors.safetensors").write_bytes(b"half")
    save_checkpoint(tmp_path, {"a": torch.ones(2)}, {"step": 9})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000000009"]


def test_resumes_exactly_with_a_log_whose_last_line_is_torn(data, unbroken, tmp_path):
    """A killed run has not written all of its log, which is ahead of its last checkpoint."""
    config = small_config(checkpoint_minutes=1000.0)
    with interrupted_at(14):
        train(config, *data, tmp_path / "model", progress=False)
    log = tmp_path / "model/training/metrics.jsonl"
    whole = log.read_bytes()
    for torn in (whole[:-2], whole[: whole.rstrip().rindex(b"\n") + 1] + b"\0" * 40):
        log.write_bytes(torn)
        assert [record["step"] for record in read_log(log)][-1] == json.loads(whole.splitlines()[-2])["step"]
    train(config, *data, tmp_path / "model", resume=True, progress=False)
    assert same_run(tmp_path / "model", unbroken)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_a_log_on_a_full_disk_is_said_in_one_line(tmp_path):
    log = Log(tmp_path)
    log._file = Path("/dev/full").open("a")  # noqa: SIM115
    log.step(1, loss=0.5)
    with pytest.raises(StoreError, match=r"cannot be written .*; make room: the last checkpoint stands"):
        log.flush()


def test_files_that_a_kill_left_half_written_do_not_stay(tmp_path):
    folder = tmp_path / "model"
    (folder / "training").mkdir(parents=True)
    for name in ("training/.config.json.1", "training/.metrics.jsonl.2", ".model.safetensors.3"):
        (folder / name).write_bytes(b"half")
    with claimed_folder(folder, small_config()):
        assert sorted(path.name for path in folder.rglob(".*")) == []


PROGRAM = """
import sys
sys.path.insert(0, {helpers!r})
from pathlib import Path
from types import SimpleNamespace
from training_data import make_data, small_config
from han_retrieval.data import CaptionedPhotos
from han_retrieval.training import train
folder = Path({folder!r})
dataset, store = make_data(folder / str(__import__("os").getpid()))
dataset = CaptionedPhotos("made-up", Path("made-up"), dataset.photos)
train(small_config(checkpoint_minutes=1e-9, epochs=12), dataset, store, folder / {out!r}, resume=True, progress=False)
"""


def killed_runs(folder: Path, *, kills: int, seed: int) -> None:
    """A training killed with signal 9 at random moments, and the same left alone."""
    helpers = str(Path(training_data.__file__).parent)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(out: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(helpers=helpers, folder=str(folder), out=out)], env=environment
        )

    chance = random.Random(seed)
    alone = start("alone")
    killed = 0
    while killed < kills:
        run = start("killed")
        metrics = folder / "killed/training/metrics.jsonl"
        before = metrics.stat().st_mtime_ns if metrics.exists() else 0
        while run.poll() is None and (not metrics.exists() or metrics.stat().st_mtime_ns == before):
            time.sleep(0.02)  # until it trains
        time.sleep(chance.uniform(0, 0.5))
        if run.poll() is not None:
            break  # it ended before it could be killed
        run.send_signal(signal.SIGKILL)
        run.wait()
        killed += 1
    assert start("killed").wait() == 0
    assert alone.wait() == 0
    assert killed > 0
    assert same_run(folder / "killed", folder / "alone")


def test_resumes_exactly_after_a_kill(tmp_path):
    killed_runs(tmp_path, kills=1, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_resumes_exactly_after_many_kills(tmp_path, seed):
    killed_runs(tmp_path, kills=6, seed=seed)
