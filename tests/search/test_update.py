"""Folders to an index, and again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_index import SENTENCE, FakeDetector, files, make_model, make_photo, make_photos, update

from han_retrieval.data import open_photo
from han_retrieval.errors import HANError
from han_retrieval.matchers import HAN
from han_retrieval.search import Index, search
from han_retrieval.search.encode import encode_regions
from han_retrieval.search.settings import Settings
from han_retrieval.storage.locks import WriterLock


def tokens(out: Path) -> dict[str, list]:
    with Index.open(out) as index:
        found, mask = index.tokens(np.arange(len(index)))
        names = index.photos["id"].to_pylist()
        return {name: its[there].tolist() for name, its, there in zip(names, found, mask, strict=True)}


@pytest.mark.parametrize("storage", ["int8", "float16"])
def test_what_is_kept_of_a_photo(tmp_path, model, photos, storage):
    exif = {0x010F: "Canon", 0x0110: "Canon EOS R", 0x0132: "2024:02:03 04:05:06"}
    tags = Image.Exif()
    for tag, value in exif.items():
        tags[tag] = value
    shot = make_photo(photos / "trips" / "Zürich 東京" / "a.jpg", 77, exif=tags, quality=95)
    report = update(photos, tmp_path / "index", model, storage=storage)
    assert (report.photos, report.added, report.moved, report.removed, report.broken) == (7, 7, 0, 0, [])
    with Index.open(tmp_path / "index") as index:
        (row,) = index.filter("folder like 'trips/%' and date >= '2024-02-01'")
        assert list(index.filter("date is null")) == [i for i in range(7) if i != row]
        photo = index.photos.slice(row, 1).to_pylist()[0]
        assert photo["path"] == "trips/Zürich 東京/a.jpg"
        assert index.files(row) == [shot]
        assert (photo["date"], photo["camera"]) == ("2024-02-03 04:05:06", "Canon EOS R")
        assert (photo["size"], photo["mtime"]) == (shot.stat().st_size, shot.stat().st_mtime_ns)
        assert (photo["width"], photo["height"]) == (24, 16)
        wanted = FakeDetector().regions(Image.open(shot).convert("RGB"))
        assert photo["regions"] == len(wanted.features)
        (regions,) = index.regions([row])
        assert np.array_equal(regions.boxes, wanted.boxes)
        assert regions.labels == wanted.labels
        its, mask = index.tokens([row, row])
        assert mask.all()
        true, _ = encode_regions(HAN.from_pretrained(model), [wanted])
        assert torch.allclose(its[1], true[0], atol=1e-2 if storage == "int8" else 1e-3)
        pooled = torch.nn.functional.normalize(true[0].mean(0), dim=0)
        assert np.allclose(index.pooled[row], pooled.numpy(), atol=1e-3)
        summary = index.describe()
        assert (summary.tokens, summary.photos, summary.files, summary.roots) == (storage, 7, 7, (str(photos),))
        assert summary.last_date == "2024-02-03 04:05:06"


def test_again_only_what_is_new_changed_moved_or_gone(tmp_path, model, photos):
    out = tmp_path / "index"
    update(photos, out, model)
    before = tokens(out)
    nothing = FakeDetector()
    report = update(None, out, detector=nothing)
    assert (report.photos, report.added, report.moved, report.removed, nothing.seen) == (6, 0, 0, 0, 0)

    (photos / "sub").mkdir()
    (photos / "000.png").rename(photos / "sub" / "é.png")  # moved
    (photos / "001.png").unlink()  # gone
    shutil.copy(photos / "002.png", photos / "copy.png")  # one photo, two files
    os.utime(photos / "003.png", ns=(1, 1))  # touched
    make_photo(photos / "004.png", 104)  # changed
    make_photo(photos / "new.png", 200)  # new
    detector = FakeDetector()
    report = update(photos, out, detector=detector)
    assert (report.photos, report.added, report.moved, report.removed) == (6, 2, 3, 2)
    assert detector.seen == 2
    held = files(out)
    assert sorted(map(tuple, held.values())) == [
        ("002.png", "copy.png"), ("003.png",), ("004.png",), ("005.png",), ("new.png",), ("sub/é.png",),
    ]  # fmt: skip
    after = tokens(out)
    assert len(after) == 6
    assert len(before.keys() & after.keys()) == 4
    assert all(after[name] == before[name] for name in before.keys() & after.keys())

    (photos / "002.png").unlink()  # the copy is left
    detector = FakeDetector()
    assert update(photos, out, detector=detector).moved == 1
    assert detector.seen == 0
    assert "copy.png" in files(out)


def test_photos_that_change_names_in_a_circle_are_not_encoded_again(tmp_path, model, photos):
    update(photos, tmp_path / "index", model)
    before = tokens(tmp_path / "index")
    names = sorted(photos.iterdir())
    for name in names:
        name.rename(f"{name}.old")
    for name, old in zip(names, [*names[1:], names[0]], strict=True):
        Path(f"{old}.old").rename(name)
        os.utime(name, ns=(5, hash(name.name) % 1000 + 10))
    detector = FakeDetector()
    report = update(photos, tmp_path / "index", detector=detector)
    assert (report.photos, report.added, report.moved, report.removed, detector.seen) == (6, 0, 6, 0, 0)
    assert tokens(tmp_path / "index") == before
    assert len(files(tmp_path / "index")) == 6


def test_copies_are_one_photo_also_when_they_turn_up_in_one_run(tmp_path, model, monkeypatch):
    photos = make_photos(tmp_path / "photos", 3)
    for i in range(9):
        shutil.copy(photos / "001.png", photos / f"copy {i}.png")
    for commits in (256, 2):
        monkeypatch.setattr("han_retrieval.search.additions._ROWS_A_COMMIT", commits)
        detector = FakeDetector()
        out = tmp_path / f"index {commits}"
        report = update(photos, out, model, detector=detector, batch_size=2)
        assert (report.photos, report.added, report.moved, detector.seen) == (3, 3, 0, 3)
        assert files(out)["001.png"] == ["001.png", *(f"copy {i}.png" for i in range(9))]


def test_a_broken_photo_is_listed_and_tried_again_when_it_changed(tmp_path, model, photos, monkeypatch):
    broken = photos / "broken.jpg"
    broken.write_text("not a photo")
    (photos / "empty.png").touch()
    report = update(photos, tmp_path / "index", model)
    assert report.photos == 6
    assert [name for name, _ in report.broken] == [str(broken), str(photos / "empty.png")]
    assert "not an image" in report.broken[0][1]
    read = []

    def opened(photo, **options):
        read.append(Path(str(photo)))
        return open_photo(photo, **options)

    monkeypatch.setattr("han_retrieval.search.photo.open_photo", opened)
    again = update(photos, tmp_path / "index")
    assert (again.broken, read) == (report.broken, [])
    make_photo(photos / "whole.jpg", 9)
    (photos / "whole.jpg").rename(broken)
    repaired = update(photos, tmp_path / "index")
    assert (repaired.added, [name for name, _ in repaired.broken]) == (1, [str(photos / "empty.png")])
    assert read == [broken]
    broken.write_text("broken again")
    assert update(photos, tmp_path / "index").removed == 1
    assert "broken.jpg" not in files(tmp_path / "index")


def test_several_roots_patterns_and_what_is_forgotten(tmp_path, model):
    one, two = make_photos(tmp_path / "one", 3), make_photos(tmp_path / "two", 3, first=10)
    make_photo(one / ".hidden" / "x.png", 30)
    make_photo(one / "thumbs" / "x.png", 31)
    make_photo(one / "trips" / "2024" / "x.jpg", 32)
    (one / "loop").symlink_to(one, target_is_directory=True)
    (one / "dangling.png").symlink_to(one / "nowhere.png")
    out = tmp_path / "index"
    assert update([one, two], out, model, exclude=["thumbs", "trips/*.jpg"]).photos == 6
    report = update(one, out)  # with the patterns of before
    assert (report.photos, report.added, report.removed) == (6, 0, 0)
    make_photos(two, 1, first=20)
    (one / "000.png").unlink()
    report = update(two, out)  # the other root is left alone
    assert (report.photos, report.added, report.removed) == (7, 1, 0)
    report = update(None, out)  # both, with the patterns of before
    assert (report.photos, report.added, report.removed) == (6, 0, 1)
    report = update(one, out, include=["*.jpg"])
    assert sorted(files(out)) == ["010.png", "011.png", "012.png", "020.png", "trips/2024/x.jpg"]
    report = update(None, out, forget=[two])
    assert list(files(out)) == ["trips/2024/x.jpg"]
    assert list(json.loads((out / "index.json").read_text())["roots"]) == [str(one)]


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_names_that_are_no_text_are_said(tmp_path, model, photos):
    make_photo(photos / "x.png", 40)
    try:
        (photos / "x.png").rename(photos / os.fsdecode(b"\xff.png"))
    except OSError:
        pytest.skip("the file system refuses such names")
    report = update(photos, tmp_path / "index", model)
    assert report.photos == 6
    assert len(report.broken) == 1
    assert "not UTF-8" in report.broken[0][1]


def test_a_folder_that_cannot_be_listed_keeps_its_photos(tmp_path, model, photos, monkeypatch):
    make_photo(photos / "locked" / "x.png", 50)
    update(photos, tmp_path / "index", model)
    listing = os.scandir

    def scandir(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", scandir)
    report = update(photos, tmp_path / "index")
    assert (report.photos, report.removed, report.unreadable) == (7, 0, [str(photos / "locked")])


def test_an_interrupt_keeps_what_was_encoded(tmp_path, model, photos):
    class Interrupted(FakeDetector):
        def detect(self, batch):
            if self.seen == 4:
                raise KeyboardInterrupt
            return super().detect(batch)

    with pytest.raises(KeyboardInterrupt):
        update(photos, tmp_path / "index", model, detector=Interrupted(), batch_size=2)
    assert len(files(tmp_path / "index")) == 4
    report = update(photos, tmp_path / "index")
    assert (report.photos, report.added) == (6, 2)


def test_a_rebuild_is_beside_the_old_one_and_then_in_its_place(tmp_path, model, photos):
    out, other = tmp_path / "index", make_model(tmp_path / "other", seed=1)
    update(photos, out, model)
    with pytest.raises(HANError, match=r"other is not the model .* --rebuild makes it anew"):
        update(photos, out, other)
    old = Index.open(out)

    class Interrupted(FakeDetector):
        def detect(self, batch):
            if self.seen == 4:
                raise KeyboardInterrupt
            return super().detect(batch)

    with pytest.raises(KeyboardInterrupt):
        update(None, out, other, rebuild=True, detector=Interrupted(), batch_size=2)
    assert not old.refresh()
    assert update(None, out).photos == 6  # the old one still goes on
    detector = FakeDetector()
    report = update(None, out, other, rebuild=True, detector=detector)
    assert (report.photos, detector.seen) == (6, 2)
    assert torch.isfinite(old.tokens([0])[0]).all()  # a reader of before reads on
    assert (out / "photos-1").is_dir()
    assert old.refresh()
    assert old.load_model() is not None
    assert old.settings.model == str(other)
    old.close()
    update(None, out)
    assert sorted(path.name for path in out.iterdir()) == ["index.json", "photos-2", "readers", "writer.lock"]


def test_one_writer_at_a_time_and_readers_go_on(tmp_path, model, photos):
    out = tmp_path / "index"
    update(photos, out, model)
    lock = WriterLock(out)
    with pytest.raises(HANError, match=f"process {os.getpid()} is writing to it"):
        update(photos, out)
    assert len(files(out)) == 6
    lock.close()
    assert update(photos, out).photos == 6


def test_clean_up_spares_what_is_read(tmp_path, model, photos, monkeypatch):
    monkeypatch.setattr("han_retrieval.storage.table.SMALL_FILES", 4)
    out = tmp_path / "index"
    update(photos, out, model)
    reader = Index.open(out)
    before = reader.tokens([0])[0]
    for i in range(5):
        make_photos(photos, 3, first=10 + 3 * i)
        update(photos, out)
    assert len(reader) == 6
    assert torch.equal(reader.tokens([0])[0], before)  # read from the files of its own version
    assert len(list((out / "photos-1" / "_versions").glob("*.manifest"))) > 1
    assert reader.refresh()
    assert len(reader) == 21
    reader.close()
    make_photos(photos, 1, first=40)
    update(photos, out)
    assert len(list((out / "photos-1" / "_versions").glob("*.manifest"))) == 1
    assert list((out / "readers").iterdir()) == []


def test_an_old_table_in_use_is_left_for_a_later_run(tmp_path, model, photos, monkeypatch):
    """As on Windows, which moves no folder with an open file in it."""
    out, replace = tmp_path / "index", Path.replace

    def refuse(source, target):
        if source.is_dir():
            raise PermissionError(13, "used by another process")
        return replace(source, target)

    update(photos, out, model)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        assert update(None, out, rebuild=True).photos == 6
    assert (out / "photos-1").is_dir()
    assert len(files(out)) == 6
    update(None, out)
    assert not (out / "photos-1").exists()


@pytest.mark.skipif(os.name == "nt", reason="these are no names there")
@pytest.mark.parametrize("name", ["a\\b.png", "C:\\trips\\c.png", "D:e.png", "NUL.png", "con.png", "aux", "x. "])
def test_names_that_are_special_on_windows_are_names_elsewhere(tmp_path, model, name):
    """A folder and a photo are called so."""
    photos, out = tmp_path / name, tmp_path / "index"
    photo = make_photo(photos / name / f"{name}.png", 1)
    update(photos, out, model)
    assert files(out) == {f"{name}/{name}.png": [f"{name}/{name}.png"]}
    with Index.open(out) as index:
        assert index.find(photo) == index.find(f"{name}/{name}.png") == 0
        assert index.files(0) == [photo]
        folder = f"{name}/".replace("'", "''")
        assert index.filter(f"folder = '{folder}'").tolist() == [0]
        hits = search(index, index.load_model(), SENTENCE).hits
    assert [hit.path for hit in hits] == [photo]


def test_without_a_model_the_one_that_ships_is_taken_by_name(tmp_path, model, photos, monkeypatch):
    monkeypatch.setattr("han_retrieval.matchers.saving._SHIPPED", model)
    update(photos, tmp_path / "index")
    assert Settings.read(tmp_path / "index").model == "default"
    with Index.open(tmp_path / "index") as index:
        index.load_model()
    # The package is installed elsewhere now.
    monkeypatch.setattr("han_retrieval.matchers.saving._SHIPPED", shutil.copytree(model, tmp_path / "elsewhere"))
    assert update(None, tmp_path / "index").added == 0
    with Index.open(tmp_path / "index") as index:
        index.load_model()
