"""Ranks train the weights of one process: every kind of training, however the batch falls on them, stopped or not."""

from __future__ import annotations

from pathlib import Path

import pytest
import ranks_jobs
import torch
from drawn_photos import write_drawn_photos
from tiny_language_models import tiny_language_model

from han_retrieval.data import read_dataset
from han_retrieval.regions import extract, load_detector
from han_retrieval.text import frozen
from han_retrieval.training.log import read_log

CLOSE = 1e-5
JOBS = {
    2: ["scan", "vse++", "maxsim", "frozen", "annotated", "text", "detector", "backbone", "patient"],
    3: ["han", "hardest", "small", "augmented", "vse-infinity", "trained"],
}
CHECKS = ["losses", "differences", "stopped", "+stopped"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    ranks_jobs.write_data(folder)
    tiny_language_model(folder / "bert")
    write_drawn_photos(folder / "drawn", train=9, dev=0)
    windows = load_detector("grid+efficientnet-lite2:64", regions=5)
    extract(read_dataset(folder / "drawn"), windows, folder / "windows")
    return folder


@pytest.fixture(scope="module")
def run_by(data, tmp_path_factory):
    """The folder of the jobs that so many ranks have done; each is done once."""
    done: dict[int, Path] = {}

    def jobs_of(count: int) -> Path:
        if count not in done:
            done[count] = tmp_path_factory.mktemp(f"ranks-{count}")
            program = [ranks_jobs.__file__, str(data), str(done[count]), *JOBS[count], *CHECKS]
            started = ranks_jobs.start(count, program, environment={"XDG_CACHE_HOME": str(done[count] / "cache")})
            ended = [rank.communicate(timeout=600) for rank in started]
            assert [rank.returncode for rank in started] == [0] * count, "".join(errors for _, errors in ended)[-3000:]
        return done[count]

    return jobs_of


@pytest.fixture
def alone(data, tmp_path, monkeypatch):
    """The folder of a job that this process does, on one thread as each rank: convolutions round by their number."""
    monkeypatch.setattr(frozen, "cache_folder", lambda: tmp_path / "cache")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def run(job: str) -> Path:
        ranks_jobs.run(job, data, tmp_path / job)
        return tmp_path / job

    yield run
    torch.set_num_threads(threads)


def greatest_difference(one: Path, other: Path) -> float:
    left, right = (ranks_jobs.weights(folder) for folder in (one, other))
    assert left.keys() == right.keys()
    return max(float((left[name].double() - right[name].double()).abs().max()) for name in left)


@pytest.mark.parametrize(("count", "job"), [(count, job) for count, jobs in JOBS.items() for job in jobs])
def test_the_weights_are_those_of_one_process(run_by, alone, count, job):
    together, one = run_by(count) / job, alone(job)
    assert greatest_difference(together, one) < CLOSE
    logs = [read_log(folder / "training/metrics.jsonl") for folder in (together, one)]
    assert job != "patient" or logs[0][-1]["epoch"] == 2  # of three
    assert [record["step"] for record in logs[0]] == [record["step"] for record in logs[1]]
    assert [record["loss"] for record in logs[0] if "loss" in record] == pytest.approx(
        [record["loss"] for record in logs[1] if "loss" in record], abs=CLOSE
    )


@pytest.mark.parametrize("count", [2, 3])
def test_a_stopped_training_goes_on_exactly_with_as_many_ranks_or_others(run_by, data, alone, count, tmp_path):
    assert greatest_difference(run_by(count) / "stopped", alone("han")) < CLOSE
    if count == 3:
        unbroken, resumed = (ranks_jobs.weights(run_by(count) / job) for job in ("han", "stopped"))
        assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)
    ranks_jobs.run("han", data, run_by(count) / "begun", resume=True)  # one process
    assert greatest_difference(run_by(count) / "begun", tmp_path / "han") < CLOSE
