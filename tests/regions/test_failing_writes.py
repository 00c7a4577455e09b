"""Writes that fail are never committed, whether or not Lance's writer reports them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from failing_writes import build_shim, no_file_beyond, run_with_failing_writes
from fake_detector import FakeDetector, make_photos

from han_retrieval.errors import HANError
from han_retrieval.regions import RegionStore, extract
from han_retrieval.regions.damage import check_store

RUN = """
import sys
sys.path[:0] = sys.argv[3].split(":")
from pathlib import Path
from fake_detector import make_photos, run
from han_retrieval.errors import HANError
photos = make_photos(Path(sys.argv[1]), 10)
print("begun", flush=True)
try:
    run(photos, Path(sys.argv[2]))
except HANError as error:
    print(error)
    sys.exit(2)
"""


def contents(out: Path) -> dict[str, bytes]:
    store = RegionStore.open(out)
    return {i: each.features.tobytes() for i, each in zip(store.ids, store.read(store.ids), strict=True)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("photos"), 10)


@pytest.fixture(scope="module")
def unbroken(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("unbroken") / "features"
    extract(photos, FakeDetector(), out)
    return out


@pytest.mark.parametrize("less", [1, 2, 40, 1000, 3000])
def test_a_short_write_is_not_committed(less, photos, unbroken, tmp_path):
    first = photos.only([photo.id for photo in photos.photos[:2]])
    out = tmp_path / "features"
    extract(first, FakeDetector(), out)
    before = contents(out)
    size = max(file.stat().st_size for file in (unbroken / "data").iterdir())
    with no_file_beyond(size - less), pytest.raises(HANError, match=r"cannot be written|could not be written"):
        extract(photos, FakeDetector(), out)
    kept = contents(out)
    assert kept in (before, contents(unbroken))  # or the photos were committed, and merging files failed
    assert check_store(out) == []
    assert extract(photos, FakeDetector(), out).done == 10 - len(kept)
    assert contents(out) == contents(unbroken)


def failing_at(at: int | None, once: bool, shim: Path, folder: Path, unbroken: Path) -> int:
    """Run with the n-th write failing: a clear error or success, and the next run ends as an undisturbed one."""
    out = folder / f"features {at} {once}"
    path = ":".join(sys.path)
    done, calls = run_with_failing_writes(shim, RUN, folder / "photos", out, path, within=out.name, at=at, once=once)
    lines = done.stdout.splitlines()
    assert lines[0] == "begun"
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 2), done.stderr
    assert len(lines) == (1 if done.returncode == 0 else 2)
    extract(make_photos(folder / "photos", 10), FakeDetector(), out)
    assert contents(out) == contents(unbroken), (at, done.stdout)
    assert check_store(out) == []
    shutil.rmtree(out)
    return calls


def test_a_write_that_fails_is_not_committed(unbroken, tmp_path):
    shim = build_shim(tmp_path)
    calls = failing_at(None, False, shim, tmp_path, unbroken)
    assert calls > 20
    failing_at(calls // 2, True, shim, tmp_path, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("once", [True, False])
def test_each_write_that_fails_is_not_committed(once, unbroken, tmp_path):
    shim = build_shim(tmp_path)
    calls = failing_at(None, False, shim, tmp_path, unbroken)
    for at in range(1, calls + 1, 2 if once else 6):
        failing_at(at, once, shim, tmp_path, unbroken)
