"""The study's runner: its queue, kills, what it skips, and what it writes."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_data import make_data

from han_retrieval.errors import HANError
from han_retrieval.evaluation import compare
from han_retrieval.evaluation.report import read_results
from han_retrieval.training.log import Log
from research.study import settings as study_settings
from research.study.groups import groups
from research.study.queue import queue, work_off
from research.study.report import TABLES, Resampling, contributions, read_records, write_study
from research.study.runs import FirstRegions, Study, hold_out

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["research.study.queue"])

SMALL = {
    "epochs": 3,
    "batch_size": 8,
    "min_count": 1,
    "word_vectors": None,
    "warm_up_steps": 3,
    "learning_rate": 3e-3,
    "model.word_size": 8,
    "model.joint_size": 16,
}
TWO = ("han", "matcher=vse++")
PLAIN = study_settings.BASE


@pytest.fixture(autouse=True)
def small_base():
    make_small()
    yield
    study_settings.BASE = PLAIN
    study_settings._base_fields.cache_clear()


def make_small() -> None:
    study_settings.BASE = PLAIN | SMALL
    study_settings._base_fields.cache_clear()


def work(folder, *, only=TWO, seeds=1) -> tuple[Study, int]:
    """The queue on a dataset that is made where there is none."""
    runs = [(group, run) for group, run in queue(["made-up"], only=only) if run.seed < seeds]
    study = make_study(folder)
    files = {"results": folder / "results.json", "document": folder / "study.md"}
    return study, work_off(study, runs, **files, progress=False)


def make_study(folder) -> Study:
    shutil.rmtree(folder / "features", ignore_errors=True)  # of an earlier call, the same
    dataset, store = make_data(folder, photos=48)
    return Study(dataset=hold_out(dataset), stores={"made-up": store}, annotations=None, out=folder / "runs")


def work_killed_at(folder, step: int) -> None:
    """The queue, killed in this step of the first training that reaches it."""
    make_small()
    study_settings.BASE |= {"checkpoint_minutes": 1e-6}  # a checkpoint after each step
    log = Log.step

    def killed(self, number, **values):
        if number == step:
            os.kill(os.getpid(), signal.SIGKILL)
        log(self, number, **values)

    Log.step = killed
    work(folder)


def test_killed_it_goes_on_to_the_same_end(tmp_path, monkeypatch):
    monkeypatch.setattr("research.study.report.plot", lambda *args: None)
    for name in ("unbroken", "killed"):
        (tmp_path / name).mkdir()
    work(tmp_path / "unbroken")
    process = processes.Process(target=work_killed_at, args=(tmp_path / "killed", 7))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    of_run = tmp_path / "killed/runs/made-up/han/seed-0"
    assert [path.name for path in (of_run / "training").glob("checkpoint-*")] == ["checkpoint-000000006"]
    assert not (tmp_path / "killed/results.json").exists()
    monkeypatch.setitem(study_settings.BASE, "checkpoint_minutes", 1e-6)  # part of the run's configuration
    _, failed = work(tmp_path / "killed")
    assert failed == 0
    assert not list((of_run / "training").glob("checkpoint-*"))
    for setting in TWO:
        left, right = (
            load_file(tmp_path / name / f"runs/made-up/{setting}/seed-0/model.safetensors")
            for name in ("unbroken", "killed")
        )
        assert left.keys() == right.keys()
        assert all(torch.equal(left[key], right[key]) for key in left)
    left, right = (read_records(tmp_path / name / "results.json")[1] for name in ("unbroken", "killed"))
    assert {key: record["hits"] for key, record in left.items()} == {
        key: record["hits"] for key, record in right.items()
    }


def test_what_is_done_is_skipped_and_written_from_what_is_kept(tmp_path, monkeypatch):
    work(tmp_path, seeds=2)
    document, results = tmp_path / "study.md", tmp_path / "results.json"
    first = document.read_text()
    table = first.partition("`--only peers`")[2].partition("## ")[0]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith(("| HAN", "| VSE++"))]
    assert [(row[0], row[10]) for row in rows] == [("| HAN", "2"), ("| VSE++", "2")]
    assert rows[0][5:8] == ["", "", ""]
    assert " to " in rows[1][5]
    assert np.mean([float(each) for each in rows[1][7].split(", ")]) == pytest.approx(
        float(rows[1][5].split()[0]), abs=0.1
    )
    assert (tmp_path / "study/peers.png").stat().st_size > 5000

    def forbidden(*args, **options):
        raise AssertionError("trained again")

    monkeypatch.setattr("research.study.runs.train", forbidden)
    results.unlink()
    document.write_text(first.replace(TABLES, f"Prose.\n\n{TABLES}\n\n## old"))
    work(tmp_path, seeds=2)  # results and tables, from the runs
    assert document.read_text() == first.replace(TABLES, f"Prose.\n\n{TABLES}")
    document.unlink()
    write_study(document, *read_records(results))  # tables, without the runs
    assert document.read_text() == first
    study_settings.BASE = study_settings.BASE | {"epochs": 4}
    with pytest.raises(HANError, match="another configuration"):
        work(tmp_path)


def test_a_run_that_fails_leaves_the_others(tmp_path, monkeypatch):
    perform = Study.perform

    def fails(study, run, **options):
        if run.setting.name == "han":
            raise HANError("no")
        return perform(study, run, **options)

    monkeypatch.setattr(Study, "perform", fails)
    _, failed = work(tmp_path)
    assert failed == 1
    assert [setting for _, setting, _ in read_records(tmp_path / "results.json")[1]] == ["matcher=vse++"]


def test_two_queues_share_the_runs(tmp_path, monkeypatch):
    """While one queue trains a run, another makes the others; each writes down what both have found."""
    monkeypatch.setattr("research.study.report.plot", lambda *args: None)
    study = make_study(tmp_path)
    perform, made = Study.perform, []

    def watched(study, run, **options):
        made.append(run.setting.name)
        if len(made) == 1:  # the second queue begins and ends while this run lasts
            _, failed = work(tmp_path)
            assert failed == 0
        return perform(study, run, **options)

    monkeypatch.setattr(Study, "perform", watched)
    runs = [(group, run) for group, run in queue(["made-up"], only=TWO) if run.seed < 1]
    files = {"results": tmp_path / "results.json", "document": tmp_path / "study.md"}
    assert work_off(study, runs, **files, progress=False) == 0
    assert made == list(TWO)
    assert [setting for _, setting, _ in read_records(tmp_path / "results.json")[1]] == list(TWO)


def test_every_setting_is_a_configuration_and_runs_are_made_once():
    runs = [run for _, run in queue(["a", "b"])]
    configs = [(run.store, run.setting.regions, run.setting.config(seed=run.seed)) for run in runs]
    assert len({run.key for run in runs}) == len(runs)
    assert all(configs.index(each) == place for place, each in enumerate(configs))  # other names, other trainings
    for group in groups(["a", "b"]):
        labels = [setting.label for setting in group.settings]
        assert len(set(labels)) == len(labels)
    assert {run.seed for _, run in queue(["a"], only=["peers"])} == {0, 1, 2}
    assert {run.store for _, run in queue(["a", "b"], only=["features"])} == {"a", "b"}
    with pytest.raises(HANError, match="no group or setting"):
        queue(["a"], only=["peerz"])


def test_a_tenth_of_train_is_held_out_and_dev_is_not_touched(tmp_path):
    dataset, _ = make_data(tmp_path, photos=400)
    held = hold_out(dataset)
    assert held.splits["dev"] == dataset.splits["dev"]
    assert 15 < held.splits["held_out"] < 50
    assert held.splits["held_out"] + held.splits["train"] == dataset.splits["train"]
    fewer = hold_out(dataset.only(photo.id for photo in dataset.photos[:200]))
    assert {photo.id: photo.split for photo in fewer.photos}.items() <= {p.id: p.split for p in held.photos}.items()


def test_of_photos_that_were_divided_by_their_ids_a_tenth_is_held_out_as_well(tmp_path):
    dataset, _ = make_data(tmp_path, photos=400)
    held = hold_out(dataset.divided())
    assert held.splits["dev"] == dataset.divided().splits["dev"]
    assert 15 < held.splits["held_out"] < 60


def test_the_first_regions_of_a_store(tmp_path):
    _, store = make_data(tmp_path, photos=4)
    first = FirstRegions.open(store.path)
    first.regions = 2
    ids = store.ids[:3]
    assert torch.equal(first.batch(ids).features, store.batch(ids).features[:, :2])
    assert first.batch(ids).mask.tolist() == [[True, True]] * 3
    for few, all_of_them in zip(first.read(ids), store.read(ids), strict=True):
        assert np.array_equal(few.features, all_of_them.features[:2])


def test_certainty_is_that_of_compare(tmp_path):
    study, _ = work(tmp_path)
    _, records = read_records(tmp_path / "results.json")
    keys = [("made-up", setting, 0) for setting in TWO]
    of_han, of_vse = (contributions(records[key]) for key in keys)
    assert of_han.mean() == pytest.approx(records[keys[0]]["rsum"])
    files = [study.out / store / setting / f"seed-{seed}.json" for store, setting, seed in keys]
    found = compare(*(read_results(file)[1] for file in files))[0]
    assert found.metric == "rsum"
    own = Resampling(len(of_han))
    assert (of_vse - of_han).mean() == pytest.approx(found.difference)
    assert own.p_value(of_vse - of_han) == pytest.approx(found.p_value, abs=0.02)
    low, high = own.interval(of_vse - of_han)
    assert (low, high) == pytest.approx((found.low, found.high), abs=0.05 * (found.high - found.low))
