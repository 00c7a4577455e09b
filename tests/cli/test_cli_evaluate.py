import json
import shutil
from pathlib import Path

import ir_measures
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from drawn_photos import ColourDetector, write_drawn_photos
from ir_measures import Success

from han_retrieval.cli.calibrate import calibrate
from han_retrieval.cli.compare import compare
from han_retrieval.cli.distil import distil
from han_retrieval.cli.evaluate import evaluate
from han_retrieval.data import read_dataset
from han_retrieval.errors import HANError
from han_retrieval.evaluation import evaluate as evaluate_model
from han_retrieval.matchers import HAN, HANConfig
from han_retrieval.matchers.saving import folder_hash
from han_retrieval.regions import RegionStore, extract
from han_retrieval.search import distil as learning
from han_retrieval.search.calibration import Calibration
from han_retrieval.search.pooling import TextMap
from han_retrieval.text import Vocabulary


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Photos with their captions and boxes, their features, and a HAN that has not been trained."""
    folder = tmp_path_factory.mktemp("evaluate")
    write_drawn_photos(folder / "photos", train=4, dev=12)
    dataset, detector = read_dataset(folder / "photos"), ColourDetector()
    extract(dataset.split("dev"), detector, folder / "features")
    vocabulary = Vocabulary.from_sentences(s for photo in dataset.split("train").photos for s in photo.captions)
    torch.manual_seed(0)
    config = HANConfig(region_size=detector.feature_size, vocabulary_size=len(vocabulary), word_size=8, joint_size=16,
                       detector_fingerprint=detector.fingerprint)  # fmt: skip
    HAN(config, vocabulary=vocabulary).save_pretrained(folder / "model")
    return folder


def run(folder, *options, model="model", split="dev", features="features"):
    arguments = [folder / model, folder / "photos", "--features", folder / features, "--split", split, *options]
    return CliRunner().invoke(evaluate, [str(argument) for argument in arguments])


def test_figures_queries_runs_and_grounding_of_a_real_model(folder, tmp_path):
    result = run(
        folder, "--json", tmp_path / "new" / "dev.json", "--run", tmp_path / "dev.run",
        "--grounding", folder / "photos" / "entities.jsonl",
    )  # fmt: skip
    assert result.exception is None
    content = json.loads((tmp_path / "new" / "dev.json").read_text())
    recalls = [content[way][f"R@{k}"] for way in ("image_to_text", "text_to_image") for k in (1, 5, 10)]
    assert content["rsum"] == pytest.approx(sum(recalls))
    assert f"rSum {content['rsum']:.1f}" in result.stdout
    assert content["counts"]["images"] == 12
    assert content["split"] == "dev"
    hits = content["grounding"]["pointing"]
    assert 0 < hits["random"] < hits["best"] <= 100
    assert 0 <= hits["model"] <= hits["best"]
    for way in ("image_to_text", "text_to_image"):
        found = ir_measures.calc_aggregate(
            [Success @ 1, Success @ 5, Success @ 10],
            list(ir_measures.read_trec_qrels(str(tmp_path / f"dev.{way}.qrels"))),
            list(ir_measures.read_trec_run(str(tmp_path / f"dev.{way}.run"))),
        )
        for k in (1, 5, 10):
            assert 100 * found[Success @ k] == pytest.approx(content[way][f"R@{k}"])
    same = CliRunner().invoke(compare, [str(tmp_path / "new" / "dev.json")] * 2 + ["--json"], catch_exceptions=False)
    assert {row["p_value"] for row in json.loads(same.stdout)} == {1}


def test_the_scores_are_those_of_the_reference(folder):
    dataset, model = read_dataset(folder / "photos").split("dev"), HAN.from_pretrained(folder / "model")
    store = RegionStore.open(folder / "features")
    found = evaluate_model(model, dataset, store, batch=5, progress=False)
    regions = store.batch([photo.id for photo in dataset.photos])
    words, mask = model.words([sentence for photo in dataset.photos for sentence in photo.captions])
    with torch.no_grad():
        reference = model.similarity(regions.features, regions.mask, words, mask, backend="reference")
    assert found.scores == pytest.approx(reference.numpy(), abs=1e-5)


def test_folds(folder, tmp_path):
    result = run(folder, "--folds", "3", "--json", tmp_path / "folds.json")
    assert "mean over 3 folds of 4" in result.stdout
    content = json.loads((tmp_path / "folds.json").read_text())
    assert max(content["queries"]["image_to_text"]["rank"]) <= 1 + 4 * 5
    assert max(content["queries"]["text_to_image"]["rank"]) <= 4


def test_captions_that_photos_share_may_count_for_each(folder, tmp_path):
    shutil.copytree(folder / "photos", tmp_path / "photos")
    rows = [json.loads(line) for line in (folder / "photos" / "metadata.jsonl").read_text().splitlines()]
    for row in rows:
        row["captions"] = ["Two things.", row["captions"][0]]
    (tmp_path / "photos" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, files = {}, [str(tmp_path / f"{name}.json") for name in ("negative", "relevant")]
    for name, file in zip(("negative", "relevant"), files, strict=True):
        given = [folder / "model", tmp_path / "photos", "--features", folder / "features", "--split", "dev"]
        options = ["--equal-captions", name, "--json", file]
        result = CliRunner().invoke(evaluate, [str(each) for each in (*given, *options)], catch_exceptions=False)
        found[name] = json.loads(Path(file).read_text())
        assert found[name]["equal_captions"] == name
        assert f"split dev: {found[name]['protocol']}\n" in result.stdout
    assert [found[name]["protocol"] for name in found] == ["all 12 images", "all 12 images, equal captions relevant"]
    ranks = [sorted(each["queries"]["text_to_image"]["rank"][::2]) for each in found.values()]  # of "Two things."
    assert ranks == [list(range(1, 13)), [1] * 12]
    assert [each["ceiling"]["text_to_image"]["R@10"] for each in found.values()] == [pytest.approx(1100 / 12), 100]
    apart = CliRunner().invoke(compare, files)
    assert "different protocols (--equal-captions negative and relevant)" in str(apart.exception)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "tset"}, "no photo is in split 'tset'; splits there: train"),
        ({"split": "train"}, "4 of 4 photos"),
        ({"features": "none"}, "none"),
        ({"features": "model"}, "not a region store"),
        ({"model": "photos"}, "config.json"),
        ({"model": "none"}, "none"),
    ],
)
def test_faults_are_told_in_one_line(folder, options, message):
    result = run(folder, **options)
    assert isinstance(result.exception, HANError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert result.stdout == ""


def test_processors_that_are_not_there(folder, monkeypatch):
    monkeypatch.setattr("han_retrieval.scoring.prefers_bfloat16", lambda device: False)
    assert "no device 'tpu9' here: take one of cpu" in str(run(folder, "--device", "tpu9").exception)
    assert "is not faster in it than in float32" in str(run(folder, "--precision", "bfloat16").exception)


def test_features_of_another_detector_and_bad_places_are_refused_before_scoring(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(HAN, "score", None)  # would fail if it came to that
    extract(read_dataset(folder / "photos").split("dev"), ColourDetector(regions=3), tmp_path / "other")
    result = run(folder, features=tmp_path / "other")
    assert isinstance(result.exception, HANError)
    assert "colours-1-3" in str(result.exception)
    assert "colours-1-4" in str(result.exception)
    (tmp_path / "file").touch()
    for option in ("--json", "--run"):
        result = run(folder, option, tmp_path / "file" / "x.json")
        assert isinstance(result.exception, HANError)
        assert "its folder cannot be made" in str(result.exception)
        result = run(folder, option, "")
        assert "the name of the file to be written is empty" in str(result.exception)
    result = run(folder, "--folds", "5")
    assert "12 images do not make 5 equal folds" in str(result.exception)


def test_an_interrupt_is_one_line_and_leaves_no_file(folder, tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("han_retrieval.evaluation.evaluate", interrupted)
    result = run(folder, "--json", tmp_path / "dev.json")
    assert result.exit_code == 130
    assert result.stderr == "stopped; nothing was written\n"
    assert list(tmp_path.iterdir()) == []


def test_calibrate_keeps_probabilities_with_the_model(folder, monkeypatch):
    def as_if_trained(*args, **options):
        assert options["equal_captions"] == "relevant"
        found = evaluate_model(*args, **options)
        found.scores[found.relevance.caption_image, np.arange(found.scores.shape[1])] += 0.5
        return found

    monkeypatch.setattr("han_retrieval.evaluation.evaluate", as_if_trained)
    arguments = [folder / "model", folder / "photos", "--features", folder / "features"]
    result = CliRunner().invoke(calibrate, [str(argument) for argument in (*arguments, "--shown", 6)])
    assert result.exception is None
    assert "each among 12 photos of dev with and without its own; the first 6 count" in result.stdout
    fitted = Calibration.read(folder / "model")
    assert (fitted.photos, fitted.shown, fitted.split) == (12, 6, "dev")
    monkeypatch.setattr("han_retrieval.evaluation.evaluate", None)  # refused before
    few = CliRunner().invoke(calibrate, [str(argument) for argument in arguments])
    assert isinstance(few.exception, HANError)
    assert "12 photos are too few to calibrate on: take at least 20" in str(few.exception)


def test_distil_keeps_what_it_learned_with_the_model(folder, monkeypatch):
    arguments = [str(folder / "model"), str(folder / "photos"), "--features", str(folder / "features")]
    few = CliRunner().invoke(distil, [*arguments, "--split", "dev"])
    assert isinstance(few.exception, HANError)
    assert "12 photos with regions" in str(few.exception)
    assert not (folder / "model" / "candidates.safetensors").exists()
    monkeypatch.setattr(learning, "TOP", 3)
    monkeypatch.setattr(learning, "KEPT", (4, 8))
    result = CliRunner().invoke(distil, [*arguments, "--split", "dev", "--json"])
    assert result.exception is None
    facts = json.loads(result.stdout)
    assert (facts["photos"], list(facts["before"]), list(facts["after"])) == (12, ["4", "8"], ["4", "8"])
    found = TextMap.read(folder / "model", model=folder_hash(folder / "model"), size=16)
    assert found.weight.shape == (16, 16)
