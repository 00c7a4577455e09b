"""The benchmark of frozen tokens: what it runs, what it skips, and what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from drawn_photos import ColourDetector, write_drawn_photos
from tiny_language_models import tiny_language_model

import frozen
from han_retrieval.data import read_dataset
from han_retrieval.errors import ConfigError
from han_retrieval.regions import extract
from research.study import settings as study_settings

WANTED = ["--seeds", 1]
for label in ("HAN", "MaxSim", "pooled, zero-shot"):
    WANTED += ["--only", label]
SMALL = ["batch_size=8", "min_count=1", "model.word_size=8", "model.joint_size=16"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frozen")
    write_drawn_photos(folder / "photos", train=16, dev=8)
    extract(read_dataset(folder / "photos"), ColourDetector(), folder / "features")
    return folder


@pytest.fixture(autouse=True)
def no_vectors(monkeypatch) -> None:
    monkeypatch.setitem(study_settings.BASE, "word_vectors", None)


def run(folder: Path, out: Path, *arguments: object, words: str = "bigru", code: int = 0) -> dict:
    given = [folder / "photos", "--detector", "colours:x/y", "--words", words, "--features", folder / "features"]
    given += ["--epochs", 1, "--out", out, *(part for each in SMALL for part in ("--set", each)), *arguments]
    result = CliRunner().invoke(frozen.main, [str(argument) for argument in given], catch_exceptions=False)
    assert result.exit_code == code, result.output
    (file,) = out.glob("*.json")
    return json.loads(file.read_text())


def test_systems_are_run_once_and_written_side_by_side(folder: Path, tmp_path: Path, monkeypatch) -> None:
    wanted = [*WANTED, "--zero-shot", "--note", "its captions were drawn"]
    found = run(folder, tmp_path, *wanted, code=1)
    assert [row["system"] for row in found["systems"]] == ["HAN", "MaxSim"]
    assert all(len(row["rsum"]) == 1 for row in found["systems"])
    assert found["systems"][0]["against_first"] is None
    assert 0 < found["systems"][1]["against_first"]["p"] <= 1
    assert any("pooled, zero-shot is left out: the text encoder bigru has no" in note for note in found["notes"])
    (file,) = tmp_path.glob("photos,colours-x-y,bigru,batch_size=8,*.md")
    document = file.read_text()
    assert "- Changed for all: batch_size=8, min_count=1, " in document
    assert document.startswith("## photos: detector colours:x/y, words bigru\n\n| | image to text R@1/5/10 ")
    assert "nDCG@10 text to image | a step, s |" in document
    assert "1 epoch in batches of 8" in document
    assert "- its captions were drawn" in document
    rows = [line.split(" | ") for line in document.splitlines() if line.startswith(("| HAN", "| MaxSim"))]
    assert all(len(row) == len(rows[0]) for row in rows)
    assert [row[8] != "" for row in rows] == [True, True]  # pointing, of entities.jsonl
    monkeypatch.setattr("research.study.runs.train", None)  # what is done is not trained again
    done = ["--seeds", 1, "--only", "HAN", "--only", "MaxSim"]
    assert run(folder, tmp_path, *done)["systems"] == found["systems"]


def test_text_encoders_are_held_against_each_other(folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("han_retrieval.text.frozen.cache_folder", lambda: tmp_path / "cache")
    words = f"hf:{tiny_language_model(tmp_path / 'tiny')}"
    wanted = ["--compare", "words", "--seeds", 1]
    for label in ("Bi-GRU from GloVe", f"{words}, linear map, phrases"):
        wanted += ["--only", label]
    found = run(folder, tmp_path / "out", *wanted, words=words)
    assert [row["system"] for row in found["systems"]] == ["Bi-GRU from GloVe", f"{words}, linear map, phrases"]
    assert all(record["grounding"]["pointing"]["model"] > 0 for record in found["runs"])


def test_towers_of_two_models_are_not_compared_without_training() -> None:
    def untrained(detector: str, words: str, zero_shot: bool | None = None) -> list[str]:
        found = frozen.systems(detector, words, {}, zero_shot=zero_shot)
        return [setting.label for setting in found if "zero-shot" in setting.label]

    assert untrained("bottom-up", "minilm") == untrained("hf:a/b", "hf:a/c") == []
    assert untrained("grid+hf:a/b", "hf:a/b@v1") == ["pooled, zero-shot"]  # tokens are of two spaces
    assert untrained("timm:x", "hf:a/b", zero_shot=True) == ["pooled, zero-shot"]
    assert untrained("hf:a/b", "hf:a/b", zero_shot=False) == []


@pytest.mark.parametrize("phrases", [True, False])
def test_every_system_is_another_configuration(phrases: bool) -> None:
    encoders = frozen.text_encoders("minilm", {"epochs": 5}, pretrained_text=Path("/texts"), phrases=phrases)
    systems = frozen.systems("hf:a/b@proj", "hf:a/b@proj", {"epochs": 5}, zero_shot=None)
    assert [setting.label for setting in systems[-2:]] == ["MaxSim, zero-shot", "pooled, zero-shot"]
    for settings in (systems, encoders):
        configs = [setting.config(seed=0) for setting in settings]
        assert all(configs.index(config) == place for place, config in enumerate(configs))
        assert {config.epochs for config in configs} == {5}
        assert len({setting.name for setting in settings}) == len(settings)
        assert len({setting.label for setting in settings}) == len(settings)
    assert len(encoders) == (14 if phrases else 7)


def test_a_system_that_is_not_there_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--only SCAM: no system; there are 'HAN', 'HAN without attention'"):
        run(folder, tmp_path, "--only", "SCAM")
