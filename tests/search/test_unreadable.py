"""Files that cannot be read now: nothing that an index has of them is lost, and the next update tries them again."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from tiny_index import FakeDetector, files, make_model, make_photo, update

from han_retrieval.data import photos as photos_module
from han_retrieval.errors import HANError
from han_retrieval.search import Index
from han_retrieval.search import additions as additions_module

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links and errors are others there")


@pytest.fixture
def unreadable(monkeypatch):
    """Names of files that give an error of the system when they are opened."""
    names = {}
    opening = os.open

    def refuse(path, *args, **options):
        if error := names.get(Path(path).name):
            raise OSError(error, os.strerror(error), str(path))
        return opening(path, *args, **options)

    monkeypatch.setattr(photos_module.os, "open", refuse)
    return names


@pytest.mark.parametrize("error", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_a_file_that_cannot_be_read_once_is_tried_again(tmp_path, model, photos, unreadable, error):
    out = tmp_path / "index"
    unreadable["000.png"] = error
    report = update(photos, out, model)
    assert (report.photos, report.broken) == (5, [])
    assert report.unread == [(str(photos / "000.png"), f"cannot be read ({os.strerror(error)})")]
    unreadable.clear()
    report = update(photos, out)
    assert (report.photos, report.added, report.unread) == (6, 1, [])


def test_a_known_photo_that_cannot_be_read_stays(tmp_path, model, photos, unreadable):
    out = tmp_path / "index"
    shutil.copy(photos / "001.png", photos / "copy.png")
    update(photos, out, model)
    before = files(out)
    for name in ("000.png", "001.png"):
        os.utime(photos / name, ns=(1, 1))
        unreadable[name] = errno.EIO
    report = update(photos, out)
    assert (report.photos, report.moved, report.removed, len(report.unread)) == (6, 0, 0, 2)
    assert files(out) == before
    unreadable.clear()
    detector = FakeDetector()
    report = update(photos, out, detector=detector)
    assert (report.photos, report.unread, detector.seen) == (6, [], 0)
    assert files(out) == before


def test_a_photo_that_moved_to_a_file_that_cannot_be_read_stays(tmp_path, model, photos, unreadable):
    out = tmp_path / "index"
    make_photo(photos / "large.bmp", 9)
    update(photos, out, model)
    (photos / "large.bmp").rename(photos / "moved.bmp")
    (photos / "000.png").unlink()  # of another size
    unreadable["moved.bmp"] = errno.EIO
    report = update(photos, out)
    assert (report.photos, report.removed) == (6, 1)
    assert "large.bmp" in files(out)
    unreadable.clear()
    detector = FakeDetector()
    assert update(photos, out, detector=detector).moved == 1
    assert detector.seen == 0
    assert "moved.bmp" in files(out)
    (photos / "moved.bmp").unlink()
    assert update(photos, out).removed == 1


def test_where_a_file_cannot_even_be_looked_at_nothing_is_deleted(tmp_path, model, photos, monkeypatch):
    out, status = tmp_path / "index", Path.stat
    update(photos, out, model)
    (photos / "000.png").rename(photos / "moved.png")
    (photos / "001.png").unlink()

    def refuse(path, **options):
        if path.name == "moved.png":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return status(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", refuse)
        report = update(photos, out)
    assert (report.photos, report.removed) == (6, 0)
    assert [name for name, _ in report.unread] == [str(photos / "moved.png")]
    report = update(photos, out)
    assert (report.photos, report.moved, report.removed) == (5, 1, 1)


def test_links_to_a_disk_that_is_away_keep_their_photos(tmp_path, model, photos):
    out, disk = tmp_path / "index", tmp_path / "disk"
    make_photo(disk / "x.png", 50)
    (photos / "link.png").symlink_to(disk / "x.png")
    (photos / "loop.png").symlink_to(photos / "loop.png")
    assert update(photos, out, model).photos == 7
    disk.rename(tmp_path / "away")
    (photos / "001.png").unlink()
    report = update(photos, out)
    assert (report.photos, report.removed) == (6, 1)
    wanted = [(str(photos / name), "is a link to nothing") for name in ("link.png", "loop.png")]
    assert report.unread == wanted
    (photos / "link.png").unlink()
    assert update(photos, out).removed == 1


def test_what_is_forgotten_goes_whatever_cannot_be_read(tmp_path, model, photos, unreadable):
    out, other = tmp_path / "index", tmp_path / "other"
    shutil.copytree(photos, other)
    (other / "000.png").write_bytes((photos / "000.png").read_bytes() + b"end")
    update([photos, other], out, model)
    os.utime(photos / "001.png", ns=(1, 1))
    shutil.copy(other / "000.png", photos / "copy.png")
    unreadable |= {"001.png": errno.EIO, "copy.png": errno.EIO}
    report = update(photos, out, forget=[other])
    assert (report.photos, report.removed, len(report.unread)) == (6, 1, 2)


def test_a_file_that_changes_while_it_is_read_is_tried_again(tmp_path, model, photos, monkeypatch):
    """A copy that is still being written looks broken."""
    whole = (photos / "000.png").read_bytes()
    (photos / "000.png").write_bytes(whole[:-100])
    count = photos_module.count_pixels

    def count_and_change(path, **options):
        pixels = count(path, **options)
        if Path(str(path)).name == "000.png":
            (photos / "000.png").write_bytes(whole[:-50])
        return pixels

    monkeypatch.setattr("han_retrieval.search.photo.count_pixels", count_and_change)
    report = update(photos, tmp_path / "index", model)
    assert report.broken == []
    assert report.unread == [(str(photos / "000.png"), "was changed while it was read")]


def test_short_memory_is_no_fault_of_the_photo(tmp_path, model, photos, monkeypatch):
    def too_much(photo):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(photos_module, "_upright_rgb", too_much)
        report = update(photos, tmp_path / "index", model)
    assert len(report.unread) == 6
    assert update(photos, tmp_path / "index").photos == 6


def test_what_another_version_could_not_read_is_tried_again(tmp_path, model, photos):
    out = tmp_path / "index"
    (photos / "text.jpg").write_text("no photo")
    update(photos, out, model)
    (listed,) = map(json.loads, (out / "photos-1" / "broken.jsonl").read_text().splitlines())
    status = (photos / "000.png").stat()
    old = {"root": str(photos), "path": "000.png", "size": status.st_size, "mtime": status.st_mtime_ns}
    lines = [listed, old | {"reason": "cannot be read (Input/output error)"}]
    with Index.open(out) as index:
        row = index.find("000.png")
    assert row is not None
    (photos / "000.png").rename(photos / "new.png")
    lines[1]["path"] = "new.png"
    (out / "photos-1" / "broken.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = update(photos, out)
    assert (report.moved, report.removed, [Path(name).name for name, _ in report.broken]) == (1, 0, ["text.jpg"])


def test_a_rebuild_that_lacks_photos_is_not_taken(tmp_path, model, photos, unreadable):
    out, other = tmp_path / "index", make_model(tmp_path / "other", seed=1)
    update(photos, out, model)
    unreadable["000.png"] = errno.EIO
    with pytest.raises(HANError, match=r"000\.png: cannot be read .* of the present index"):
        update(None, out, other, rebuild=True)
    assert len(files(out)) == 6
    unreadable.clear()
    detector = FakeDetector()
    assert update(None, out, other, rebuild=True, detector=detector).photos == 6
    assert detector.seen == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_no_file_is_left_out_and_said(tmp_path, model, photos):
    os.mkfifo(photos / "pipe.jpg")
    (photos / "zero.jpg").symlink_to("/dev/zero")
    report = update(photos, tmp_path / "index", model)
    assert report.photos == 6
    wanted = [(str(photos / name), "is no regular file") for name in ("pipe.jpg", "zero.jpg")]
    assert sorted(report.broken) == wanted


def test_a_rebuild_keeps_photos_below_a_folder_that_cannot_be_listed(tmp_path, model, photos, monkeypatch):
    out = tmp_path / "index"
    make_photo(photos / "below" / "a.png", 9)
    update(photos, out, model)
    scan = os.scandir

    def refuse(path):
        if Path(path).name == "below":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scan(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        assert update(photos, out).photos == 7
        with pytest.raises(HANError, match=r"a\.png: is below a folder that cannot be listed.* of the present index"):
            update(None, out, rebuild=True)
    assert len(files(out)) == 7
    assert update(None, out, rebuild=True).photos == 7


def test_an_interrupt_between_a_photo_s_row_and_its_files_loses_none(tmp_path, model, photos, monkeypatch):
    appended = []

    class Interrupted(list):
        def append(self, row):
            if len(appended) == 2:
                appended.append(row)
                raise KeyboardInterrupt
            appended.append(row)
            super().append(row)

    made = additions_module.Additions.__init__

    def with_rows(self, *given, **options):
        made(self, *given, **options)
        self._rows = Interrupted(self._rows)

    monkeypatch.setattr(additions_module.Additions, "__init__", with_rows)
    with pytest.raises(KeyboardInterrupt):
        update(photos, tmp_path / "index", model)
    assert len(files(tmp_path / "index")) == 2
