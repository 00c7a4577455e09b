"""Extraction on a Ray of two workers: the rows of the local engine, whatever is killed meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from fake_detector import FakeDetector, make_photos
from local_ray import processes, ray_address, wait_for  # noqa: F401
from packed_files import image, write_parquet
from PIL import Image

from han_retrieval.cluster import Cluster
from han_retrieval.data import CaptionedPhotos, read_dataset
from han_retrieval.errors import ConfigError, ModelError
from han_retrieval.regions import RegionStore, extract
from han_retrieval.regions.extraction_on_ray import extract_on_ray

pytestmark = pytest.mark.slow


class Slow(FakeDetector):
    """Says which process it is in and lets a test come between."""

    def __init__(self, folder: Path, seconds: float = 0.0, fatal: int = -1) -> None:
        super().__init__()
        self.seconds, self.fatal = seconds, fatal
        (folder / str(os.getpid())).touch()

    def detect(self, photos):
        time.sleep(self.seconds)
        if any(photo.width == self.fatal for photo in photos):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().detect(photos)


def contents(out: Path) -> dict[str, tuple]:
    store = RegionStore.open(out)
    assert len(set(store.ids)) == len(store.ids)
    found = zip(store.photos(), store.read(store.ids), strict=True)
    return {
        photo.id: (photo, each.features.tobytes(), each.boxes.tobytes(), each.labels, each.scores.tobytes())
        for photo, each in found
    }


def on_two(photos: CaptionedPhotos, load, out: Path):
    return extract_on_ray(photos, load, out, cluster=Cluster(workers=2))


@pytest.fixture(autouse=True)
def _small_tasks(ray_address, monkeypatch):  # noqa: F811
    monkeypatch.setattr("han_retrieval.regions.extraction_on_ray._PHOTOS_A_TASK", 4)
    monkeypatch.setattr("han_retrieval.regions.extraction._ROWS_A_COMMIT", 4)


def test_the_store_has_the_rows_of_the_local_engine_and_says_what_cannot_be_read(tmp_path):
    good = make_photos(tmp_path / "photos", 21)
    (tmp_path / "photos" / "text.jpg").write_text("not a photo")
    photos = read_dataset(tmp_path / "photos")
    here = extract(photos, FakeDetector(), tmp_path / "here")
    there = on_two(photos, FakeDetector, tmp_path / "there")
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert (there.done, there.skipped) == (21, here.skipped)
    names = ("photo", "reason")
    (line,) = (tmp_path / "there" / "skipped.jsonl").read_text().splitlines()
    assert tuple(json.loads(line)[name] for name in names) == here.skipped[0]
    Image.open(good.photos[0].path).rotate(90).save(tmp_path / "photos" / "text.jpg")
    again = on_two(photos, FakeDetector, tmp_path / "there")
    assert (again.done, again.already_there, again.skipped) == (1, 21, [])


def test_a_worker_that_is_killed_loses_and_doubles_nothing(tmp_path):
    photos = make_photos(tmp_path / "photos", 40)
    extract(photos, FakeDetector(), tmp_path / "here")
    (tmp_path / "pids").mkdir()
    killer = subprocess.Popen([sys.executable, "-c", KILL_ONE, tmp_path / "pids", tmp_path / "there" / "data"])
    report = on_two(photos, partial(Slow, tmp_path / "pids", 0.2), tmp_path / "there")
    assert killer.wait() == 0
    assert len(processes(tmp_path / "pids")) >= 4  # this one, two workers, and the one in the place of the killed
    assert (report.done, report.skipped) == (40, [])
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


# Kills a worker, the process whose parent is not that of the others, once something is in the store.
KILL_ONE = """
import os, signal, sys, time
from pathlib import Path
pids, data = map(Path, sys.argv[1:])
while len(list(data.glob("*.lance"))) < 2:
    time.sleep(0.02)
workers = [int(each.name) for each in pids.iterdir() if int(each.name) != os.getppid()]
os.kill(workers[0], signal.SIGKILL)
"""


def test_photos_that_kill_each_worker_are_listed_and_the_others_kept(tmp_path):
    photos = make_photos(tmp_path / "photos", 12)
    Image.new("RGB", (33, 16)).save(photos.photos[5].path)
    (tmp_path / "pids").mkdir()
    report = on_two(photos, partial(Slow, tmp_path / "pids", 0, 33), tmp_path / "there")
    assert report.done == 8  # a task is 4 photos
    assert {Path(name).name for name, _ in report.skipped} == {f"photo {i}.png" for i in range(4, 8)}
    assert all("worker died" in reason for _, reason in report.skipped)
    Image.new("RGB", (24, 16)).save(photos.photos[5].path)
    assert on_two(photos, FakeDetector, tmp_path / "there").done == 4


DRIVER = """
import sys
from functools import partial
from pathlib import Path
import test_extraction_on_ray as here
from han_retrieval.cluster import Cluster
from han_retrieval.data import read_dataset
from han_retrieval.regions import extraction, extraction_on_ray
extraction._ROWS_A_COMMIT = extraction_on_ray._PHOTOS_A_TASK = 4
folder = Path(sys.argv[1])
load = partial(here.Slow, folder / "pids", 0.2)
extraction_on_ray.extract_on_ray(
    read_dataset(folder / "photos"), load, folder / "there", cluster=Cluster(sys.argv[2], workers=2)
)
"""


def test_a_driver_that_is_killed_goes_on_when_it_is_run_again(tmp_path, ray_address):  # noqa: F811
    make_photos(tmp_path / "photos", 40)
    photos = read_dataset(tmp_path / "photos")
    extract(photos, FakeDetector(), tmp_path / "here")
    (tmp_path / "pids").mkdir()
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, tmp_path, ray_address], env=os.environ | {"PYTHONPATH": path}
    )
    wait_for(lambda: len(list((tmp_path / "there" / "data").glob("*.lance"))) >= 2 or driver.poll() is not None)
    driver.kill()
    driver.wait()
    there = len(RegionStore.open(tmp_path / "there"))
    assert 0 < there < 40
    report = on_two(photos, FakeDetector, tmp_path / "there")
    assert (report.already_there, report.done) == (there, 40 - there)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


class NoWeights(FakeDetector):
    def __init__(self, here: int, fingerprint: str) -> None:
        if os.getpid() != here and not fingerprint:
            raise ModelError("detector.safetensors: no such file")
        super().__init__("fake:1" if os.getpid() == here else fingerprint)


def test_a_worker_without_the_weights_or_with_others_is_told_in_one_line(tmp_path, monkeypatch):
    photos = make_photos(tmp_path / "photos", 5)
    with pytest.raises(ModelError, match=r"^worker on \S+: detector.safetensors: no such file$"):
        on_two(photos, partial(NoWeights, os.getpid(), ""), tmp_path / "out")
    with pytest.raises(ModelError, match="its detector is 'fake:2', not 'fake:1': put the same weights on all"):
        on_two(photos, partial(NoWeights, os.getpid(), "fake:2"), tmp_path / "out")
    monkeypatch.setattr("han_retrieval.cluster.__version__", "99.0")
    with pytest.raises(ModelError, match=r"has han-retrieval \S+, not 99.0: install the same on all machines"):
        on_two(photos, FakeDetector, tmp_path / "out")
    assert len(RegionStore.open(tmp_path / "out")) == 0


def test_a_cluster_without_room_for_a_worker_is_refused(tmp_path):
    photos = make_photos(tmp_path / "photos", 2)
    with pytest.raises(
        ConfigError, match="2 CPUs and 0 GPUs at most, and a worker takes 1 and 1: start larger machines"
    ):
        extract_on_ray(photos, FakeDetector, tmp_path / "out", cluster=Cluster(gpus=1))


def test_packed_photos_are_read_by_the_workers(tmp_path):
    columns = {"image": [image(number) for number in range(6)], "caption": ["a photo"] * 6}
    packed = read_dataset(write_parquet(tmp_path / "a.parquet", columns))
    extract(packed, FakeDetector(), tmp_path / "here")
    on_two(packed, FakeDetector, tmp_path / "there")
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


def test_dead_links_are_listed_and_tried_again(tmp_path):
    photos = make_photos(tmp_path / "photos", 3)
    names = [each.path.as_uri() for each in photos.photos]
    gone = tmp_path / "gone.png"
    (tmp_path / "list.txt").write_text("\n".join([*names, gone.as_uri()]))
    listed = read_dataset(tmp_path / "list.txt", format="manifest")
    report = on_two(listed, FakeDetector, tmp_path / "out")
    assert (report.done, report.skipped) == (3, [(str(gone), "no such photo")])
    photos.photos[0].path.rename(gone)
    report = on_two(listed, FakeDetector, tmp_path / "out")
    assert (report.done, report.already_there, report.skipped) == (1, 3, [])
