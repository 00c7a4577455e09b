from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from dataset_files import photos, refused, summary, write, write_json

from han_retrieval.data import read_dataset


def karpathy_image(name: str, split: str, *captions: str, **more: object) -> dict[str, object]:
    return {"filename": name, "split": split, "sentences": [{"raw": caption} for caption in captions], **more}


def test_karpathy_flickr(tmp_path: Path) -> None:
    photos(tmp_path / "flickr8k-images", "a.jpg", "b.jpg")
    images = [karpathy_image("a.jpg", "train", "A1", "A2", "A3"), karpathy_image("b.jpg", "val", "B")]
    write_json(tmp_path / "dataset_flickr8k.json", {"images": images, "dataset": "flickr8k"})
    dataset = read_dataset(tmp_path)
    assert dataset.format == "karpathy"
    assert summary(dataset) == [("a.jpg", "a.jpg", ["A1", "A2", "A3"], "train"), ("b.jpg", "b.jpg", ["B"], "dev")]


def test_karpathy_coco_has_folders_ids_and_restval(tmp_path: Path) -> None:
    photos(tmp_path, "val2014/v.jpg", "images/train2014/t.jpg")
    images = [
        karpathy_image("v.jpg", "restval", "V", filepath="val2014", cocoid=42),
        karpathy_image("t.jpg", "test", "T", filepath="train2014", cocoid=7),
    ]
    file = write_json(tmp_path / "dataset_coco.json", {"images": images})
    dataset = read_dataset(file)
    assert summary(dataset) == [("42", "v.jpg", ["V"], "train"), ("7", "t.jpg", ["T"], "test")]
    assert dataset.photos[1].path == tmp_path / "images" / "train2014" / "t.jpg"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda image: image.pop("split"), r"images\[1\]: the field 'split' is missing; there are filename, sentences"),
        (lambda image: image.pop("filename"), r"images\[1\]: the field 'filename' is missing"),
        (lambda image: image.pop("sentences"), r"images\[1\]: the field 'sentences' is missing"),
        (lambda image: image.update(split="extra"), r"images\[1\]: split 'extra' is not one of"),
        (lambda image: image.update(sentences="B"), r"images\[1\]: the field 'sentences' must be a list, found 'B'"),
        (lambda image: image["sentences"].append({}), r"images\[1\]\.sentences\[1\]: the field 'raw' is missing"),
        (lambda image: image["sentences"].append("B"), r"images\[1\]\.sentences\[1\]: expected an object"),
        (lambda image: image.update(cocoid=1.5), r"images\[1\]: the field 'cocoid' must be text, found 1\.5"),
        (lambda image: image.update(filename="a.jpg"), r"images\[1\]: photo 'a\.jpg' .*was listed before"),
    ],
)
def test_karpathy_nearly_right(tmp_path: Path, spoil: Callable[[dict], object], reason: str) -> None:
    images = [karpathy_image("a.jpg", "train", "A"), karpathy_image("b.jpg", "val", "B")]
    spoil(images[1])
    refused(write_json(tmp_path / "dataset.json", {"images": images}), rf"dataset\.json, {reason}")


def test_two_karpathy_files_are_ambiguous(tmp_path: Path) -> None:
    for name in ("dataset_flickr8k.json", "dataset_coco.json"):
        write_json(tmp_path / name, {"images": [karpathy_image("a.jpg", "train", "A")]})
    refused(tmp_path, "found dataset_coco.json, dataset_flickr8k.json; give the file itself")


def test_broken_json_is_named_by_line(tmp_path: Path) -> None:
    file = write(
        tmp_path / "dataset.json", '{"images": [{"filename": "a", "split": "b",', '"sentences": [{"raw" "A"}]}]}'
    )
    refused(file, r"dataset\.json, line 2: broken JSON")


@pytest.mark.parametrize(
    ("value", "reason"), [("[" * 100_000, "nested too deeply"), ("1" * 5000, "a number in it has too many digits")]
)
def test_json_beyond_what_python_reads_is_named(tmp_path: Path, value: str, reason: str) -> None:
    refused(write(tmp_path / "a.json", '{"images": ' + value), rf"a\.json: {reason}", format="coco")
    refused(write(tmp_path / "a.jsonl", "", '{"file_name": ' + value), rf"a\.jsonl, line 2: {reason}")


def coco(folder: Path) -> None:
    for i, split in enumerate(("train", "val")):
        photos(folder, f"{split}2017/{i}.jpg")
        content = {
            "info": {},
            "images": [{"id": i, "file_name": f"{i}.jpg"}, {"id": i + 10, "file_name": f"{i + 10}.jpg"}],
            "annotations": [{"image_id": i, "id": 1, "caption": "A"}, {"image_id": i, "id": 2, "caption": " B\n"}],
        }
        write_json(folder / "annotations" / f"captions_{split}2017.json", content)


def test_coco_folder_with_a_file_a_split(tmp_path: Path) -> None:
    coco(tmp_path)
    dataset = read_dataset(tmp_path)
    assert dataset.format == "coco"
    assert summary(dataset) == [("0", "0.jpg", ["A", "B"], "train"), ("1", "1.jpg", ["A", "B"], "dev")]
    assert dataset.skipped == {"photo file missing": 2}
    assert summary(read_dataset(tmp_path / "annotations")) == summary(dataset)


def test_coco_file(tmp_path: Path) -> None:
    coco(tmp_path)
    dataset = read_dataset(tmp_path / "annotations" / "captions_val2017.json")
    assert summary(dataset) == [("1", "1.jpg", ["A", "B"], "dev")]


@pytest.mark.parametrize("first", ["images", "annotations"])
def test_a_coco_file_of_which_only_both_ends_are_looked_at(tmp_path: Path, first: str) -> None:
    lists = {
        "images": [{"file_name": f"{i:09}.jpg", "id": i} for i in range(8000)],
        "annotations": [{"image_id": i, "id": i, "caption": "A dog."} for i in range(8000)],
    }
    second = next(name for name in lists if name != first)
    file = write_json(tmp_path / "captions_val2017.json", {first: lists[first], second: lists[second]})
    assert file.stat().st_size > 600_000
    assert read_dataset(file).format == "coco"


def test_karpathy_images_that_have_an_image_id_too_are_not_taken_for_coco(tmp_path: Path) -> None:
    file = write_json(tmp_path / "dataset.json", {"images": [karpathy_image("a.jpg", "train", "A", image_id=7)]})
    assert read_dataset(file).format == "karpathy"


def test_two_coco_photos_of_one_file_are_refused(tmp_path: Path) -> None:
    for i, split in enumerate(("train", "val")):
        photos(tmp_path, f"{split}2017/1.jpg")
        content = {
            "images": [{"id": i, "file_name": "1.jpg"}],
            "annotations": [{"image_id": i, "id": 1, "caption": "A"}],
        }
        write_json(tmp_path / "annotations" / f"captions_{split}2017.json", content)
    refused(tmp_path, r"the photos '0' and '1' have the same file, .*/1\.jpg; name each file with its folder")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"images": [{"id": 1}], "annotations": []}, r"images\[0\]: the field 'file_name' is missing"),
        ({"images": [{"file_name": "a"}], "annotations": []}, r"images\[0\]: the field 'id' is missing"),
        (
            {"images": [], "annotations": [{"image_id": 3, "caption": "A"}]},
            r"annotations\[0\]: image_id 3 is not the id of one",
        ),
        (
            {"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 1, "bbox": []}]},
            r"annotations\[0\]: the field 'caption' is missing; there are image_id, bbox",
        ),
        ({"images": [], "annotations": []}, "no photo with a caption"),
    ],
)
def test_coco_nearly_right(tmp_path: Path, content: object, reason: str) -> None:
    refused(write_json(tmp_path / "captions_val2017.json", content), rf"captions_val2017\.json.*{reason}")


def test_the_same_coco_photo_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("captions_train2014.json", "captions_val2014.json"):
        write_json(tmp_path / name, {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": []})
    refused(tmp_path, r"val2014\.json, images\[0\]: photo '1' .* was listed before")


def lavis(folder: Path) -> None:
    photos(folder, "images/val2014/a.jpg", "images/val2014/b.jpg")
    write_json(
        folder / "coco_karpathy_train.json",
        [
            {"image": "val2014/a.jpg", "caption": "A1", "image_id": "coco_1"},
            {"image": "val2014/a.jpg", "caption": "A2", "image_id": "coco_1"},
        ],
    )
    write_json(folder / "coco_karpathy_val.json", [{"image": "val2014/b.jpg", "caption": ["B1", "B2"]}])


def test_lavis_folder(tmp_path: Path) -> None:
    lavis(tmp_path)
    dataset = read_dataset(tmp_path)
    assert dataset.format == "lavis"
    assert summary(dataset) == [
        ("val2014/a.jpg", "a.jpg", ["A1", "A2"], "train"),
        ("val2014/b.jpg", "b.jpg", ["B1", "B2"], "dev"),
    ]
    assert len(read_dataset(tmp_path / "coco_karpathy_val.json")) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([{"image": "a.jpg", "text": "A"}], "item 0: the field 'caption' is missing; there are image, text"),
        ([{"image": "a.jpg", "caption": "A"}, {"caption": "A"}], "item 1: the field 'image' is missing"),
        (
            [{"image": "a.jpg", "caption": 5}],
            "item 0, field 'caption': expected a caption or a list of captions, found 5",
        ),
        ([{"image": "a.jpg", "caption": "A"}, "b.jpg"], "item 1: expected an object"),
    ],
)
def test_lavis_nearly_right(tmp_path: Path, content: object, reason: str) -> None:
    refused(write_json(tmp_path / "f30k_test.json", content), rf"f30k_test\.json, {reason}")


def test_two_lavis_files_of_one_split_are_ambiguous(tmp_path: Path) -> None:
    lavis(tmp_path)
    write_json(tmp_path / "flickr30k_train.json", [{"image": "c.jpg", "caption": "C"}])
    refused(tmp_path, "coco_karpathy_train.json and flickr30k_train.json are of the same split")
