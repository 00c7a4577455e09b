"""Extractions that are killed, on any system; ``tests/reliability`` kills them at any system call on Linux."""

from __future__ import annotations

import random
import time

import pytest
from fake_detector import FakeDetector, contents, count, hold, make_photos, run, run_killed_at
from killing import KILLED, processes_with

from han_retrieval.errors import HANError
from han_retrieval.regions import RegionStore, extract

PHOTOS = 30

processes = processes_with("han_retrieval.regions.store", "han_retrieval.regions.extraction", "lance", "torch")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("photos"), PHOTOS)


@pytest.fixture(scope="module")
def unbroken(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("unbroken") / "features"
    extract(photos, FakeDetector(), out)
    return contents(out)


def finish(photos, out, unbroken) -> None:
    extract(photos, FakeDetector(), out)
    assert contents(out) == unbroken
    assert len(list((out / "data").iterdir())) == 1  # nothing of the killed runs is left
    assert len(list((out / "_versions").glob("*.manifest"))) == 1


@pytest.mark.parametrize(
    ("call", "times"),
    [("write", 2), ("sync", 2), ("commit", 2), ("sync", 5), ("sync", 10), ("sync", 11), ("clean", 1), ("write", 6)],
)
def test_killed_at_a_step_of_a_commit_or_of_merging(call, times, photos, unbroken, tmp_path):
    process = processes.Process(target=run_killed_at, args=(photos, tmp_path / "features", call, times))
    process.start()
    process.join(60)
    assert process.exitcode == KILLED
    kept = count(tmp_path / "features")
    assert kept < PHOTOS
    assert kept % 4 == 0
    finish(photos, tmp_path / "features", unbroken)


def kill_at_random(photos, out, unbroken, *, seed: int, kills: int, longest: float) -> None:
    moments = random.Random(seed)
    before = 0
    for _ in range(kills):
        started = processes.Event()
        process = processes.Process(target=run, args=(photos, out, started))
        process.start()
        assert started.wait(60)
        time.sleep(moments.uniform(0, longest))
        process.kill()
        process.join(60)
        now = count(out)
        assert now >= before
        assert now in (PHOTOS, now - now % 4)
        assert contents(out) == unbroken[:now] if now else True
        before = now
    finish(photos, out, unbroken)


def test_killed_at_random_moments(photos, unbroken, tmp_path):
    kill_at_random(photos, tmp_path / "features", unbroken, seed=1, kills=4, longest=0.12)


def test_the_lock_of_a_living_writer_refuses_and_that_of_a_dead_one_does_not(photos, tmp_path):
    out = tmp_path / "features"
    extract(photos.only([photos.photos[0].id]), FakeDetector(), out)
    ready = processes.Event()
    holder = processes.Process(target=hold, args=(out, ready))
    holder.start()
    assert ready.wait(60)
    with pytest.raises(HANError, match=f"process {holder.pid} is writing to it"):
        extract(photos, FakeDetector(), out)
    assert len(RegionStore.open(out).batch([photos.photos[0].id]).boxes) == 1  # reading goes on
    holder.kill()
    holder.join(60)
    assert extract(photos, FakeDetector(), out).done == PHOTOS - 1


def test_readers_see_only_whole_commits_while_another_process_writes(photos, unbroken, tmp_path):
    out = tmp_path / "features"
    process = processes.Process(target=run, args=(photos, out))
    process.start()
    seen = set()
    while process.is_alive():
        seen.add(now := count(out))
        assert now == PHOTOS or now % 4 == 0
        if now:
            store = RegionStore.open(out)
            assert store.read(store.ids[-1:])[0].features.tobytes() == unbroken[len(store) - 1][1]
    process.join(60)
    assert process.exitcode == 0
    assert contents(out) == unbroken
    assert len(seen) > 1
