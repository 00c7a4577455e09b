"""Runs of indexing that are killed at a step, on any system; on Linux, ``tests/reliability`` kills them anywhere."""

from __future__ import annotations

import shutil

import pytest
from killing import KILLED, processes_with
from tiny_index import change_photos, make_model, make_photos, run_killed_at, update

from han_retrieval.errors import HANError
from han_retrieval.search import Index
from han_retrieval.search.rows import to_files

processes = processes_with("han_retrieval.search", "lance")


def contents(out) -> dict[str, tuple]:
    """All of an index, by the photo's id."""
    try:
        index = Index.open(out)
    except HANError:
        return {}  # killed before there was one
    with index:
        rows = range(len(index))
        files = to_files(index.photos)
        assert len(files) == len(index)
        tokens, mask = index.tokens(rows)
        return {
            name: (tuple((f.root, f.path) for f in places), its[there].numpy().tobytes(), regions.boxes.tobytes())
            for (name, places), its, there, regions in zip(
                files.items(), tokens, mask, index.regions(rows), strict=True
            )
        }


@pytest.fixture
def folders(tmp_path):
    """Photos that were indexed, and then changed in every way; what an unbroken run makes of them."""
    photos, model = make_photos(tmp_path / "photos", 9), make_model(tmp_path / "model")
    update(photos, tmp_path / "index", model)
    shutil.copytree(tmp_path / "index", tmp_path / "unbroken")
    change_photos(photos, new=9)
    update(photos, tmp_path / "unbroken")
    return photos, tmp_path / "index", model, contents(tmp_path / "unbroken")


def finish(photos, out, wanted) -> None:
    report = update(photos, out)
    assert [name for name, _ in report.broken] == [str(photos / "broken.png")]
    assert contents(out) == wanted
    update(photos, out)
    assert len(list((out / "photos-1" / "_versions").glob("*.manifest"))) == 1
    assert len(list((out / "photos-1" / "data").iterdir())) == 1  # nothing of the killed runs is left


def kill_at(folders, call: str, times: int) -> None:
    photos, out, model, wanted = folders
    before = contents(out)
    process = processes.Process(target=run_killed_at, args=(photos, out, model, call, times))
    process.start()
    process.join(300)
    assert process.exitcode == KILLED
    now = contents(out)
    for name, (_, *rest) in now.items():  # whole photos, those of before or of the unbroken run
        assert tuple(rest) == (wanted.get(name) or before[name])[1:]
    assert before.keys() & wanted.keys() <= now.keys()  # and none is lost that is still there
    finish(photos, out, wanted)


@pytest.mark.parametrize(("call", "times"), [("commit", 2), ("move", 2), ("delete", 1), ("clean", 1)])
def test_killed_at_a_step(folders, call, times):
    kill_at(folders, call, times)


def test_the_first_run_killed_goes_on(tmp_path):
    photos, model = make_photos(tmp_path / "photos", 11), make_model(tmp_path / "model")
    process = processes.Process(target=run_killed_at, args=(photos, tmp_path / "index", model, "commit", 2))
    process.start()
    process.join(300)
    assert process.exitcode == KILLED
    assert len(contents(tmp_path / "index")) == 4
    report = update(photos, tmp_path / "index")  # the model is known by then
    assert (report.photos, report.added) == (11, 7)
