from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from han_retrieval.cli.main import main
from han_retrieval.errors import HANError
from han_retrieval.evidence import evidence_from_regions
from han_retrieval.matchers import HAN, load_matcher, matcher_class
from han_retrieval.regions import load_detector
from han_retrieval.text import Vocabulary

DETECTOR = load_detector("grid", regions=10)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)).save(path)
    return path


def saved(
    folder: Path,
    *,
    fingerprint: str | None = DETECTOR.fingerprint,
    size: int = DETECTOR.feature_size,
    matcher: str = "han",
) -> Path:
    torch.manual_seed(0)
    vocabulary = Vocabulary.from_sentences(["a red ball and a blue house"])
    kind = matcher_class(matcher)
    config = kind.config_class(
        region_size=size,
        vocabulary_size=len(vocabulary),
        word_size=8,
        joint_size=16,
        detector_fingerprint=fingerprint,
    )
    kind(config, vocabulary=vocabulary).save_pretrained(folder)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return saved(tmp_path / "model")


def refused(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["explain", *map(str, args)])
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("han: error: ")
    assert err.count("\n") == 1
    return err


def test_json_agrees_with_the_model(photo: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["explain", str(photo), "A red ball.", "--model", str(model), "--json"])
    found = json.loads(capsys.readouterr().out)
    (regions,) = DETECTOR.detect([Image.open(photo)])
    han = HAN.from_pretrained(model)
    evidence = han.explain(torch.tensor(regions.features, dtype=torch.float32), han.words(["A red ball."])[0][0])
    assert found["score"] == pytest.approx(evidence.score, rel=1e-5)
    assert [word["word"] for word in found["words"]] == ["a", "red", "ball"]
    for i, word in enumerate(found["words"]):
        assert word["match"] == pytest.approx(float(evidence.match[i]), rel=1e-5)
        assert word["weight"] == pytest.approx(float(evidence.alignment[i].max()), rel=1e-5)
        assert word["region"] == int(evidence.alignment[i].argmax())
        assert word["box"] == pytest.approx(regions.boxes[word["region"]].tolist(), abs=0.06)


@pytest.mark.parametrize("name", ["evidence.png", "evidence.jpg", "evidence.html"])
def test_it_draws_and_prints_a_line_a_word(
    name: str, photo: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["explain", str(photo), "a red zebra", "--model", str(model), "--out", str(tmp_path / name)])
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2 + 3
    assert err.startswith("note: the model does not know 'zebra'\n")
    if name.endswith("html"):
        assert (tmp_path / name).read_text().startswith("<!doctype html>")
    else:
        assert Image.open(tmp_path / name).width == 720


def test_what_cannot_be_explained_is_said_in_a_line(
    photo: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "none of the words" in refused(capsys, photo, "zebra quagga", "--model", model)
    assert "no words" in refused(capsys, photo, "?", "--model", model)
    assert "nowhere.png" in refused(capsys, tmp_path / "nowhere.png", "a ball", "--model", model)
    assert "nowhere" in refused(capsys, photo, "a ball", "--model", tmp_path / "nowhere")
    assert "x.xyz" in refused(capsys, photo, "a ball", "--model", model, "--out", tmp_path / "x.xyz")
    assert "--width is for a picture" in refused(capsys, photo, "a ball", "--width", "900")
    assert "--font is for a picture" in refused(capsys, photo, "a ball", "--font", "x.ttf", "--out", "x.html")
    assert "no detector is called" in refused(capsys, photo, "a ball", "--model", model, "--detector", "magic")


def test_scan_has_evidence_and_pooled_matchers_say_that_they_have_none(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["explain", str(photo), "a red ball", "--model", str(saved(tmp_path / "scan", matcher="scan"))])
    assert len(capsys.readouterr().out.splitlines()) == 2 + 3
    for matcher in ("vse++", "vse-infinity"):
        pooled = saved(tmp_path / matcher, matcher=matcher)
        assert "has no evidence by word and region" in refused(capsys, photo, "a red ball", "--model", pooled)


def test_a_folder_called_default_is_taken_where_it_is_named(
    photo: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("han_retrieval.matchers.saving._SHIPPED", model)
    saved(tmp_path / "default", fingerprint=None)
    main(["explain", str(photo), "a red ball"])  # by the one that ships
    assert "score" in capsys.readouterr().out
    assert "--detector" in refused(capsys, photo, "a red ball", "--model", "./default")


def test_regions_of_another_detector_are_refused(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = saved(tmp_path / "other", fingerprint="bottom-up")
    assert "bottom-up" in refused(capsys, photo, "a ball", "--model", other)
    assert "bottom-up" in refused(capsys, photo, "a ball", "--model", other, "--detector", "grid")
    grid = saved(tmp_path / "grid")
    assert "'bottom-up' gives others" in refused(capsys, photo, "a ball", "--model", grid, "--detector", "bottom-up")
    named = saved(tmp_path / "named")
    main(["explain", str(photo), "a ball", "--model", str(named), "--detector", "grid"])  # with the model's 10 regions
    assert "score" in capsys.readouterr().out
    unsaid = saved(tmp_path / "unsaid", fingerprint=None)
    assert "--detector" in refused(capsys, photo, "a ball", "--model", unsaid)
    main(["explain", str(photo), "a ball", "--model", str(unsaid), "--detector", "grid", "--regions", "10"])
    assert "score" in capsys.readouterr().out
    narrow = saved(tmp_path / "narrow", fingerprint=None, size=7)
    assert "7 numbers" in refused(capsys, photo, "a ball", "--model", narrow, "--detector", "grid")


def test_unknown_words_are_named_as_by_a_search(photo: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["explain", str(photo), "a red baall", "--model", str(model)])
    printed, said = capsys.readouterr()
    assert "note: the model does not know 'baall'; it knows 'ball'\n" in said
    assert printed.splitlines()[-1].split() == ["baall", "?"]  # and no region
    main(["explain", str(photo), "a xqzzt blorp", "--model", str(model)])
    assert capsys.readouterr().err == (
        "note: the model does not know 'xqzzt'\nnote: the model does not know 'blorp'\n"
        "note: the model knows the words of its training captions\n"
    )


def test_a_picture_never_takes_the_place_of_the_photo(
    photo: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = photo.read_bytes()
    link = photo.with_name("link.png")
    link.symlink_to(photo)
    for out in (photo, link):
        assert "the picture would overwrite the photo" in refused(
            capsys, photo, "a red ball", "--model", model, "--out", out
        )
    evidence = evidence_from_regions(
        load_matcher(model), DETECTOR.detect([Image.open(photo)])[0], "a red ball", photo=photo
    )
    with pytest.raises(HANError, match="would overwrite the photo"):
        evidence.draw(photo)
    assert photo.read_bytes() == before


def test_a_picture_that_cannot_be_written_leaves_the_file_that_was_there(
    photo: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("old.bufr", "old.abc", "old"):
        old = photo.with_name(name)
        old.write_text("old")
        said = refused(capsys, photo, "a red ball", "--model", model, "--out", old)
        assert "the picture cannot be written" in said
        assert old.read_text() == "old"


def test_names_that_are_not_utf_8_are_drawn(photo: Path, model: Path) -> None:
    odd = photo.rename(photo.with_name("caf\udce9.png"))
    page = odd.with_name("page.html")
    main(["explain", str(odd), "a red ball \udce9", "--model", str(model), "--out", str(page)])
    assert "red" in page.read_text(encoding="utf-8")
