from __future__ import annotations

import base64
import importlib
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from dataset_files import write_json
from packed_files import image, write_parquet
from PIL import Image

from han_retrieval.cli.extract import extract
from han_retrieval.data import read_dataset
from han_retrieval.errors import HANError
from han_retrieval.regions import Regions, RegionStore

# The command has the name of its module, so only the import system still finds the module.
MODULE = importlib.import_module("han_retrieval.cli.extract")


class MeanColour:
    """As many equal regions as asked for, each the whole photo, its feature the mean colour."""

    feature_size = 3

    def __init__(self, name: str, regions: int) -> None:
        self.fingerprint = f"{name}:{regions}"
        self.count = regions

    def detect(self, photos):
        return [
            Regions(
                features=np.tile(np.asarray(photo).mean((0, 1)).astype(np.float16), (self.count, 1)),
                boxes=np.array([[0, 0, *photo.size]] * self.count, dtype=np.float32),
                width=photo.width,
                height=photo.height,
            )
            for photo in photos
        ]


@pytest.fixture(autouse=True)
def _detectors(monkeypatch):
    monkeypatch.setattr(MODULE, "load_detector", lambda name, *, regions: MeanColour(name, regions))


def test_photos_in_parquet_are_extracted_in_the_splits_of_a_list(tmp_path):
    columns = {
        "image": [image(i) for i in range(3)],
        "captions": [["a"]] * 3,
        "filename": [f"{i}.jpg" for i in range(3)],
    }
    source = write_parquet(tmp_path / "train.parquet", columns)
    images = [{"filename": f"{i}.jpg", "split": "test", "sentences": [{"raw": "a"}]} for i in (0, 2)]
    splits = write_json(tmp_path / "dataset_x.json", {"images": images})
    for given in (source, f"hf:{source.parent}"):
        args = [given, "--out", tmp_path / "out", "--splits", splits, "--split", "test"]
        result = CliRunner().invoke(extract, [str(each) for each in args])
        assert result.exit_code == 0, result.output
        assert "photo in no split of" in result.stderr
        assert list(RegionStore.open(tmp_path / "out").ids) == ["0.jpg", "2.jpg"]
    with pytest.raises(HANError, match=r"no photo is in split 'dev'; splits there: test \(2\)"):
        CliRunner().invoke(
            extract, [str(source), "--out", str(tmp_path / "x"), "--splits", str(splits), "--split", "dev"],
            catch_exceptions=False,
        )  # fmt: skip


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(4):
        Image.new("RGB", (20, 10), (i * 10, 0, 0)).save(folder / f"{i}.png")
    return folder


def han_extract(*arguments):
    return CliRunner().invoke(extract, [str(argument) for argument in arguments])


def test_photos_to_a_store_with_one_line_on_stdout(photos, tmp_path):
    result = han_extract(photos, "--out", tmp_path / "out", "--regions", 5)
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    assert line.startswith(f"{tmp_path / 'out'}: 4 photos, 5 regions a photo, 3 numbers a region; 4 added in ")
    assert line.endswith("0 there before, 0 skipped")
    assert "4/4" in result.stderr
    store = RegionStore.open(tmp_path / "out")
    assert store.fingerprint == "bottom-up:5"
    assert store.batch(["3.png"]).features.tolist() == [[[30.0, 0.0, 0.0]] * 5]


def test_json_and_what_was_skipped(photos, tmp_path):
    (photos / "text.jpg").write_text("no photo")
    result = han_extract(photos, "--out", tmp_path / "out", "--json")
    report = json.loads(result.stdout)
    assert (report["done"], report["already_there"], report["photos"]) == (4, 0, 4)
    assert report["fingerprint"] == "bottom-up:36"
    assert (report["feature_size"], report["regions_mean"]) == (3, 36.0)
    assert [each["photo"] for each in report["skipped"]] == [str(photos / "text.jpg")]
    assert "photos skipped: 1, all listed in" in result.stderr
    assert f"{photos / 'text.jpg'}: not an image" in result.stderr
    again = json.loads(han_extract(photos, "--out", tmp_path / "out", "--json").stdout)
    assert (again["done"], again["already_there"], len(again["skipped"])) == (0, 4, 1)


def test_mirrored_photos_go_to_a_store_of_their_own(photos, tmp_path):
    for out, flags in (("features", ()), ("mirrored", ("--horizontal-flip",))):
        result = CliRunner().invoke(extract, [str(photos), "--out", str(tmp_path / out), *flags])
        assert result.exit_code == 0
    own, mirrored = (RegionStore.open(tmp_path / name) for name in ("features", "mirrored"))
    assert mirrored.fingerprint == f"{own.fingerprint}-mirrored"
    assert mirrored.ids == own.ids
    result = CliRunner().invoke(extract, [str(photos), "--out", str(tmp_path / "features"), "--horizontal-flip"])
    assert isinstance(result.exception, HANError)
    assert "do not mix" in str(result.exception)


def test_one_split_of_a_dataset(photos, tmp_path):
    (photos / "metadata.jsonl").write_text(
        "".join(
            json.dumps({"file_name": f"{i}.png", "caption": "red", "split": "dev" if i else "train"}) + "\n"
            for i in range(4)
        )
    )
    result = han_extract(photos, "--out", tmp_path / "out", "--split", "dev")
    assert result.exit_code == 0, result.output
    assert RegionStore.open(tmp_path / "out").ids == ["1.png", "2.png", "3.png"]


def test_features_are_imported_under_the_ids_of_a_dataset(photos, tmp_path):
    features, boxes = np.ones((2, 3), np.float32), np.ones((2, 4), np.float32)
    encoded = [base64.b64encode(values.tobytes()).decode() for values in (boxes, features)]
    (tmp_path / "features.tsv").write_text("\n".join("\t".join([str(i), "20", "10", "2", *encoded]) for i in (1, 2, 7)))
    result = han_extract(tmp_path / "features.tsv", "--out", tmp_path / "out", "--ids", photos, "--detector", "resnet")
    assert result.exit_code == 0, result.output
    store = RegionStore.open(tmp_path / "out")
    assert store.ids == ["1.png", "2.png"]
    assert store.fingerprint == "imported:resnet:3"
    assert "2 photos, 2 regions a photo, 3 numbers a region; 2 added" in result.stdout
    assert f"note: images left out because {photos} has no such id: 1\n" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "none: no such file or folder"),
        (["none.tsv"], "none.tsv: no such file or folder"),
        (["photos", "--format", "nonsense"], "no dataset format is called 'nonsense'"),
        (["photos", "--split", "test"], "no photo is in split 'test'"),
        (["empty"], "empty: the folder is empty"),
        (["photos", "--ids", "photos"], "--ids is for features"),
        (["photos", "--format", "bottom-up-npz", "--horizontal-flip"], "--horizontal-flip is for photos"),
        (["photos", "--format", "bottom-up-npz", "--splits", "x.json"], "--splits is for photos"),
        (["photos", "--format", "bottom-up-npz", "--regions", "24"], "--regions is for photos"),
    ],
)
def test_what_the_user_can_mend_is_said(photos, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    result = han_extract(*arguments, "--out", "out")
    assert isinstance(result.exception, HANError)
    with pytest.raises(HANError, match=message):
        raise result.exception
    assert not (tmp_path / "out").exists()


def test_an_interrupt_ends_with_one_line_that_says_how_to_go_on(photos, tmp_path, monkeypatch):
    class Interrupted(MeanColour):
        calls = 0

        def detect(self, batch):
            self.calls += 1
            if self.calls == 2:
                raise KeyboardInterrupt
            return super().detect(batch)

    with monkeypatch.context() as patch:
        patch.setattr(MODULE, "load_detector", lambda name, *, regions: Interrupted(name, regions))
        result = han_extract(photos, "--out", tmp_path / "out", "--batch-size", 2)
    assert result.exit_code == 130
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1] == (
        f"stopped; what was done is kept in {tmp_path / 'out'}; the same command goes on from there"
    )
    assert RegionStore.open(tmp_path / "out").ids == ["0.png", "1.png"]
    assert "2 added" in han_extract(photos, "--out", tmp_path / "out").stdout


def test_a_dataset_without_splits_has_those_of_every_verb(photos, tmp_path):
    counts = {}
    for split in ("train", "dev"):
        result = han_extract(photos, "--split", split, "--out", tmp_path / split)
        assert result.exit_code == 0, result.output
        assert "has no splits; by a hash of the photos' ids they become" in result.stderr
        counts[split] = len(RegionStore.open(tmp_path / split))
    assert counts == read_dataset(photos).divided().splits


def test_a_preview_is_a_picture_and_a_table_and_no_store(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = han_extract("--preview", photos / "3.png", "--regions", 2, "--out", "seen.png")
    assert result.exit_code == 0, result.output
    assert [" ".join(line.split()) for line in result.stdout.splitlines()[1:]] == ["0 0 0 20 10", "1 0 0 20 10"]
    assert result.stderr == "wrote seen.png (bottom-up:2)\n"
    assert max(Image.open("seen.png").size) > 500
    report = json.loads(han_extract("--preview", photos / "3.png", "--detector", "other", "--json").stdout)
    assert report["detector"] == "other:36"
    assert report["picture"] == "3-regions.png"
    assert (report["width"], report["height"], len(report["regions"])) == (20, 10, 36)
    assert report["regions"][1] == {"region": 1, "label": None, "score": None, "box": [0.0, 0.0, 20.0, 10.0]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3-regions.png", "photos", "seen.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "SOURCE is missing: .* --preview PHOTO"),
        (["photos"], "--out is missing"),
        (["photos", "--preview", "photos/3.png"], "photos/3.png alone; leave SOURCE .photos. out"),
        (["--preview", "photos/3.png", "--split", "dev"], "leave --split .dev. out"),
        (["--preview", "photos/3.png", "--out", "photos/3.png"], "would overwrite the photo"),
        (["--preview", "photos/3.png", "--out", "features"], "features: the picture cannot be written .* regions.png"),
        (["--preview", "photos/3.png", "--out", "x.psd"], "no format that can be written ends in '.psd'"),
        (["--preview", "photos/3.png", "--out", "none/x.png"], "none/x.png: the picture cannot be written"),
        (["--preview", "none.png"], "none.png: no such photo"),
    ],
)
def test_what_a_preview_cannot_be_made_of_is_said(photos, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    before = (photos / "3.png").read_bytes()
    result = han_extract(*arguments)
    with pytest.raises(HANError, match=message):
        raise result.exception
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
    assert (photos / "3.png").read_bytes() == before


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no process sends Ctrl-C to another there")
def test_ctrl_c_in_a_real_process(photos, tmp_path):
    program = textwrap.dedent(
        """
        import importlib, sys, time
        module = importlib.import_module("han_retrieval.cli.extract")
        from test_cli_extract import MeanColour

        class Slow(MeanColour):
            calls = 0

            def detect(self, batch):
                print("detecting", flush=True)
                self.calls += 1
                time.sleep(30 if self.calls == 2 else 0)  # which the signal ends
                return super().detect(batch)

        module.load_detector = lambda name, *, regions: Slow(name, regions)
        module.extract(sys.argv[1:])
        """
    )
    command = [sys.executable, "-c", program, str(photos), "--out", str(tmp_path / "out"), "--batch-size", "1"]
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(here.parent / "helpers")])}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        for _ in range(2):
            assert process.stdout.readline() == "detecting\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("stopped; what was done is kept in")
    assert len(RegionStore.open(tmp_path / "out")) == 1
    assert "3 added" in han_extract(photos, "--out", tmp_path / "out").stdout
