"""Datasets through the library ``datasets``: folders, sets that were saved, streamed ones, and what goes wrong."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from dataset_files import refused
from hub_server import HubServer, run_with_hub
from packed_files import image, jpeg, write_parquet, write_shard

from han_retrieval.data import CaptionedPhotos, hub_datasets, read_dataset

datasets = pytest.importorskip("datasets")

KINDS = ("jpg", "json")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def told(dataset: CaptionedPhotos) -> list[tuple[str, list[str], str | None]]:
    return [(photo.id, list(photo.captions), photo.split) for photo in dataset.photos]


def contents(dataset: CaptionedPhotos) -> list[bytes]:
    return [photo.packed.read().content for photo in dataset.photos if photo.packed]


def copy(folder: Path) -> Path:
    """A folder as a set of the Hub is: Parquet files of two splits."""
    for split, first, count in (("train", 0, 6), ("validation", 6, 2)):
        numbers = range(first, first + count)
        columns = {
            "image": [image(i, f"{i}.jpg") for i in numbers],
            **{f"caption_{k}": [f"{k}"] * count for k in (0, 1)},
        }
        write_parquet(folder / f"data/{split}-00000-of-00001.parquet", columns)
    return folder


@pytest.mark.parametrize("room", [True, False])
def test_a_set_is_read_from_the_cache_or_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: bool) -> None:
    monkeypatch.setattr(hub_datasets, "_has_room", lambda builder: room)
    folder = copy(tmp_path / "copy")
    dataset = read_dataset(f"hf:{folder}")
    assert dataset.format == "hf"
    assert dataset.splits == {"train": 6, "dev": 2}
    assert told(dataset)[-1] == ("7.jpg", ["0", "1"], "dev")
    assert contents(dataset) == [jpeg(i) for i in range(8)]
    first = dataset.photos[0].packed
    assert first is not None
    assert first.read().content == jpeg(0)  # once more, behind what was read last
    assert str(first) == f"hf:{folder}:train, row 0"
    one = read_dataset(f"hf:{folder}:validation")
    assert told(one) == told(dataset)[-2:]
    refused(Path(f"hf:{folder}:none"), f"hf:{folder}:none: .*none")


def test_a_set_that_was_saved_and_shards_are_read(tmp_path: Path) -> None:
    rows = {"image": [image(i) for i in range(3)], "caption": [["a", "b"]] * 3, "filename": ["1.jpg", "2.jpg", "3.jpg"]}
    features = {"image": datasets.Image(), "caption": datasets.List(datasets.Value("string"))}
    saved = datasets.Dataset.from_dict(
        rows, features=datasets.Features({**features, "filename": datasets.Value("string")})
    )
    datasets.DatasetDict({"test": saved}).save_to_disk(tmp_path / "saved")
    dataset = read_dataset(f"hf:{tmp_path / 'saved'}")
    assert told(dataset)[0] == ("1.jpg", ["a", "b"], "test")
    assert contents(dataset) == [jpeg(i) for i in range(3)]
    refused(Path(f"hf:{tmp_path / 'saved'}:dev"), "no split 'dev'; there are test")
    (tmp_path / "saved").rename(tmp_path / "of:me@home")
    assert read_dataset(f"hf:{tmp_path / 'of:me@home'}:test").photos[0].split == "test"
    (tmp_path / "of:me@home").rename(tmp_path / "saved")
    write_shard(
        tmp_path / "wds/test/test-00000.tar",
        {
            f"{i}.{kind}": jpeg(i) if kind == "jpg" else {"captions": ["a"], "cocoid": i}
            for i in (4, 5)
            for kind in ("jpg", "json")
        },
    )
    dataset = read_dataset(f"hf:{tmp_path / 'wds'}")
    assert told(dataset) == [("4", ["a"], "test"), ("5", ["a"], "test")]
    assert contents(dataset) == [jpeg(4), jpeg(5)]


def test_a_shard_s_keys_are_ids_where_no_two_photos_have_the_same(tmp_path: Path) -> None:
    def shard(name: str, *numbers: int) -> None:
        members = {f"{i}.{kind}": jpeg(i) if kind == "jpg" else {"caption": f"a{i}"} for i in numbers for kind in KINDS}
        write_shard(tmp_path / f"wds/{name}", members)

    shard("train-00000.tar", 4, 5)
    assert told(read_dataset(f"hf:{tmp_path / 'wds'}")) == [("4", ["a4"], "train"), ("5", ["a5"], "train")]
    shard("train-00001.tar", 5)
    dataset = read_dataset(f"hf:{tmp_path / 'wds'}")
    assert told(dataset) == [(f"train/{i}", [f"a{n}"], "train") for i, n in enumerate((4, 5, 5))]
    assert contents(dataset) == [jpeg(4), jpeg(5), jpeg(5)]


@pytest.mark.parametrize(
    ("download", "tables", "files", "free", "room"),
    [
        (60, 40, [], 100, True),
        (60, 40, [], 99, False),
        (60, None, [], 60, True),
        (None, None, [50, 25], 75, True),  # of this machine: nothing is downloaded
        (None, None, [50, 25], 74, False),
        (None, 10, [50], 10, True),
        (None, None, [], 10**9, False),
        (None, None, [None], 10**9, False),
    ],
)
def test_a_set_has_room_where_its_size_is_known_and_less_than_what_is_free(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    download: int | None,
    tables: int | None,
    files: list[int | None],
    free: int,
    room: bool,
) -> None:
    paths = []
    for number, size in enumerate(files):
        paths.append(tmp_path / f"{number}.parquet")
        if size is not None:
            paths[-1].write_bytes(bytes(size))
    builder = SimpleNamespace(
        cache_dir=str(tmp_path / "cache/set"),
        info=SimpleNamespace(download_size=download, dataset_size=tables),
        config=SimpleNamespace(data_files={"train": [str(path) for path in paths]} if paths else None),
    )
    monkeypatch.setattr(hub_datasets.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    assert hub_datasets._has_room(builder) is room
    (tmp_path / "cache/set").mkdir(parents=True)
    assert hub_datasets._has_room(builder)


def test_a_set_that_is_downloaded_needs_room_for_its_files_and_its_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    with fsspec.open("memory://set/train.parquet", "wb") as file:
        file.write(bytes(50))
    builder = SimpleNamespace(
        cache_dir=str(tmp_path / "cache"),
        info=SimpleNamespace(download_size=None, dataset_size=None),
        config=SimpleNamespace(data_files={"train": ["memory://set/train.parquet"]}),
    )
    for free, room in ((100, True), (99, False)):
        monkeypatch.setattr(hub_datasets.shutil, "disk_usage", lambda folder, free=free: SimpleNamespace(free=free))
        assert hub_datasets._has_room(builder) is room


def test_what_cannot_be_had_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(Path("hf:"), r"expected hf:NAME\[:SPLIT\]")
    write_parquet(tmp_path / "labels/train.parquet", {"image": [image(0)], "label": [1]})
    refused(Path(f"hf:{tmp_path / 'labels'}"), "labels:train: no column with captions")
    write_parquet(tmp_path / "cut/train.parquet", {"image": [image(0)], "caption": ["a"]})
    file = tmp_path / "cut/train.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    refused(Path(f"hf:{tmp_path / 'cut'}"), "cut: the library datasets cannot read it")

    def failing(error: Exception):
        def load(*_: object, **__: object) -> None:
            raise error

        return load

    told = "Dataset 'user/closed' is a gated dataset on the Hub. You must be authenticated to access it."
    for error, reason in (
        (
            datasets.exceptions.DatasetNotFoundError("Dataset 'user/none' doesn't exist on the Hub"),
            "no such folder, and the Hub has none of that name",
        ),
        (
            datasets.exceptions.DatasetNotFoundError(told),
            "its owner lets only some people in: accept its terms on its page .* `hf auth login`",
        ),
        (ConnectionError("Couldn't reach 'user/none' on the Hub (ConnectError)"), "the Hub cannot be reached"),
    ):
        monkeypatch.setattr(datasets, "load_dataset_builder", failing(error))
        refused(Path("hf:user/none"), f"hf:user/none: .*{reason}")


def test_without_the_library_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    refused(Path("hf:user/name"), r"pip install 'han-retrieval\[datasets\]'")


def test_sets_of_the_hub_are_read_by_the_real_client(tmp_path: Path) -> None:
    server = HubServer()
    try:
        server.serve("user/set", copy(tmp_path / "copy"))
        for name, status in (("gated", (403, "GatedRepo")), ("shut", (403, ""))):
            server.serve(f"user/{name}", tmp_path / "copy").status = status
        code = (
            "from han_retrieval.data import read_dataset\n"
            "dataset = read_dataset('hf:user/set:validation')\n"
            "print([(p.id, p.captions, p.split, len(p.packed.read().content)) for p in dataset.photos])\n"
            "for name in ('none', 'gated', 'shut', 'set@none'):\n"
            "    try: read_dataset(f'hf:user/{name}')\n"
            "    except han.HANError as error: print(error)\n"
        )
        result = run_with_hub(code, tmp_path, server.endpoint, HF_DATASETS_DISABLE_PROGRESS_BARS="1")
    finally:
        server.close()
    found, none, gated, shut, revision = result.stdout.splitlines()
    assert found == str([(f"{i}.jpg", ("0", "1"), "dev", len(jpeg(i))) for i in (6, 7)]), result.stderr
    assert none.startswith("hf:user/none: no such folder, and the Hub has none of that name, or it is private"), (
        result.stderr
    )
    assert gated.startswith("hf:user/gated: its owner lets only some people in: accept its terms")
    assert shut.startswith("hf:user/shut: the Hub cannot be reached or does not give it")
    assert "revision" in revision


@pytest.mark.slow  # the client waits between its tries
def test_a_set_without_a_network_is_one_line(tmp_path: Path) -> None:
    code = "from han_retrieval.data import read_dataset\ntry: read_dataset('hf:user/away')\n"
    gone = run_with_hub(f"{code}except han.HANError as error: print(error)", tmp_path, "http://127.0.0.1:9")
    told = "the Hub cannot be reached or does not give it, and it is not in the cache: read it once with a network"
    assert (gone.stdout, gone.stderr) == (f"hf:user/away: {told}\n", "")
