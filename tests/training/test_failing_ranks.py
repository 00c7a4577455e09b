"""A rank that fails or dies stops all, with one line that says which; so does a request to stop, with a checkpoint."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ranks_jobs
from drawn_photos import ColourDetector, write_drawn_photos

from han_retrieval.data import read_dataset
from han_retrieval.errors import ConfigError
from han_retrieval.regions import extract
from han_retrieval.training.checkpoint import check_checkpoint
from han_retrieval.training.distributed import join_ranks, launched

HOST = socket.gethostname()


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("drawn")
    write_drawn_photos(folder / "photos", train=8, dev=2)
    extract(read_dataset(folder / "photos"), ColourDetector(), folder / "features")
    settings = ("batch_size=5", "dev_photos=2", "model.joint_size=16", "model.word_size=8", "checkpoint_minutes=1e-9")
    given = [word for each in settings for word in ("--set", each)]
    return ["train", str(folder / "photos"), "--features", str(folder / "features"), "--device", "cpu", *given]


def errors_of(ended: list[tuple[str, str]]) -> list[str]:
    return [line for _, errors in ended for line in errors.splitlines() if line.startswith("han: ")]


def test_the_error_of_one_rank_is_said_once_and_stops_all(command, tmp_path):
    program = ["-m", "han_retrieval", *command, "--out", str(tmp_path / "model")]
    started = ranks_jobs.start(2, program, last=["--features", str(tmp_path / "nothing")])
    ended = [rank.communicate(timeout=300) for rank in started]
    (line,) = errors_of(ended)
    process = started[1].pid
    assert line.startswith(
        f"han: error: rank 1 on {HOST} (process {process}): {tmp_path}/nothing: no such region store"
    )
    assert [rank.returncode for rank in started] == [2, 2]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the test finds ranks in /proc")
@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_rank_that_is_killed_is_named_and_the_checkpoint_stands(command, tmp_path, count):
    launcher, out = started_by_torchrun(count, command, tmp_path)
    killed = ranks_of(launcher)[count - 1]
    os.kill(killed, signal.SIGKILL)
    ended = launcher.communicate(timeout=300)
    (line,) = errors_of([ended])
    assert line.startswith(f"han: error: rank {count - 1} on {HOST} (process {killed}) has died")
    assert launcher.returncode != 0
    checkpoint = next((out / "training").glob("checkpoint-*"))
    assert check_checkpoint(checkpoint) == []
    assert int(checkpoint.name.rpartition("-")[2]) > 0


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the test finds ranks in /proc")
@pytest.mark.parametrize("how", ["ctrl-c", "sigterm"])
def test_all_ranks_stop_with_a_checkpoint_when_torchrun_is_asked_to(command, tmp_path, how):
    launcher, out = started_by_torchrun(2, [*command, "--set", "checkpoint_minutes=1000"], tmp_path, steps=4)
    if how == "ctrl-c":  # a terminal sends it to torchrun and to the ranks
        for process in (launcher.pid, *ranks_of(launcher).values()):
            os.kill(process, signal.SIGINT)
    else:
        launcher.terminate()
    (line,) = errors_of([launcher.communicate(timeout=300)])
    assert line == f"han: stopped; the same command with --resume goes on from the last checkpoint in {out}"
    (checkpoint,) = (out / "training").glob("checkpoint-*")
    assert check_checkpoint(checkpoint) == []


def started_by_torchrun(
    count: int, command: list[str], folder: Path, *, steps: int = 2
) -> tuple[subprocess.Popen[str], Path]:
    """A training that would take days, after some steps."""
    out = folder / "model"
    program = ["-m", "han_retrieval", *command, "--out", str(out), "--set", "epochs=100000"]
    (launcher,) = ranks_jobs.start(count, program, launcher=True)
    log, end = out / "training/metrics.jsonl", time.monotonic() + 240
    while not (log.is_file() and log.read_bytes().count(b"\n") >= steps and list(log.parent.glob("checkpoint-*"))):
        assert launcher.poll() is None, launcher.communicate()[1][-3000:]
        assert time.monotonic() < end
        time.sleep(0.1)
    return launcher, out


def ranks_of(launcher: subprocess.Popen[str]) -> dict[int, int]:
    """The processes that torchrun started, by their ranks."""
    found = {}
    for process in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split():
        words = Path(f"/proc/{process}/environ").read_text().split("\0")
        found |= {int(word.removeprefix("RANK=")): int(process) for word in words if word.startswith("RANK=")}
    return found


STUCK = """
import os, time
from contextlib import nullcontext
from han_retrieval.training import distributed
distributed._GLANCE, distributed._ANSWER = 0.1, 1.0
meet = distributed._meet
distributed._meet = lambda place, gpu: meet(place, None)
distributed._sigterm_interrupts = nullcontext
import torch
with distributed.join_ranks(torch.device("cuda", 0)) as ranks:
    ranks.wait()
    if ranks.rank == 1:
        os.kill(os.getpid(), 9)
    time.sleep(300)  # as in a call that waits for a GPU
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what has died is seen in /proc")
def test_a_rank_that_waits_for_its_gpu_ends_with_the_others():
    started = ranks_jobs.start(2, ["-c", STUCK])
    ended = [rank.communicate(timeout=200) for rank in started]
    (line,) = errors_of(ended)
    assert line.startswith(f"han: error: rank 1 on {HOST} (process {started[1].pid}) has died")
    assert [rank.returncode for rank in started] == [2, -signal.SIGKILL]


def test_one_process_needs_no_others(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with join_ranks() as ranks:
        assert (ranks.rank, ranks.count, ranks.first) == (0, 1, True)
    monkeypatch.setenv("LOCAL_RANK", "")  # of something else
    assert launched().count == 1
    monkeypatch.setenv("WORLD_SIZE", "1")  # torchrun --nproc-per-node 1
    assert launched().count == 1
    monkeypatch.delenv("LOCAL_RANK")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ConfigError, match=r"WORLD_SIZE = 4 .* MASTER_ADDR .* is not set .*: start with torchrun"):
        launched()
