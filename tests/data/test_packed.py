"""Photos inside larger files: Parquet, WebDataset shards, Lance tables, benchmark tables."""

from __future__ import annotations

import pickle
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from dataset_files import refused, write_json
from packed_files import image, jpeg, write_benchmark, write_lance, write_parquet, write_shard

from han_retrieval.data import CaptionedPhotos, open_photo, read_dataset, with_splits_of
from han_retrieval.errors import DataError


def told(dataset: CaptionedPhotos) -> list[tuple[str, list[str], str | None]]:
    """Id, captions and split of each photo, none of which has a file."""
    assert not any(photo.path for photo in dataset.photos)
    return [(photo.id, list(photo.captions), photo.split) for photo in dataset.photos]


def contents(dataset: CaptionedPhotos) -> list[bytes]:
    return [photo.packed.read().content for photo in dataset.photos if photo.packed]


@pytest.mark.parametrize(
    ("columns", "captions"),
    [
        ({"caption": ["a", "b"]}, [["a"], ["b"]]),
        ({"text": ["a", None]}, [["a"]]),
        ({"caption": [["a", "b"], ["c"]]}, [["a", "b"], ["c"]]),
        ({"captions": [["a", "b"], ["c", " "]], "caption": ["a", "c"]}, [["a", "b"], ["c"]]),
        ({f"caption_{i}": [f"a{i}", f"b{i}"] for i in (10, 2, 0)}, [["a0", "a2", "a10"], ["b0", "b2", "b10"]]),
        ({"sentences": [[{"raw": "a", "sentid": 1}], [{"raw": "b", "sentid": 2}]]}, [["a"], ["b"]]),
        ({"sentences": [{"raw": ["a", "b"], "sentid": [1, 2]}, {"raw": ["c"], "sentid": [3]}]}, [["a", "b"], ["c"]]),
        ({"json": [{"captions": ["a"], "cocoid": 5}, {"captions": ["b"], "cocoid": 6}]}, [["a"], ["b"]]),
        ({"json": [{"caption": "a"}, {"caption": "b"}], "image_id": [5, 6]}, [["a"], ["b"]]),
    ],
)
@pytest.mark.parametrize("name", ["image", "jpg"])
def test_captions_of_parquet_are_found_in_all_their_forms(
    tmp_path: Path, columns: dict[str, Any], captions: list[list[str]], name: str
) -> None:
    photos = [image(i) for i in range(2)] if name == "image" else [jpeg(i) for i in range(2)]
    file = write_parquet(tmp_path / "train-00000-of-00001.parquet", {**columns, name: photos})
    dataset = read_dataset(file)
    assert dataset.format == "parquet"
    assert [list(photo.captions) for photo in dataset.photos] == captions
    assert contents(dataset) == [jpeg(i) for i in range(len(captions))]
    assert dataset.splits == {"train": len(captions)}


def test_a_folder_of_parquet_shards_has_the_splits_of_its_files(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data/train-00000-of-00002.parquet", {"image": [image(0)], "caption": ["a"]})
    write_parquet(tmp_path / "data/train-00001-of-00002.parquet", {"image": [image(1)], "caption": ["b"]})
    write_parquet(tmp_path / "data/validation-00000-of-00001.parquet", {"image": [image(2)], "caption": ["c"]})
    dataset = read_dataset(tmp_path)
    assert told(dataset) == [
        ("data/train-00000-of-00002/0", ["a"], "train"),
        ("data/train-00001-of-00002/0", ["b"], "train"),
        ("data/validation-00000-of-00001/0", ["c"], "dev"),
    ]
    assert contents(dataset) == [jpeg(i) for i in range(3)]
    write_parquet(tmp_path / "hub/test/0000.parquet", {"image": [image(0)], "caption": ["a"]})
    assert read_dataset(tmp_path / "hub").splits == {"test": 1}


def test_ids_and_splits_come_from_their_columns(tmp_path: Path) -> None:
    columns = {
        "image": [image(i, "x.jpg") for i in range(3)],
        "caption": ["a", "b", "c"],
        "filename": ["1.jpg", "2.jpg", "1.jpg"],
        "split": ["restval", "val", "train"],
    }
    dataset = read_dataset(write_parquet(tmp_path / "test.parquet", columns))
    assert told(dataset) == [("1.jpg", ["a", "c"], "train"), ("2.jpg", ["b"], "dev")]
    del columns["filename"]
    refused(write_parquet(tmp_path / "test.parquet", columns), r"row 1: photo id 'x.jpg' occurs twice; ids must be")
    columns |= {"caption": [["a"], ["b", "c"], ["d", "e"]]}
    del columns["split"]
    dataset = read_dataset(write_parquet(tmp_path / "test.parquet", columns))
    assert told(dataset)[:2] == [("test/0", ["a"], "test"), ("test/1", ["b", "c"], "test")]
    assert contents(dataset) == [jpeg(i) for i in range(3)]
    columns |= {"filename": ["1.jpg", "2.jpg", "1.jpg"], "caption": [["a"], ["b"], ["c"]]}
    refused(write_parquet(tmp_path / "test.parquet", columns), r"row 2: photo id '1.jpg' occurs twice; ids must be")
    columns |= {"filename": ["1.jpg", "", "3.jpg"]}
    refused(write_parquet(tmp_path / "test.parquet", columns), "row 1: the column 'filename', which is .* is empty")
    columns |= {"filename": ["1.jpg", "2.jpg", "3.jpg"], "split": ["train", "x", "dev"]}
    refused(write_parquet(tmp_path / "test.parquet", columns), "row 1: split 'x' is not one of train, dev, test")


def test_photos_of_parquet_are_read_in_any_order_and_from_several_threads(tmp_path: Path) -> None:
    columns = {"image": [image(i) for i in range(30)], "caption": ["a"] * 30}
    dataset = read_dataset(write_parquet(tmp_path / "a.parquet", columns, rows_a_group=7))
    order = [*range(30), *random.Random(0).sample(range(30), 30)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: dataset.photos[i].packed.read().content, order))  # type: ignore[union-attr]
    assert found == [jpeg(i) for i in order]
    photo = dataset.photos[3].packed
    assert photo is not None
    assert open_photo(photo.read()).size == (24, 16)


def test_packed_photos_are_read_from_any_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of a cluster has another than the command."""
    write_parquet(tmp_path / "a.parquet", {"image": [image(0)], "caption": ["a"]})
    write_shard(tmp_path / "b.tar", {"0.jpg": jpeg(0), "0.txt": b"a"})
    flickr30k_lance(tmp_path / "c")
    monkeypatch.chdir(tmp_path)
    found = [read_dataset(source).photos[0].packed for source in ("a.parquet", "b.tar", "c")]
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    for packed in pickle.loads(pickle.dumps(found)):
        assert open_photo(packed.read()).size == (24, 16)


def test_a_parquet_file_that_is_gone_is_named(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet", {"image": [image(0)], "caption": ["a"]})
    (photo,) = read_dataset(file).photos
    file.unlink()
    assert photo.packed is not None
    with pytest.raises(DataError, match=r"^\S*a.parquet, row 0: cannot be read \(No such file or directory\)$"):
        photo.packed.read()


def test_what_a_parquet_file_lacks_is_named(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "a.parquet", {"link": ["x"], "caption": ["a"]})
    refused(
        file, r"a.parquet: no column with the bytes of images; the columns are link \(string\), caption \(string\); put"
    )
    file = write_parquet(tmp_path / "a.parquet", {"image": [image(0)], "label": [1]})
    refused(
        file, r"a.parquet: no column with captions, .*; the columns are image \(struct.*\), label \(int64\); rename"
    )
    write_parquet(tmp_path / "a.parquet", {"image": [image(0)], "caption": [""]})
    refused(file, r"no photo with a caption in it \(empty caption: 1, photo without captions: 1\)")
    whole = write_parquet(tmp_path / "a.parquet", {"image": [image(0)], "caption": ["a"]}).read_bytes()
    for length in (0, 3, 100, len(whole) - 1):
        file.write_bytes(whole[:length])
        refused(file, "a.parquet: a Parquet file that is cut off or damaged .*copy it again")
    refused(tmp_path, "cut off or damaged")


def test_a_photo_without_bytes_says_so_when_it_is_read(tmp_path: Path) -> None:
    columns = {"image": [image(0), {"bytes": None, "path": "/b.jpg"}], "caption": ["a", "b"]}
    first, second = read_dataset(write_parquet(tmp_path / "a.parquet", columns)).photos
    assert first.packed is not None
    assert second.packed is not None
    with pytest.raises(
        DataError,
        match=r"^\S+, row 1: has no bytes, only the path /b.jpg; write the photos themselves into that column$",
    ):
        second.packed.read()
    file = tmp_path / "a.parquet"
    content = bytearray(file.read_bytes())
    content[30:400] = bytes(370)
    first = read_dataset(file).photos[0]
    file.write_bytes(content)
    assert first.packed is not None
    with pytest.raises(DataError, match=r"a.parquet, row 0: "):
        open_photo(first.packed.read())


def test_shards_are_read_by_key(tmp_path: Path) -> None:
    write_shard(tmp_path / "train/train-00000.tar", {"0.jpg": jpeg(0), "0.json": {"captions": ["a", "b"], "cocoid": 7}})
    write_shard(
        tmp_path / "val/val-00000.tar",
        [("x/1.txt", "École\nb\n".encode()), ("x/1.png", jpeg(1, kind="PNG")), ("2.cls", b"3"), ("2.caption", b"c")],
    )
    dataset = read_dataset(tmp_path)
    assert dataset.format == "webdataset"
    assert told(dataset) == [("7", ["a", "b"], "train"), ("val/val-00000/x/1", ["École", "b"], "dev")]
    assert contents(dataset) == [jpeg(0), jpeg(1, kind="PNG")]
    assert dataset.skipped == {"captions without a photo in a shard": 1}


def test_a_caption_that_two_members_have_counts_once(tmp_path: Path) -> None:
    record = {"caption": "a dog ", "key": "0", "url": "http://a/0.jpg"}  # as img2dataset writes it
    members = [("0.jpg", jpeg(0)), ("0.txt", b"a dog"), ("0.json", record), ("1.jpg", jpeg(1)), ("1.txt", b"b\nb\n")]
    dataset = read_dataset(write_shard(tmp_path / "train-0.tar", [*members, ("1.json", {"captions": ["b", "c"]})]))
    assert told(dataset) == [("train-0/0", ["a dog"], "train"), ("train-0/1", ["b", "b", "c"], "train")]


def test_broken_and_duplicate_members_of_shards_are_counted_and_named(tmp_path: Path) -> None:
    file = write_shard(
        tmp_path / "train-0.tar",
        [
            *(("0.jpg", jpeg(0)), ("0.txt", b"a"), ("0.jpg", jpeg(9)), ("1.jpg", jpeg(1)), ("1.json", b"{")),
            *(("2.jpg", jpeg(2)), ("2.txt", b"\xff"), ("3.jpg", b"no photo"), ("3.txt", b"d")),
        ],
    )
    dataset = read_dataset(file)
    assert told(dataset) == [("train-0/0", ["a"], "train"), ("train-0/3", ["d"], "train")]
    assert contents(dataset)[0] == jpeg(0)
    broken, duplicate = (f"{kind} member of a shard, such as {file}" for kind in ("broken", "duplicate"))
    counts = {reason: count for reason, count in dataset.skipped.items() if "such as" in reason}
    assert list(counts.values()) == [1, 2]
    assert any(reason.startswith(f"{duplicate}, 0.jpg") for reason in counts)
    assert any(reason.startswith(f"{broken}, 1.json (Expecting") for reason in counts)


def test_shards_that_are_cut_or_no_tar_files_are_refused(tmp_path: Path) -> None:
    file = write_shard(tmp_path / "train-0.tar", {f"{i}.{kind}": jpeg(i) for i in range(2) for kind in ("jpg", "txt")})
    whole = file.read_bytes()
    for length in (3000, 512 * 3, len(whole) - 10240):
        file.write_bytes(whole[:length])
        refused(file, r"train-0.tar: (the shard is cut off or damaged after|not a tar file that can be read)")
    file.write_bytes(b"\x1f\x8b" + bytes(3000))
    refused(file, "not a tar file that can be read .*unpack one that is compressed")
    same = {"0.jpg": jpeg(0), "0.json": {"caption": "a", "image_id": 1}}
    write_shard(file, {**same, **{name.replace("0", "1"): content for name, content in same.items()}})
    refused(file, "train-0.tar, 1: photo id '1' occurs twice; ids must be unique")


def flickr30k_lance(folder: Path) -> Path:
    """As ``lance-format/flickr30k-lance``."""
    columns = {
        "id": [0, 1, 2],
        "image": pa.array([jpeg(i) for i in range(3)], pa.large_binary()),
        "image_id": ["0", "1", "2"],
        "filename": ["1000092795.jpg", "10002456.jpg", "3.jpg"],
        "captions": [["a", "b"], ["c", "d"], ["e"]],
        "caption": ["a", "c", "e"],
        "image_emb": pa.array([[0.5, 0.5]] * 3, pa.list_(pa.float32(), 2)),
    }
    write_lance(folder / "data/train.lance", columns)
    return folder


def test_a_lance_table_is_joined_with_karpathy_s_splits(tmp_path: Path) -> None:
    dataset = read_dataset(flickr30k_lance(tmp_path / "copy"))
    assert dataset.format == "lance"
    assert told(dataset)[:2] == [("1000092795.jpg", ["a", "b"], "train"), ("10002456.jpg", ["c", "d"], "train")]
    assert contents(dataset) == [jpeg(i) for i in range(3)]
    assert read_dataset(tmp_path / "copy/data/train.lance").photos[0].id == "1000092795.jpg"
    listed = [
        {"filename": f"{name}.jpg", "split": split, "sentences": [{"raw": "x"}]}
        for name, split in (("10002456", "test"), ("1000092795", "val"), ("9", "train"))
    ]
    splits = write_json(tmp_path / "dataset_flickr30k.json", {"images": listed})
    joined = with_splits_of(dataset, splits)
    assert told(joined) == [
        ("1000092795.jpg", ["a", "b"], "dev"),
        ("10002456.jpg", ["c", "d"], "test"),
        ("3.jpg", ["e"], None),
    ]
    assert joined.skipped == {f"photo in no split of {splits}, such as 3.jpg": 1}
    listed = [{"filename": "8.jpg", "split": "test", "sentences": [{"raw": "x"}]}]
    with pytest.raises(DataError, match=r"none of its photos is in .*'1000092795.jpg' there, and '8.jpg' in the list"):
        with_splits_of(dataset, write_json(splits, {"images": listed}))


def test_photos_of_coco_are_joined_by_their_number(tmp_path: Path) -> None:
    names = ["COCO_val2014_000000391895.jpg", "train2014/000000000025.jpg", "7"]
    columns = {"image": [image(i) for i in range(3)], "caption": [["a"]] * 3, "filename": names}
    dataset = read_dataset(write_parquet(tmp_path / "a.parquet", columns))
    listed = [
        {
            "filename": f"COCO_{i:012d}.jpg",
            "filepath": "val2014",
            "cocoid": i,
            "split": split,
            "sentences": [{"raw": "x"}],
        }
        for i, split in ((391895, "test"), (25, "restval"), (7, "val"))
    ]
    joined = with_splits_of(dataset, write_json(tmp_path / "dataset_coco.json", {"images": listed}))
    assert [photo.split for photo in joined.photos] == ["test", "train", "dev"]


def test_ids_that_fit_one_photo_of_the_list_are_refused(tmp_path: Path) -> None:
    columns = {"image": [image(0), image(1)], "caption": ["a", "b"]}  # without an id, rows are numbered
    for number in range(2):
        write_parquet(tmp_path / f"parts/part-{number}.parquet", columns)
    listed = [{"filename": "1.jpg", "split": "test", "sentences": [{"raw": "x"}]}]
    with pytest.raises(DataError, match="'part-0/1' and 'part-1/1' both fit '1'"):
        with_splits_of(read_dataset(tmp_path / "parts"), write_json(tmp_path / "splits.json", {"images": listed}))
    listed = [
        {"filename": f"part-{number}/1", "split": "test", "sentences": [{"raw": "x"}]} for number in range(2)
    ]  # as they are
    joined = with_splits_of(read_dataset(tmp_path / "parts"), write_json(tmp_path / "exact.json", {"images": listed}))
    assert {photo.id for photo in joined.photos if photo.split == "test"} == {"part-0/1", "part-1/1"}


def test_a_damaged_lance_table_is_one_line(tmp_path: Path) -> None:
    table = flickr30k_lance(tmp_path) / "data/train.lance"
    for file in table.glob("_versions/*"):
        file.write_bytes(b"x" * 40)
    refused(tmp_path, "train.lance: cannot be read as a Lance table")


def test_the_tables_of_a_benchmark_may_lie_side_by_side(tmp_path: Path) -> None:
    write_benchmark(tmp_path / "folders")
    for file in (tmp_path / "folders").rglob("*.parquet"):
        file.rename(tmp_path / f"{file.parent.name}.parquet")
    shutil.rmtree(tmp_path / "folders")
    assert read_dataset(tmp_path).format == "benchmark"


def test_the_three_tables_of_a_benchmark_are_joined(tmp_path: Path) -> None:
    dataset = read_dataset(write_benchmark(tmp_path))
    assert dataset.format == "benchmark"
    assert told(dataset) == [(f"q{i}", [f"caption {2 * i}", f"caption {2 * i + 1}"], "test") for i in range(3)]
    assert contents(dataset) == [jpeg(i) for i in range(3)]
    (tmp_path / "corpus/corpus-00000-of-00001.parquet").unlink()
    refused(tmp_path, "there is no corpus")
