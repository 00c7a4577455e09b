"""Indexing on a Ray of two workers: the index of the local engine, whatever is killed meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from local_ray import ray_address, wait_for  # noqa: F401
from tiny_index import FakeDetector, change_photos, files, make_model, make_photos, update

from han_retrieval.cluster import Cluster
from han_retrieval.errors import ModelError
from han_retrieval.search import Index
from han_retrieval.search.update_on_ray import index_on_ray

pytestmark = pytest.mark.slow


class Slow(FakeDetector):
    """Takes its time; in a process other than the test's it is killed once, when a file is there."""

    def __init__(self, folder: Path, driver: int, seconds: float = 0.2) -> None:
        super().__init__()
        self.folder, self.driver, self.seconds = folder, driver, seconds

    def detect(self, photos):
        time.sleep(self.seconds)
        killed = self.folder / "killed"
        if os.getpid() != self.driver and (self.folder / "kill").exists() and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().detect(photos)


def contents(out: Path) -> dict[str, tuple]:
    with Index.open(out) as index:
        photos = index.photos.to_pylist()
        assert len({photo["id"] for photo in photos}) == len(photos)
        tokens, mask = index.stored_tokens(np.arange(len(index)))
        return {
            photo["id"]: (photo, values[its].tolist(), scale[its].tolist(), pooled.tolist(), str(regions))
            for photo, values, scale, its, pooled, regions in zip(
                photos, tokens.values, tokens.scale, mask, index.pooled,
                index.regions(np.arange(len(index))), strict=True,
            )
        }  # fmt: skip


def on_two(photos: Path, out: Path, load, model: Path | None = None):
    return index_on_ray([photos], out, model=model, load=load, cluster=Cluster(workers=2))


@pytest.fixture(autouse=True)
def _small_tasks(ray_address, monkeypatch):  # noqa: F811
    monkeypatch.setattr("han_retrieval.search.update_on_ray._FILES_A_TASK", 4)
    monkeypatch.setattr("han_retrieval.search.additions._ROWS_A_COMMIT", 4)


def test_the_index_is_that_of_the_local_engine_also_after_changes_and_a_killed_worker(tmp_path):
    model, photos = make_model(tmp_path / "model"), make_photos(tmp_path / "photos", 30)
    shutil.copy(photos / "004.png", photos / "same.png")
    (tmp_path / "kill").touch()
    load = partial(Slow, tmp_path, os.getpid())
    here = update(photos, tmp_path / "here", model)
    there = on_two(photos, tmp_path / "there", load, model)
    assert (tmp_path / "killed").exists()
    assert (there.added, there.broken, there.unread) == (here.added, [], []) == (30, [], [])
    assert contents(tmp_path / "there") == contents(tmp_path / "here")

    change_photos(photos, new=6)
    here = update(photos, tmp_path / "here")
    there = on_two(photos, tmp_path / "there", load)
    kinds = ("photos", "added", "moved", "removed", "broken", "unread")
    assert [getattr(there, kind) for kind in kinds] == [getattr(here, kind) for kind in kinds]
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert files(tmp_path / "there") == files(tmp_path / "here")


DRIVER = """
import sys
from functools import partial
from pathlib import Path
import test_update_on_ray as here
from han_retrieval.search import additions, update_on_ray
additions._ROWS_A_COMMIT = update_on_ray._FILES_A_TASK = 4
folder = Path(sys.argv[1])
update_on_ray.index_on_ray(
    [folder / "photos"], folder / "there", model=folder / "model", load=partial(here.Slow, folder, 0),
    cluster=here.Cluster(sys.argv[2], workers=2),
)
"""


def test_a_driver_that_is_killed_goes_on_when_it_is_run_again(tmp_path, ray_address):  # noqa: F811
    model, photos = make_model(tmp_path / "model"), make_photos(tmp_path / "photos", 40)
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, tmp_path, ray_address], env=os.environ | {"PYTHONPATH": path}
    )
    data = tmp_path / "there"
    wait_for(lambda: len(list(data.glob("*/data/*.lance"))) >= 2 or driver.poll() is not None)
    driver.kill()
    driver.wait()
    with Index.open(tmp_path / "there") as index:
        there = len(index)
    assert 0 < there < 40
    assert on_two(photos, tmp_path / "there", FakeDetector).added == 40 - there
    update(photos, tmp_path / "here", model)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


class Elsewhere(FakeDetector):
    def __init__(self, driver: int) -> None:
        super().__init__()
        if os.getpid() != driver:
            raise ModelError("detector.safetensors: no such file")


def test_a_worker_without_the_weights_is_told_in_one_line(tmp_path):
    model, photos = make_model(tmp_path / "model"), make_photos(tmp_path / "photos", 3)
    with pytest.raises(ModelError, match=r"^worker on \S+: detector.safetensors: no such file$"):
        on_two(photos, tmp_path / "out", partial(Elsewhere, os.getpid()), model)
