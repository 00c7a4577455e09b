"""The analyses run on a small dataset and print what they are for."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from drawn_photos import write_drawn_photos

from han_retrieval.data import read_dataset
from han_retrieval.errors import HANError
from han_retrieval.evaluation import evaluate
from han_retrieval.matchers import HAN, HANConfig
from han_retrieval.matchers.saving import folder_hash
from han_retrieval.regions import RegionStore, extract, load_detector
from han_retrieval.search.calibration import calibrate
from han_retrieval.text import Vocabulary


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos with captions, their regions, and an untrained HAN."""
    folder = tmp_path_factory.mktemp("programs")
    write_drawn_photos(folder / "photos", train=12, dev=30)
    dataset, detector = read_dataset(folder / "photos"), load_detector("grid", regions=4)
    extract(dataset, detector, folder / "features")
    vocabulary = Vocabulary.from_sentences(c for photo in dataset.split("train").photos for c in photo.captions)
    torch.manual_seed(0)
    config = HANConfig(
        region_size=detector.feature_size, vocabulary_size=len(vocabulary), word_size=8, joint_size=16,
        detector_fingerprint=detector.fingerprint,
    )  # fmt: skip
    HAN(config, vocabulary=vocabulary).save_pretrained(folder / "model")
    return folder


def run(folder: Path, program: str, *arguments: object, models: int = 1) -> str:
    main = importlib.import_module(f"research.{program}").main
    given = [*[folder / "model"] * models, folder / "photos", "--features", folder / "features", *arguments]
    result = CliRunner().invoke(main, [str(argument) for argument in given], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_attention(folder: Path, tmp_path: Path) -> None:
    printed = run(folder, "attention", "--captions", 12, "--pictures", tmp_path)
    assert "| words to regions closed |" in printed
    assert list(tmp_path.glob("*.png"))


def test_rare_words(folder: Path) -> None:
    printed = run(folder, "rare_words", "--least", 2, "--most", 30)
    assert all(f"| {way} | " in printed for way in ("learned", "predicted", "unknown"))


def test_near_duplicates(folder: Path, tmp_path: Path) -> None:
    printed = run(folder, "near_duplicates", "--copies", 2, "--picture", tmp_path / "pairs.png")
    assert '"different photos"' in printed
    assert (tmp_path / "pairs.png").is_file()


def test_ensemble(folder: Path) -> None:
    printed = run(folder, "ensemble", models=2)
    one, both = (line.split("|")[2:] for line in printed.splitlines()[2:4])
    assert one == both
    assert len(one[0].split("/")) == 3
    assert "rsum of all against the first: +0.0 (+0.0 to +0.0), p = 1.0000" in printed


def test_token_storage(folder: Path) -> None:
    printed = run(folder, "token_storage")
    assert [line.split()[0] for line in printed.splitlines()[1:]] == ["float32", "float16", "bfloat16", "int8"]


def test_calibration(folder: Path) -> None:
    with pytest.raises(HANError, match="not calibrated"):
        run(folder, "calibration")
    model = HAN.from_pretrained(folder / "model")
    found = evaluate(model, read_dataset(folder / "photos").split("dev"), RegionStore.open(folder / "features"))
    found.scores[found.relevance.caption_image, np.arange(found.scores.shape[1])] += 0.5  # as if it were trained
    fitted = calibrate(found.scores, found.relevance, model=folder_hash(folder / "model"), split="dev")
    fitted.write(folder / "model")
    lines = run(folder, "calibration").splitlines()
    assert [line.split()[1] for line in lines[2:]] == ["25", "50", "100", "300", "30"]
    answered = run(folder, "refusals", "--sentences", 20).splitlines()
    assert [len(line.split("|")) for line in answered] == [4] * 6  # one size: there are few photos
    assert answered[-1].startswith("| sentences in six other languages | 0.0 |")
    main = importlib.import_module("research.reliability").main
    result = CliRunner().invoke(main, [str(folder / "model"), str(folder / "reliability.png")], catch_exceptions=False)
    assert result.exit_code == 0
    assert 1000 < (folder / "reliability.png").stat().st_size < 60_000


def test_training_curve(tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    recalls = {way: {f"R@{k}": 10.0 * k for k in (1, 5, 10)} for way in ("image_to_text", "text_to_image")}
    records = [{"step": step, "loss": 1 / step} for step in range(1, 20)] + [{"step": 19, "epoch": 1, "dev": recalls}]
    (tmp_path / "training/metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    main = importlib.import_module("research.training_curve").main
    CliRunner().invoke(main, [str(tmp_path), str(tmp_path / "curve.png")], catch_exceptions=False)
    assert (tmp_path / "curve.png").stat().st_size > 1000
