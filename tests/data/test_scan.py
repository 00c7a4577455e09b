from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from han_retrieval.data import read_dataset, scan_image_ids, scan_splits
from han_retrieval.errors import HANError


def write_split(
    folder: Path, split: str, *, images: int, each: int = 5, repeats: int | None = 1, ids: list[str] | None = None
) -> None:
    """Captions "split image k"; rows repeated so many times, none for None; an ids file where ids are given."""
    folder.mkdir(parents=True, exist_ok=True)
    captions = [f"{split} {image} {k}" for image in range(images) for k in range(each)]
    (folder / f"{split}_caps.txt").write_text("\n".join(captions) + "\n")
    if repeats is not None:
        rows = np.random.default_rng(0).random((images, 3, 4), np.float32).repeat(repeats, axis=0)
        np.save(folder / f"{split}_ims.npy", rows)
    if ids is not None:
        (folder / f"{split}_ids.txt").write_text("\n".join(ids) + "\n")


def test_a_folder_of_three_splits(tmp_path: Path) -> None:
    write_split(tmp_path, "train", images=3, repeats=5, ids=["7", "8", "9"])
    write_split(tmp_path, "dev", images=2, ids=["5", "6"])
    write_split(tmp_path, "test", images=2, repeats=None, ids=["1", "2"])
    dataset = read_dataset(tmp_path)
    assert dataset.format == "scan"
    assert [photo.id for photo in dataset.photos] == ["7", "8", "9", "5", "6", "1", "2"]
    assert dataset.splits == {"train": 3, "dev": 2, "test": 2}
    assert dataset.photos[1].captions == tuple(f"train 1 {k}" for k in range(5))
    assert all(photo.path is None for photo in dataset.photos)
    assert [photo.id for photo in read_dataset(tmp_path / "dev_caps.txt").photos] == ["5", "6"]


# Any ratio of captions to images, any way of writing ids, rows once or repeated: the same images come out.
@settings(deadline=None)
@given(
    images=st.integers(1, 6),
    each=st.integers(1, 6),
    rows=st.sampled_from(["none", "one an image", "repeated"]),
    ids=st.sampled_from(["one an image", "repeated", "one a caption", "none"]),
)
def test_every_way_of_counting_gives_the_same_images(
    tmp_path_factory: pytest.TempPathFactory, images: int, each: int, rows: str, ids: str
) -> None:
    if rows == "none" and ids in ("none", "one a caption"):
        return  # nothing says how many images there are
    if rows == "repeated" and images == 1:
        return
    names = [str(100 + image) for image in range(images)]
    written = {
        "one an image": names,
        "repeated": [name for name in names for _ in range(each)],
        "one a caption": [str(1000 + caption) for caption in range(images * each)],
        "none": None,
    }[ids]
    expected = {
        "one an image": names,
        "repeated": names,
        "one a caption": [str(1000 + image * each) for image in range(images)],
        "none": [f"train/{image}" for image in range(images)],
    }[ids]
    folder = tmp_path_factory.mktemp("scan")
    repeats = {"none": None, "one an image": 1, "repeated": each}[rows]
    write_split(folder, "train", images=images, each=each, repeats=repeats, ids=written)
    assert scan_image_ids(folder, "train") == expected
    dataset = read_dataset(folder)
    assert [photo.id for photo in dataset.photos] == expected
    assert [photo.captions for photo in dataset.photos] == [
        tuple(f"train {image} {k}" for k in range(each)) for image in range(images)
    ]


def test_ids_that_two_splits_share_are_told_apart(tmp_path: Path) -> None:
    write_split(tmp_path, "train", images=2, ids=["0", "1"])
    write_split(tmp_path, "dev", images=1, ids=["0"])
    assert scan_image_ids(tmp_path, "train") == ["train/0", "train/1"]
    assert scan_image_ids(tmp_path, "dev") == ["dev/0"]
    assert [photo.id for photo in read_dataset(tmp_path).photos] == ["train/0", "train/1", "dev/0"]


def test_testall_takes_the_place_of_test(tmp_path: Path) -> None:
    write_split(tmp_path, "test", images=1, ids=["4"])
    write_split(tmp_path, "testall", images=2, ids=["4", "5"])
    write_split(tmp_path, "extra", images=1, ids=["4"])
    assert scan_splits(tmp_path) == ["testall"]
    dataset = read_dataset(tmp_path)
    assert [photo.id for photo in dataset.photos] == ["4", "5"]
    assert dataset.splits == {"test": 2}
    assert [photo.id for photo in read_dataset(tmp_path / "test_caps.txt").photos] == ["4"]


def test_an_empty_caption_keeps_the_others_in_their_place(tmp_path: Path) -> None:
    write_split(tmp_path, "train", images=2, each=2, ids=["a", "b"])
    (tmp_path / "train_caps.txt").write_text("\none\n\n\n")
    dataset = read_dataset(tmp_path)
    assert [(photo.id, photo.captions) for photo in dataset.photos] == [("a", ("one",))]
    assert dataset.skipped == {"empty caption": 3, "photo without captions": 1}


def test_rows_of_two_equal_images_are_not_taken_for_one(tmp_path: Path) -> None:
    write_split(tmp_path, "train", images=4, each=1, repeats=None)
    rows = np.arange(4, dtype=np.float32).repeat(6).reshape(4, 2, 3)
    rows[1] = rows[0]
    np.save(tmp_path / "train_ims.npy", rows)
    assert len(scan_image_ids(tmp_path, "train")) == 4


@pytest.mark.parametrize(
    ("captions", "ids", "rows", "reason"),
    [
        (10, ["a", "b", "c"], 3, r"train_caps\.txt: 10 captions cannot be shared evenly by 3 images"),
        (10, ["a", "b"], 3, r"train_ims\.npy: 3 rows cannot be shared evenly by 2 images"),
        (10, None, 3, r"10 captions cannot be shared evenly by 3 images"),
        (10, ["a", "b"], 0, r"train_ims\.npy: 0 rows cannot be shared evenly by 2 images"),
        (10, None, 0, r"10 captions cannot be shared evenly by 0 images"),
        (10, None, None, r"train_ids\.txt or train_ims\.npy must be beside it"),
        (0, ["a"], 1, r"train_caps\.txt: the file is empty"),
        (10, ["a", " ", "b"], None, r"train_ids\.txt, line 2: expected an image id"),
        (10, ["a", "a", "b"], None, r"train_ids\.txt: ids repeat"),
        (4, ["a", "b", "a", "b"], None, r"train_ids\.txt: ids repeat"),
        (10, [], None, "10 captions cannot be shared evenly by 0 images"),
    ],
)
def test_what_does_not_come_out_even_is_refused(
    tmp_path: Path, captions: int, ids: list[str] | None, rows: int | None, reason: str
) -> None:
    (tmp_path / "train_caps.txt").write_text("a caption\n" * captions)
    if ids is not None:
        (tmp_path / "train_ids.txt").write_text("".join(f"{photo_id}\n" for photo_id in ids))
    if rows is not None:
        np.save(tmp_path / "train_ims.npy", np.random.default_rng(0).random((rows, 2, 3), np.float32))
    with pytest.raises(HANError, match=reason):
        read_dataset(tmp_path)


@pytest.mark.parametrize("content", [b"not an array", b"", b"\x93NUMPY\x01\x00", b"PK\x03\x04no zip"])
def test_a_broken_array_is_named(tmp_path: Path, content: bytes) -> None:
    write_split(tmp_path, "train", images=1, ids=["a"])
    (tmp_path / "train_ims.npy").write_bytes(content)
    with pytest.raises(HANError, match=r"train_ims\.npy: not an array"):
        read_dataset(tmp_path)


def test_an_archive_in_the_place_of_an_array_is_named(tmp_path: Path) -> None:
    write_split(tmp_path, "train", images=1, ids=["a"])
    with (tmp_path / "train_ims.npy").open("wb") as file:
        np.savez(file, np.zeros((1, 2, 3)))
    with pytest.raises(HANError, match=r"train_ims\.npy: not an array that numpy can map"):
        read_dataset(tmp_path)


def test_an_array_of_one_dimension_is_refused(tmp_path: Path) -> None:
    write_split(tmp_path, "train", images=1, ids=["a"])
    np.save(tmp_path / "train_ims.npy", np.zeros(5))
    with pytest.raises(HANError, match=r"found shape \(5,\)"):
        read_dataset(tmp_path)


def test_vse_infinity_adds_photos_to_the_same_ids(tmp_path: Path) -> None:
    write_split(tmp_path / "precomp", "train", images=2, ids=["17", "3"])
    write_split(tmp_path / "precomp", "dev", images=1, ids=["5"])
    (tmp_path / "flickr30k-images").mkdir()
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (2, 2)).save(tmp_path / "flickr30k-images" / name)
    (tmp_path / "id_mapping.json").write_text(
        json.dumps({"3": "b.jpg", "17": "a.jpg", "5": "missing.jpg", "6": "x.jpg"})
    )
    dataset = read_dataset(tmp_path)
    assert dataset.format == "vse-infinity"
    assert [(photo.id, photo.path and photo.path.name, photo.split) for photo in dataset.photos] == [
        ("17", "a.jpg", "train"),
        ("3", "b.jpg", "train"),
    ]
    assert dataset.skipped == {"photo file missing": 1}
    assert [photo.id for photo in dataset.photos] == scan_image_ids(tmp_path / "precomp", "train")
    assert read_dataset(tmp_path / "id_mapping.json").photos == dataset.photos


def test_vse_infinity_nearly_right(tmp_path: Path) -> None:
    write_split(tmp_path / "precomp", "train", images=1, ids=["17"])
    with pytest.raises(HANError, match=r"id_mapping\.json: the file is missing; .*give .*precomp"):
        read_dataset(tmp_path)
    (tmp_path / "id_mapping.json").write_text('{"18": "a.jpg"}')
    with pytest.raises(HANError, match=r"id_mapping\.json: the field '17' is missing"):
        read_dataset(tmp_path)
