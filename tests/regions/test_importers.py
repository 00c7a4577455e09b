from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from han_retrieval.errors import HANError
from han_retrieval.regions import RegionStore, feature_format, import_features, matching_ids

M, D = 3, 5


def array(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def code(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()


def bottom_up_line(image_id: str, seed: int, m: int = M, **changed: str) -> str:
    fields = {
        "image_id": image_id,
        "image_w": "640",
        "image_h": "480",
        "num_boxes": str(m),
        "boxes": code(array(seed, m, 4)),
        "features": code(array(seed + 1, m, D)),
    }
    return "\t".join({**fields, **changed}.values())


def lxmert_line(image_id: str, seed: int, m: int = M) -> str:
    ids = np.zeros(m, dtype=np.int64)
    return "\t".join(
        [
            *(image_id, "480", "640", code(ids), code(array(seed + 2, m)), code(ids), code(array(seed + 3, m))),
            *(str(m), code(array(seed, m, 4)), code(array(seed + 1, m, D))),
        ]
    )


def scan_folder(folder, images: int = 4, *, times: int = 1, splits=("train", "dev")):
    folder.mkdir()
    for number, split in enumerate(splits):
        (folder / f"{split}_caps.txt").write_text("a caption\n" * images * 5)
        (folder / f"{split}_ids.txt").write_text("".join(f"{number * 100 + i}\n" for i in range(images)))
        np.save(folder / f"{split}_ims.npy", np.repeat(array(number, images, M, D), times, axis=0))
    return folder


def expect(out, features: dict[str, np.ndarray], *, boxes=None, size=(0, 0), scores=None) -> None:
    store = RegionStore.open(out)
    assert store.ids == list(features)
    for (photo_id, wanted), found in zip(features.items(), store.read(store.ids), strict=True):
        assert np.array_equal(found.features, wanted.astype(np.float16))
        assert (found.width, found.height) == size
        assert found.labels is None
        for part, truth in ((found.boxes, boxes), (found.scores, scores)):
            assert part is None if truth is None else np.array_equal(part, truth[photo_id])


@pytest.mark.parametrize("times", [1, 5])
def test_scan_npy_with_each_image_once_or_repeated(tmp_path, times):
    folder = scan_folder(tmp_path / "scan", times=times)
    assert feature_format(folder) == "scan-npy"
    report = import_features(folder, tmp_path / "out")
    assert (report.done, report.already_there, report.skipped) == (8, 0, [])
    train, dev = array(0, 4, M, D), array(1, 4, M, D)
    expect(tmp_path / "out", {str(i): train[i] for i in range(4)} | {str(100 + i): dev[i] for i in range(4)})
    assert RegionStore.open(tmp_path / "out").fingerprint == f"imported:scan-npy:{D}"


@pytest.mark.parametrize(("source", "split"), [(".", "dev"), ("dev_ims.npy", None), ("dev_ims.npy", "dev")])
def test_one_split_of_a_scan_folder(tmp_path, source, split):
    folder = scan_folder(tmp_path / "scan")
    import_features(folder / source, tmp_path / "out", split=split)
    expect(tmp_path / "out", {str(100 + i): array(1, 4, M, D)[i] for i in range(4)})
    assert import_features(folder, tmp_path / "out").already_there == 4
    assert len(RegionStore.open(tmp_path / "out")) == 8


def test_scan_npy_whose_rows_do_not_fit(tmp_path):
    folder = scan_folder(tmp_path / "scan", splits=("train",))
    with pytest.raises(HANError, match="no features of split 'dev'; there are train"):
        import_features(folder, tmp_path / "out", split="dev")
    np.save(folder / "train_ims.npy", array(0, 8, M, D))
    with pytest.raises(HANError, match="8 rows for 4 images, but rows 0 and 1 are of two images"):
        import_features(folder, tmp_path / "out")
    np.save(folder / "train_ims.npy", array(0, 4, D))
    with pytest.raises(HANError, match=r"expected floats, images x regions x numbers; found float32, \(4, 5\)"):
        import_features(folder, tmp_path / "out")
    np.save(folder / "train_ims.npy", array(0, 0, M, D))
    with pytest.raises(HANError, match=r"train_ims\.npy: 0 rows cannot be shared evenly by 4 images"):
        import_features(folder, tmp_path / "out")
    np.save(folder / "train_ims.npy", array(0, 4, 0, D))
    with pytest.raises(HANError, match=r"expected floats, images x regions x numbers; found float32, \(4, 0, 5\)"):
        import_features(folder, tmp_path / "out")
    with (folder / "train_ims.npy").open("wb") as file:
        np.savez(file, array(0, 4, M, D))
    with pytest.raises(HANError, match=r"train_ims\.npy: not an array that numpy can map"):
        import_features(folder, tmp_path / "out")
    np.save(folder / "train_ims.npy", np.full((4, M, D), 1e6, np.float32))
    with pytest.raises(HANError, match=r"train_ims\.npy, row 0: a feature is NaN, infinite or beyond 65504"):
        import_features(folder, tmp_path / "out")


def test_bottom_up_tsv(tmp_path):
    lines = [bottom_up_line("391895", 10, 3), bottom_up_line("60623", 20, 2)]
    (tmp_path / "karpathy_val.tsv").write_text("\n".join(lines) + "\n\n")
    assert feature_format(tmp_path / "karpathy_val.tsv") == "bottom-up-tsv"
    assert import_features(tmp_path / "karpathy_val.tsv", tmp_path / "out").done == 2
    expect(
        tmp_path / "out",
        {"391895": array(11, 3, D), "60623": array(21, 2, D)},
        boxes={"391895": array(10, 3, 4), "60623": array(20, 2, 4)},
        size=(640, 480),
    )


def test_lxmert_tsv_has_height_before_width_and_scores(tmp_path):
    (tmp_path / "val2014_obj36.tsv").write_text(lxmert_line("COCO_val2014_000000391895", 10))
    import_features(tmp_path / "val2014_obj36.tsv", tmp_path / "out")
    photo_id = "COCO_val2014_000000391895"
    expect(
        tmp_path / "out",
        {photo_id: array(11, M, D)},
        boxes={photo_id: array(10, M, 4)},
        size=(640, 480),
        scores={photo_id: array(12, M)},
    )


def test_parts_of_a_tsv_in_a_folder_and_an_image_that_stands_twice(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "train.tsv.0").write_text(bottom_up_line("1", 10) + "\n" + bottom_up_line("2", 20) + "\n")
    (folder / "train.tsv.1").write_text(bottom_up_line("2", 30) + "\n" + bottom_up_line("3", 40) + "\n")
    assert feature_format(folder) == "bottom-up-tsv"
    assert import_features(folder, tmp_path / "out").done == 3
    boxes = {"1": array(10, M, 4), "2": array(20, M, 4), "3": array(40, M, 4)}
    features = {"1": array(11, M, D), "2": array(21, M, D), "3": array(41, M, D)}
    expect(tmp_path / "out", features, boxes=boxes, size=(640, 480))


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("2\t640\t480", r"line 2: expected 6 fields between tabs \(image_id, .*\) or LXMERT's 10; found 3"),
        (bottom_up_line("2", 1, num_boxes="x"), "line 2: field num_boxes must be a number above 0 and .*, found 'x'"),
        (bottom_up_line("2", 1, num_boxes="0"), "line 2: field num_boxes must be a number above 0 and .*, found '0'"),
        (bottom_up_line("2", 1, image_w="wide"), "line 2: field image_w must be a number above 0 and .*, found 'wide'"),
        (bottom_up_line("2", 1, image_w="1" * 5000), "line 2: field image_w must be a number above 0 and below 10"),
        (bottom_up_line("2", 1, features=code(np.full((M, D), np.nan, np.float32))), "line 2: a feature is NaN"),
        (bottom_up_line("caf\udce9", 1), "line 2: the id 'caf\ufffd' is not UTF-8; rename it"),
        (bottom_up_line("2", 1, boxes="!!"), "line 2: field boxes is not base64"),
        (
            bottom_up_line("2", 1, boxes=code(array(1, 2, 4))),
            "line 2: field boxes must hold 3 x 4 x 4 = 48 bytes, found 32",
        ),
        (
            bottom_up_line("2", 1, features=code(array(1, 7))),
            "line 2: field features must hold a multiple of 3 x 4 bytes, found 28",
        ),
        (bottom_up_line("2", 1, features=""), "line 2: field features must hold a multiple of 3 x 4 bytes, found 0"),
        (
            bottom_up_line("2", 1, features=code(array(1, M, D - 1))),
            "line 2: 4 numbers a region, the first image has 5",
        ),
        (bottom_up_line("2", 1)[:-20], "line 2: field features"),
    ],
)
def test_a_tsv_line_that_is_wrong_is_named_and_those_before_it_are_kept(tmp_path, second, message):
    path = tmp_path / "features.tsv"
    path.write_text(bottom_up_line("1", 10) + "\n" + second + "\n", errors="surrogateescape")
    with pytest.raises(HANError, match=message):
        import_features(path, tmp_path / "out")
    assert RegionStore.open(tmp_path / "out").ids == ["1"]
    path.write_text(bottom_up_line("1", 10) + "\n" + bottom_up_line("2", 20) + "\n")
    report = import_features(path, tmp_path / "out")
    assert (report.done, report.already_there) == (1, 1)


def save_npz(path, seed: int, *, m: int = M, rows: int = M, transposed: bool = False, **changed) -> None:
    x = array(seed + 1, rows, D)
    fields = {
        "x": x.T if transposed else x,
        "bbox": array(seed, rows, 4),
        "num_bbox": m,
        "image_h": 480,
        "image_w": 640,
        "info": np.array({"a": "pickle"}, dtype=object),
    }
    np.savez_compressed(path, **{name: value for name, value in (fields | changed).items() if value is not None})


def test_a_table_beside_photos_is_no_features(tmp_path):
    (tmp_path / "labels.tsv").write_text("\t".join("abcdef") + "\n")
    assert feature_format(tmp_path) == "bottom-up-tsv"
    (tmp_path / "a.JPG").touch()
    assert feature_format(tmp_path) is None


def test_npz_folder(tmp_path):
    folder = tmp_path / "npz"
    folder.mkdir()
    save_npz(folder / "100.npz", 10)
    save_npz(folder / "200.npz", 20, m=2)  # padded
    save_npz(folder / "300.npz", 30, transposed=True)
    assert feature_format(folder) == "bottom-up-npz"
    assert import_features(folder, tmp_path / "out").done == 3
    features = {"100": array(11, M, D), "200": array(21, M, D)[:2], "300": array(31, M, D)}
    boxes = {"100": array(10, M, 4), "200": array(20, M, 4)[:2], "300": array(30, M, 4)}
    expect(tmp_path / "out", features, boxes=boxes, size=(640, 480))


def test_npz_files_that_are_wrong_are_named(tmp_path):
    path = tmp_path / "1.npz"
    path.write_bytes(b"no zip")
    with pytest.raises(HANError, match=r"1\.npz: not an \.npz file that can be read"):
        import_features(tmp_path, tmp_path / "out")
    save_npz(path, 1, bbox=None)
    with pytest.raises(HANError, match="lacks bbox; it has x, num_bbox"):
        import_features(tmp_path, tmp_path / "out")
    save_npz(path, 1, m=4)
    with pytest.raises(HANError, match=r"for num_bbox = 4 expected x of \(4, D\) and bbox of \(4, 4\)"):
        import_features(tmp_path, tmp_path / "out")
    save_npz(path, 1, x=np.array([None, {}]))
    with pytest.raises(HANError, match=r"not an \.npz file that can be read"):
        import_features(tmp_path, tmp_path / "out")
    for name, value in (("num_bbox", [2, 3]), ("num_bbox", -1), ("image_h", "high"), ("image_w", np.nan)):
        save_npz(path, 1, **{name: value})
        with pytest.raises(HANError, match=rf"1\.npz: {name} must be one number above 0"):
            import_features(tmp_path, tmp_path / "out")
    save_npz(path, 1, x=np.array([["a"] * D] * M))
    with pytest.raises(HANError, match=r"expected x of \(3, D\) .*, numbers; found <U1 \(3, 5\)"):
        import_features(tmp_path, tmp_path / "out")
    with path.open("wb") as file:
        np.save(file, array(1, M, D))
    with pytest.raises(HANError, match=r"1\.npz: not an \.npz file that can be read"):
        import_features(tmp_path, tmp_path / "out")


def test_ids_of_a_dataset_name_the_photos(tmp_path):
    path = tmp_path / "coco.tsv"
    path.write_text("\n".join(bottom_up_line(name, 10 + i) for i, name in enumerate(["391895", "60623", "5"])))
    ids = ["COCO_val2014_000000060623.jpg", "COCO_val2014_000000391895.jpg", "COCO_val2014_000000000015.jpg"]
    report = import_features(path, tmp_path / "out", ids=ids)
    assert (report.done, report.unmatched) == (2, 1)
    store = RegionStore.open(tmp_path / "out")
    assert store.ids == [ids[1], ids[0]]
    assert np.array_equal(store.read([ids[0]])[0].features, array(12, M, D).astype(np.float16))
    with pytest.raises(HANError, match="its ids, such as '391895', match none of the dataset's"):
        import_features(path, tmp_path / "other", ids=["a.jpg"])
    with pytest.raises(HANError, match="match none of the dataset's"):  # in a store that has others too
        import_features(path, tmp_path / "out", ids=["a.jpg"])
    assert import_features(path, tmp_path / "out", ids=ids).already_there == 2


def test_matching_ids():
    find = matching_ids(["1000092795.jpg", "COCO_val2014_000000391895.jpg", "17", "a/7.jpg", "b/7.jpg", "x12.jpg"])
    assert find("17") == "17"
    assert find("1000092795") == "1000092795.jpg"
    assert find("COCO_val2014_000000391895") == "COCO_val2014_000000391895.jpg"
    assert find("391895") == "COCO_val2014_000000391895.jpg"
    assert find("000000391895.jpg") == "COCO_val2014_000000391895.jpg"
    assert find("7") is None  # two photos could be meant
    assert find("b/7.jpg") == "b/7.jpg"
    assert find("12") is None
    assert find("99") is None


def test_one_name_for_what_made_them_joins_formats(tmp_path):
    (tmp_path / "a.tsv").write_text(bottom_up_line("1", 10))
    folder = tmp_path / "npz"
    folder.mkdir()
    save_npz(folder / "2.npz", 20)
    import_features(tmp_path / "a.tsv", tmp_path / "out", made_by="vg-resnet101")
    assert import_features(folder, tmp_path / "out", made_by="vg-resnet101").done == 1
    assert RegionStore.open(tmp_path / "out").fingerprint == f"imported:vg-resnet101:{D}"
    with pytest.raises(HANError, match="imported:vg-resnet101:5', not by 'imported:bottom-up-npz:5'"):
        import_features(folder, tmp_path / "out")


def test_what_holds_no_features(tmp_path):
    with pytest.raises(HANError, match="no such file or folder"):
        import_features(tmp_path / "none", tmp_path / "out")
    (tmp_path / "captions.tsv").write_text("photo.jpg#0\ta caption\n")
    assert feature_format(tmp_path / "captions.tsv") is None
    assert feature_format(tmp_path) is None
    assert feature_format(tmp_path / "none") is None
    assert feature_format(tmp_path / "none.tsv") is None
    (tmp_path / "folder.tsv.d").mkdir()
    assert feature_format(tmp_path) is None
    with pytest.raises(HANError, match="no features in a format that is known here: scan-npy, bottom-up-tsv"):
        import_features(tmp_path, tmp_path / "out")
    with pytest.raises(HANError, match="unknown feature format 'x'; known are scan-npy"):
        import_features(tmp_path, tmp_path / "out", format="x")
    (tmp_path / "empty.tsv").touch()
    with pytest.raises(HANError, match="there is no image in it"):
        import_features(tmp_path / "empty.tsv", tmp_path / "out", format="bottom-up-tsv")
    (tmp_path / "a.tsv").write_text(bottom_up_line("1", 10))
    with pytest.raises(HANError, match="these files know no splits"):
        import_features(tmp_path / "a.tsv", tmp_path / "out", split="dev")
    assert not (tmp_path / "out").exists()


def test_features_that_may_not_be_read_are_named(tmp_path, monkeypatch):
    path = tmp_path / "a.tsv"
    path.write_text(bottom_up_line("1", 10))

    def locked(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", locked)
    with pytest.raises(HANError, match=r"a\.tsv: cannot be read \(Permission denied\)"):
        feature_format(path)
    with pytest.raises(HANError, match=r"a\.tsv: cannot be read \(Permission denied\)"):
        import_features(path, tmp_path / "out", format="bottom-up-tsv")
    monkeypatch.setattr(Path, "iterdir", locked)
    with pytest.raises(HANError, match=r"cannot be read \(Permission denied\)"):
        feature_format(tmp_path)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path):
    pytest.importorskip("resource")

    def peak(images: int) -> float:
        folder = tmp_path / f"scan{images}"
        folder.mkdir()
        (folder / "train_caps.txt").write_text("a caption\n" * images * 5)
        (folder / "train_ids.txt").write_text("".join(f"{i}\n" for i in range(images)))
        rows = np.lib.format.open_memmap(folder / "train_ims.npy", "w+", np.float32, (images, 36, 2048))
        assert rows.nbytes == images * 36 * 2048 * 4  # sparse: zeros that take no room
        program = (
            "import sys, resource; from han_retrieval.regions import import_features\n"
            "assert import_features(sys.argv[1], sys.argv[2]).done == int(sys.argv[3])\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        command = [sys.executable, "-c", program, str(folder), str(tmp_path / f"out{images}"), str(images)]
        return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout) / 1024

    assert peak(2800) - peak(700) < 150  # MB; the files are 825 and 206
