from __future__ import annotations

import json
from pathlib import Path

import pytest
from dataset_files import photos, refused, summary, write

from han_retrieval.data import read_dataset
from han_retrieval.errors import DataError


def test_metadata_jsonl(tmp_path: Path) -> None:
    photos(tmp_path, "a.png", "sub/b.png", "train/c.png")
    rows = [
        {"file_name": "a.png", "caption": "A"},
        {"file_name": "./sub/b.png", "captions": ["B1", "B2"], "split": "valid"},
        {"file_name": "a.png", "caption": "A too"},
        {"file_name": "train/c.png", "text": "C"},
    ]
    write(tmp_path / "metadata.jsonl", *(json.dumps(row) for row in rows), "")
    dataset = read_dataset(tmp_path)
    assert dataset.format == "metadata"
    assert summary(dataset) == [
        ("a.png", "a.png", ["A", "A too"], None),
        ("sub/b.png", "b.png", ["B1", "B2"], "dev"),
        ("train/c.png", "c.png", ["C"], "train"),
    ]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_metadata_csv(tmp_path: Path, separator: str) -> None:
    photos(tmp_path, "a.png", "b.png", "c.png", "d.png")
    rows = [
        "file_name|note|captions",
        'a.png|x|"one, two; three"',
        'b.png|y|"[""B1, b"", ""B2 👍""]"',
        "c.png|z|\"['C']\"",
        """d.png|z|"['A dog runs, '\n ""It's brown."" 'D']\"""",  # an array, as pandas writes it
    ]
    write(tmp_path / "metadata.csv", *("\ufeff" * (i == 0) + row.replace("|", separator) for i, row in enumerate(rows)))
    assert summary(read_dataset(tmp_path)) == [
        ("a.png", "a.png", ["one, two; three"], None),
        ("b.png", "b.png", ["B1, b", "B2 👍"], None),
        ("c.png", "c.png", ["C"], None),
        ("d.png", "d.png", ["A dog runs,", "It's brown.", "D"], None),
    ]


def test_imagefolder_with_a_table_a_split(tmp_path: Path) -> None:
    for name, caption in (("train", "T"), ("validation", "V"), ("test", "E")):
        photos(tmp_path, f"{name}/0.png")
        write(tmp_path / name / "metadata.csv", "file_name,caption", f"0.png,{caption}")
    dataset = read_dataset(tmp_path)
    assert summary(dataset) == [
        ("test/0.png", "0.png", ["E"], "test"),
        ("train/0.png", "0.png", ["T"], "train"),
        ("validation/0.png", "0.png", ["V"], "dev"),
    ]
    assert [p.path for p in dataset.photos] == [tmp_path / p.id for p in dataset.photos]


def test_a_csv_of_any_name(tmp_path: Path) -> None:
    photos(tmp_path, "a.png")
    file = write(tmp_path / "mine.csv", "image,caption", "a.png,A")
    assert summary(read_dataset(file)) == [("a.png", "a.png", ["A"], None)]


def test_captions_csv_is_read_as_well(tmp_path):
    photos(tmp_path, "a.png", "b.png")
    (tmp_path / "captions.csv").write_text("file,caption\na.png,a dog\nb.png,a cat\n")
    dataset = read_dataset(tmp_path)
    assert dataset.format == "metadata"
    assert [photo.captions for photo in dataset.photos] == [("a dog",), ("a cat",)]
    (tmp_path / "metadata.csv").write_text("file_name,caption\na.png,a dog\n")
    with pytest.raises(DataError, match=r"metadata\.csv and captions\.csv are both there"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["file_name,title", "a.png,A"], "line 1: no column caption or captions or text; .* are file_name, title"),
        (["name,caption", "a.png,A"], "line 1: no column file_name or image or file; the columns are name, caption"),
        (
            ["file_name,caption", "a.png,A, B"],
            "line 2: 3 fields, the first line has 2; a caption",
        ),
        (["file_name,caption", "a.png,A", "", "b.png"], "line 4: 1 fields, the first line has 2"),
        (["file_name,caption,caption", "a.png,A,B"], "line 1: two columns 'caption'; give each value a row of its own"),
        (["file_name,caption", ",A"], "line 2: the file name is empty"),
        (["file_name,caption,split", "a.png,A,third"], "line 2: split 'third' is not one of train, dev, test"),
        (["file_name,captions", "a.png,[A"], "line 2, captions: expected a JSON list of captions"),
        (["file_name,captions", 'a.png,"[1, 2]"'], r"line 2, captions: expected .*found \[1, 2\]"),
        (["file_name,captions", "a.png," + "[" * 100_000], "line 2, captions: expected a JSON list of captions"),
        (["file_name,caption", 'a.png,"A'], "line 2: broken CSV"),
        ([], "the file is empty"),
    ],
)
def test_metadata_csv_nearly_right(tmp_path: Path, lines: list[str], reason: str) -> None:
    photos(tmp_path, "a.png", "b.png")
    write(tmp_path / "metadata.csv", *lines)
    refused(tmp_path, rf"metadata\.csv.*{reason}")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"file_name": "a.png", "caption" "A"}', "line 2: broken JSON"),
        ('{"file_name": "a.png"}', "line 2: the field 'caption' is missing; there are file_name"),
        ('{"caption": "A"}', "line 2: the field 'file_name' is missing"),
        (
            '{"file_name": "a.png", "caption": null}',
            "line 2, caption: expected a caption or a list of captions, found None",
        ),
        ('{"file_name": 3, "caption": "A"}', "line 2: the field 'file_name' must be text, found 3"),
        ('["a.png", "A"]', "line 2: expected an object"),
    ],
)
def test_metadata_jsonl_nearly_right(tmp_path: Path, line: str, reason: str) -> None:
    write(tmp_path / "metadata.jsonl", '{"file_name": "a.png", "caption": "A"}', line)
    refused(tmp_path, rf"metadata\.jsonl, {reason}")


def test_two_metadata_tables_are_ambiguous(tmp_path: Path) -> None:
    write(tmp_path / "metadata.csv", "file_name,caption", "a.png,A")
    write(tmp_path / "metadata.jsonl", '{"file_name": "a.png", "caption": "A"}')
    refused(tmp_path, "both there")


def test_a_table_never_takes_a_photo_of_the_same_name_elsewhere(tmp_path: Path) -> None:
    photos(tmp_path, "test/0.png", "0.png")
    write(tmp_path / "metadata.csv", "file_name,caption", "train/0.png,A", "test/0.png,B")
    dataset = read_dataset(tmp_path)
    assert summary(dataset) == [("test/0.png", "0.png", ["B"], "test")]
    assert dataset.skipped == {"photo file missing": 1}


def test_names_with_the_backslashes_of_windows_are_found(tmp_path: Path) -> None:
    photos(tmp_path, "a.png", "sub/b.png")
    write(tmp_path / "captions.csv", "file,caption", ".\\a.png,A", "sub\\b.png,B")
    assert [photo.path for photo in read_dataset(tmp_path).photos] == [tmp_path / "a.png", tmp_path / "sub/b.png"]
