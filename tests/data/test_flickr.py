from __future__ import annotations

from pathlib import Path

import pytest
from dataset_files import flickr, photos, refused, summary, write

from han_retrieval.data import read_dataset


def test_flickr(tmp_path: Path) -> None:
    dataset = read_dataset(flickr(tmp_path))
    assert dataset.format == "flickr"
    assert summary(dataset) == [
        ("a.jpg", "a.jpg", ["A dog .", "A dog\truns ."], "train"),
        ("c.jpg", "c.jpg", ["C"], "dev"),
        ("d.jpg", "d.jpg", ["D"], "test"),
    ]
    assert dataset.skipped == {"photo in no split list": 1}
    assert dataset.splits == {"train": 1, "dev": 1, "test": 1}


def test_flickr_as_a_file_gives_the_same(tmp_path: Path) -> None:
    folder = flickr(tmp_path)
    assert summary(read_dataset(folder / "Flickr8k.token.txt")) == summary(read_dataset(folder))


def test_flickr30k_has_no_lists_and_its_photos_beside_it(tmp_path: Path) -> None:
    photos(tmp_path / "flickr30k-images", "1.jpg")
    write(tmp_path / "flickr30k" / "results_20130124.token", "1.jpg#0\tOne\r", "1.jpg#1\tTwo\r")
    assert summary(read_dataset(tmp_path / "flickr30k")) == [("1.jpg", "1.jpg", ["One", "Two"], None)]


@pytest.mark.parametrize("first", ["image,caption", '"image","caption"', "image;caption", "image\tcaption"])
def test_kaggles_captions_txt(tmp_path: Path, first: str) -> None:
    photos(tmp_path / "Images", "a.jpg", "b.jpg")
    separator = next(each for each in ",;\t" if each in first)
    rows = ('a.jpg|"A dog , a cat ."', "a.jpg|A dog .", "b.jpg|B")
    write(tmp_path / "captions.txt", first, *(row.replace("|", separator) for row in rows))
    assert summary(read_dataset(tmp_path)) == [
        ("a.jpg", "a.jpg", ["A dog , a cat .", "A dog ."], None),
        ("b.jpg", "b.jpg", ["B"], None),
    ]


@pytest.mark.parametrize(
    ("file", "lines", "reason"),
    [
        ("Flickr8k.token.txt", ["a.jpg#0\tA", "a.jpg 1 A"], r"token\.txt, line 2: expected name\.jpg#0<TAB>caption"),
        ("Flickr_8k.devImages.txt", ["c.jpg", "nowhere.jpg"], r"devImages\.txt, line 2: 'nowhere\.jpg' has no caption"),
        (
            "Flickr_8k.devImages.txt",
            ["c.jpg", "a.jpg"],
            r"devImages\.txt, line 2: 'a\.jpg' is in another list too: .*trainI",
        ),
        ("Flickr30k.token", ["a.jpg#0\tA"], "found Flickr30k.token, Flickr8k.token.txt; give the file itself"),
        ("captions.txt", ["image,caption", "a.jpg,A"], "found Flickr8k.token.txt, captions.txt; give the file itself"),
    ],
)
def test_flickr_nearly_right(tmp_path: Path, file: str, lines: list[str], reason: str) -> None:
    write(flickr(tmp_path) / file, *lines)
    refused(tmp_path, reason)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["image,text", "a.jpg,A"], "line 1: no column caption; the columns are image, text"),
        (
            ["image,caption", "a.jpg,A", "a.jpg,B, C"],
            "line 3: 3 fields, the first line has 2; a caption",
        ),
        (["image,caption", 'a.jpg,"A'], "line 2: broken CSV"),
    ],
)
def test_kaggle_nearly_right(tmp_path: Path, lines: list[str], reason: str) -> None:
    write(tmp_path / "captions.txt", *lines)
    refused(tmp_path, reason)


def test_bytes_that_are_no_utf8_are_named_by_line(tmp_path: Path) -> None:
    (tmp_path / "results.token").write_bytes(b"a.jpg#0\tA\nb.jpg#0\t\xff\n")
    refused(tmp_path, r"results\.token, line 2: not UTF-8")
