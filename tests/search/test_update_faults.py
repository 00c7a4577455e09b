"""What `han index` refuses or survives: names of folders, patterns, disks, other versions."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import lance
import pytest
from tiny_index import FakeDetector, files, make_model, make_photo, make_photos, update

from han_retrieval.errors import HANError
from han_retrieval.search import Index
from han_retrieval.search.settings import Settings
from han_retrieval.search.table import PhotoTable
from han_retrieval.storage.locks import WriterLock


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"roots": "none"}, "none: no such folder"),
        ({"roots": "file.png"}, "file.png: not a folder"),
        ({"roots": "empty"}, "empty: no photo in it or below it"),
        ({"roots": None}, "which photos"),
        ({"model": "nowhere"}, "nowhere: no such model"),
        ({"out": "photos"}, "photos: holds other things, such as 000.png"),
        ({"storage": "int4"}, "one of int8, float16, not as 'int4'"),
        ({"forget": ["x"]}, "x: not a folder of this index"),
        ({"detector": FakeDetector("fake:2")}, "of 'fake:1', and 'fake:2' gives"),
        ({"detector": None}, "'fake:1', which cannot run on a photo here"),
        ({"roots": ["photos", "photos/sub"]}, "one inside the other"),
    ],
)
def test_what_the_user_can_mend_is_said(tmp_path, model, photos, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (photos / "sub").mkdir()
    make_photo(tmp_path / "file.png", 1)
    options = {"roots": "photos", "out": "index", "model": model, **change}
    roots = options.pop("roots")
    roots = [Path(root) for root in roots] if isinstance(roots, list) else roots and Path(roots)
    with pytest.raises(HANError, match=message):
        update(roots, options.pop("out"), options.pop("model"), **options)
    assert not (tmp_path / "index").exists()


def test_folders_of_the_user_s_are_no_tables(tmp_path, model, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos = make_photos(tmp_path / "photos-1", 3)
    with pytest.raises(HANError, match="holds other things, such as photos-1"):
        update(photos, tmp_path, model)
    (photos / "data").mkdir()
    for photo in list(photos.iterdir()):
        if photo.is_file():
            photo.rename(photos / "data" / photo.name)
    with pytest.raises(HANError, match="holds other things, such as photos-1"):
        update(photos, tmp_path, model)
    assert len(list((photos / "data").iterdir())) == 3
    out = tmp_path / "index"
    update(photos, out, model)
    own = [make_photos(out / name, 1) for name in ("photos-paris", "photos-0", "photos-1-backup", "photos-2")]
    update(photos, out, model)
    with pytest.raises(HANError, match="photos-2: holds other things than a part of the index"):
        update(photos, out, model, rebuild=True)
    assert all(len(list(folder.iterdir())) == 1 for folder in own)


def test_two_that_make_an_index_at_once(tmp_path, model, photos, monkeypatch):
    out = tmp_path / "index"
    made = update(photos, out, model)
    monkeypatch.setattr("han_retrieval.search.update.is_index", lambda _: False)  # it was looked for before that
    with WriterLock(out), pytest.raises(HANError, match="is writing to it"):
        update(photos, out, model)
    with pytest.raises(HANError, match="another process has just made an index there; give the command again"):
        update(photos, out, model)
    assert len(Index.open(out)) == made.photos


def test_an_interrupt_within_a_commit_keeps_what_was_encoded(tmp_path, model, photos, monkeypatch):
    append = PhotoTable.append

    def interrupted(self, rows):
        os.kill(os.getpid(), signal.SIGINT)
        append(self, rows)

    monkeypatch.setattr(PhotoTable, "append", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored where tests run in the background
    try:
        with pytest.raises(KeyboardInterrupt):
            update(photos, tmp_path / "index", model)
    finally:
        signal.signal(signal.SIGINT, before)
    monkeypatch.undo()
    assert len(Index.open(tmp_path / "index")) == 6


def test_a_disk_that_is_away_takes_no_photos_out(tmp_path, model, photos):
    out = tmp_path / "index"
    update(photos, out, model)
    for photo in photos.iterdir():
        photo.unlink()
    with pytest.raises(HANError, match="no photo in it or below it; if its photos are to leave the index: --forget"):
        update(None, out)
    photos.rmdir()
    with pytest.raises(HANError, match="no such folder; if its photos are to leave"):
        update(None, out)
    assert len(files(out)) == 6
    assert update(None, out, forget=[photos]).photos == 0
    assert len(Index.open(out)) == 0


def test_a_file_system_without_hard_links_is_said(tmp_path, model, photos, monkeypatch):
    def link(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(HANError, match=r"makes no hard links \(Operation not permitted\); choose a folder on another"):
        update(photos, tmp_path / "index", model)


def test_a_folder_has_one_name(tmp_path, model, photos, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(make_photos(tmp_path / "other" / "sub" / "deep", 1, first=30))
    monkeypatch.chdir(tmp_path / "sub")
    out = tmp_path / "index"
    update(Path("../photos"), out, model)
    assert list(Settings.read(out).roots) == [str(photos)]
    assert update([photos, Path("../link/../deep")], out).photos == 7  # what the disk has behind the link
    assert update(None, out, forget=["../photos"]).photos == 1


def test_a_folder_keeps_the_name_that_an_index_has_of_it(tmp_path, model, photos):
    out, before = tmp_path / "index", f"{tmp_path}/sub/../photos"
    (tmp_path / "sub").mkdir()
    update(photos, out, model)
    settings = Settings.read(out)
    settings.model_copy(update={"roots": {before: settings.roots[str(photos)]}}).write(out)
    assert update(photos, out).photos == 6
    assert list(Settings.read(out).roots) == [before]
    assert update(None, out, forget=[photos]).photos == 0


def test_patterns_fit_in_any_case(tmp_path, model):
    photos = make_photos(tmp_path / "photos", 1)
    make_photo(photos / "IMG_1.JPG", 30)
    make_photo(photos / "Thumbs" / "x.jpg", 31)
    update(photos, tmp_path / "index", model, include=["*.jpg"], exclude=["thumbs"])
    assert list(files(tmp_path / "index")) == ["IMG_1.JPG"]


def test_patterns_that_let_nothing_through_are_said(tmp_path, model, photos):
    update(photos, tmp_path / "index", model)
    with pytest.raises(HANError) as error:
        update(photos, tmp_path / "index", include=["*.gif"])
    assert str(error.value).endswith("no photo in it or below it that --include and --exclude let through")


def test_ones_own_model_called_as_the_one_that_ships(tmp_path, model, photos, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = make_model(tmp_path / "default", seed=4)
    monkeypatch.setattr("han_retrieval.matchers.saving._SHIPPED", model)
    update(photos, tmp_path / "own", "./default")
    assert Settings.read(tmp_path / "own").model == str(own)
    update(photos, tmp_path / "shipped", "default")
    assert Settings.read(tmp_path / "shipped").model == "default"
    with pytest.raises(HANError, match="may be the model that ships or the folder here"):
        update(photos, tmp_path / "either", Path("./default"))


def test_broken_files_are_listed_whatever_their_names(tmp_path, model, photos):
    for name in ("a\u2028b.jpg", "c\x85d.jpg"):
        (photos / name).write_text("no photo")
    broken = update(photos, tmp_path / "index", model).broken
    with Index.open(tmp_path / "index") as index:
        assert index.describe().broken == len(broken) == 2


@pytest.mark.parametrize("step", ["cleanup_old_versions", "merge_insert"])
def test_a_disk_that_is_full_is_one_line(tmp_path, model, photos, monkeypatch, step):
    update(photos, tmp_path / "index", model)
    (photos / "000.png").unlink()

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lance.LanceDataset, step, full)
    with pytest.raises(HANError, match=r"photos-1: cannot be written \(No space left on device\)"):
        update(photos, tmp_path / "index")


def test_an_index_of_another_version_is_refused(tmp_path, model, photos):
    out = tmp_path / "index"
    update(photos, out, model)
    settings = json.loads((out / "index.json").read_text())
    (out / "index.json").write_text(json.dumps(settings | {"format": 2}))
    for do in (lambda: Index.open(out), lambda: update(photos, out)):
        with pytest.raises(HANError, match="an index of format 2, and this version reads 1"):
            do()
    (out / "index.json").write_text("{")
    with pytest.raises(HANError, match=r"index\.json, line 1: broken JSON"):
        Index.open(out)
