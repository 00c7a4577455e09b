from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from dataset_files import flickr, photos, refused, summary, write

from han_retrieval.data import read_dataset, read_sentences
from han_retrieval.errors import HANError


def test_folder_of_photos(tmp_path: Path) -> None:
    photos(tmp_path, "b.JPG", "sub/deep/a.png", "sub/.hidden.png", ".thumbs/c.png", "a.webp")
    write(tmp_path / "notes.txt", "image of mine")
    dataset = read_dataset(tmp_path)
    assert dataset.format == "photos"
    assert summary(dataset) == [
        ("a.webp", "a.webp", [], None),
        ("b.JPG", "b.JPG", [], None),
        ("sub/deep/a.png", "a.png", [], None),
    ]
    assert dataset.photos[2].path == tmp_path / "sub" / "deep" / "a.png"


def test_one_photo(tmp_path: Path) -> None:
    photos(tmp_path, "a.png", "b.png")
    assert summary(read_dataset(tmp_path / "a.png")) == [("a.png", "a.png", [], None)]


@pytest.mark.parametrize("step", ["list", "enter"])
def test_a_folder_that_cannot_be_read_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    photos(tmp_path, "a.png", "locked/b.png", "locked/c.png")
    owner, name, steps_up = {"list": (os, "scandir", 0), "enter": (Path, "stat", 1)}[step]
    original = getattr(owner, name)

    def locked(path: Path | str, **options: Any) -> Any:
        if [Path(path), *Path(path).parents][steps_up] == tmp_path / "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, **options)

    monkeypatch.setattr(owner, name, locked)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / "locked")
    dataset = read_dataset(tmp_path)
    assert [photo.id for photo in dataset.photos] == ["a.png"]
    assert dataset.skipped == {f"folder that cannot be read, such as {tmp_path / 'locked'}": 1}
    (tmp_path / "a.png").unlink()
    refused(tmp_path, "found none; .*locked cannot be read", format="photos")


def test_a_path_that_may_not_be_looked_at_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(tmp_path / ("a" * 300), r"aaa: (cannot be read \(File name too long\)|no such file)")

    def locked(path: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", locked)
    refused(tmp_path / "none", r"cannot be read \(Permission denied\)")
    monkeypatch.setattr(Path, "is_file", locked)
    with pytest.raises(HANError, match=r"a\.txt: cannot be read \(Permission denied\)"):
        read_sentences(tmp_path / "a.txt")


def test_links_that_go_in_circles_end(tmp_path: Path) -> None:
    photos(tmp_path, "sub/a.png")
    (tmp_path / "sub" / "round").symlink_to(tmp_path)
    assert len(read_dataset(tmp_path)) == 1


def test_empty_captions_and_missing_photos_are_counted_and_left_out(tmp_path: Path) -> None:
    photos(tmp_path, "a.png", "b.png")
    rows = ["file_name,caption", 'a.png,"A', 'a"', "a.png,", "a.png,  ", "b.png,", "c.png,C", "d.png,D"]
    write(tmp_path / "metadata.csv", *rows)
    dataset = read_dataset(tmp_path)
    assert summary(dataset) == [("a.png", "a.png", ["A\na"], None)]
    assert dataset.skipped == {"empty caption": 3, "photo without captions": 1, "photo file missing": 2}


def test_without_any_photo_file_the_captions_stay(tmp_path: Path) -> None:
    write(tmp_path / "results.token", "a.jpg#0\tA", "b.jpg#0\tB")
    dataset = read_dataset(tmp_path)
    assert summary(dataset) == [("a.jpg", None, ["A"], None), ("b.jpg", None, ["B"], None)]
    assert not dataset.skipped


def test_a_dataset_of_empty_captions_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "results.token", "a.jpg#0\t ")
    refused(tmp_path, r"no photo with a caption in it \(empty caption: 1, photo without captions: 1\)")


def test_a_format_can_be_forced(tmp_path: Path) -> None:
    flickr(tmp_path)
    photos(tmp_path, "e.jpg")
    write(tmp_path / "metadata.csv", "file_name,caption", "e.jpg,E")
    refused(tmp_path, "could be flickr, metadata; choose one with --format NAME")
    assert len(read_dataset(tmp_path, format="flickr")) == 3
    assert len(read_dataset(tmp_path, format="metadata")) == 1
    assert len(read_dataset(tmp_path, format="photos")) == 5
    refused(tmp_path, "no dataset format is called 'flikr'; did you mean 'flickr'", format="flikr")


@pytest.mark.parametrize(
    "format", ["flickr", "karpathy", "coco", "metadata", "lavis", "vse-infinity", "scan", "photos"]
)
def test_a_forced_format_that_does_not_fit_says_what_it_expected(tmp_path: Path, format: str) -> None:
    write(tmp_path / "notes.txt", "hello")
    refused(tmp_path, "expected|missing", format=format)
    refused(tmp_path / "notes.txt", "expected|missing|broken|no column|cannot be read", format=format)


def test_what_is_not_recognised_is_told_what_is(tmp_path: Path) -> None:
    write(tmp_path / "notes.txt", "hello")
    for source in (tmp_path, tmp_path / "notes.txt", write(tmp_path / "list.json", "[1, 2]")):
        refused(
            source,
            "not a dataset in a known format.*coco:.*flickr:.*karpathy:.*lavis:.*metadata:.*photos:.*scan:",
        )


def test_empty_folders_and_wrong_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "flickr8k").mkdir()
    refused(tmp_path / "flickr8k", "flickr8k: the folder is empty")
    refused(tmp_path / "flikr8k", f"flikr8k: no such file or folder; did you mean {tmp_path / 'flickr8k'}")
    refused(tmp_path / "flikr8k" / "images", f"did you mean {tmp_path / 'flickr8k'}")
    refused(tmp_path / "zzz", "zzz: no such file or folder$")
    monkeypatch.chdir(tmp_path)
    refused(Path("flickr8"), r"flickr8: no such file or folder; did you mean flickr8k\?")
