"""``han index``, ``han search`` and ``han info`` of an index, as a user has them."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from commands import run_han
from PIL import Image
from tiny_index import FakeDetector, make_model, make_photo, make_photos

from han_retrieval.matchers.saving import folder_hash
from han_retrieval.search import Index
from han_retrieval.search.calibration import Calibration
from han_retrieval.search.report import STAGES

UPDATE = "han_retrieval.search.maker.detector_for"


@pytest.fixture
def han(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(UPDATE, lambda fingerprint, **_: FakeDetector(fingerprint))
    make_model(tmp_path / "model")
    make_photos(tmp_path / "photos", 5)

    return partial(run_han, capsys)


def test_an_index_with_nothing_to_do_says_so_without_a_bar_or_a_rate(han):
    _, out, _ = han("index", "photos", "--out", "index", "--model", "model")
    assert "5 added in " in out
    assert "photos/s" in out
    code, out, err = han("index", "photos", "--out", "index")
    assert code == 0
    assert "5 photos; 0 added in " in out
    assert "photos/s" not in out + err


def test_the_home_folder_may_be_written_as_a_tilde(han, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    code, out, err = han("index", "photos", "--out", "~/index", "--model", "model")
    assert (code, "5 added" in out) == (0, True), err
    code, out, err = han("index", "--out", "~/index")
    assert (code, "0 added" in out) == (0, True), err
    assert (tmp_path / "index").is_dir()


def test_index_search_info(han, tmp_path):
    (tmp_path / "photos" / "text.jpg").write_text("no photo")
    code, out, err = han("index", "photos", "--out", "index", "--model", "model")
    assert code == 0
    assert out.startswith(f"{Path('index')}: 5 photos; 5 added in ")
    assert out.endswith("0 moved, 0 removed, 1 broken\n")
    assert "text.jpg: not an image" in err
    assert "6/6" in err

    code, out, err = han("search", "index", "a red zebra", "-k", 3)
    assert code == 0
    assert "the model does not know 'zebra'" in err
    lines = [line.split() for line in out.splitlines()]
    scores = [float(score) for score, _ in lines]
    assert len(lines) == 3
    assert scores == sorted(scores, reverse=True)
    _, paths, _ = han("search", "index", "a red zebra", "-k", 3, "--paths")
    assert paths.split() == [path for _, path in lines]
    assert all(Path(path).is_file() for path in paths.split())
    _, out, _ = han("search", "index", "a red zebra", "-k", 99, "--json", "--exact")
    hits = json.loads(out)["hits"]
    assert [hit["path"] for hit in hits[:3]] == paths.split()
    assert len(hits) == 5
    assert len(hits[0]["boxes"]) == len(hits[0]["labels"]) > 0
    code, out, err = han("search", "index", "a dog", "--where", "width > 1000")
    assert (code, out) == (0, "")
    assert "no photo meets width > 1000" in err

    code, out, _ = han("info", "index")
    assert code == 0
    facts = dict(line.split(maxsplit=1) for line in out.splitlines() if len(line.split()) > 1)
    assert (facts["kind"], facts["photos"], facts["broken"]) == ("index", "5", "1")
    assert json.loads(han("info", "index", "--json")[1])["detector"] == "fake:1"

    make_photo(tmp_path / "photos" / "new.png", 60)
    report = json.loads(han("index", "--out", "index", "--json")[1])  # folders and model of before
    assert (report["photos"], report["added"], len(report["broken"])) == (6, 1, 1)


def test_search_json_has_the_evidence_of_each_word(han):
    assert han("index", "photos", "--out", "index", "--model", "model")[0] == 0
    code, out, _ = han("search", "index", '"a red dog" - 0.5 * "cat"', "--json")
    assert code == 0
    answer = json.loads(out)
    assert answer["nothing"] is False
    assert list(answer["seconds"]) == ["encode", "filter", "candidates", "fetch", "rank"]
    assert len(answer["hits"]) == 5
    for hit in answer["hits"]:
        assert hit["probability"] is None
        parts = hit["evidence"]
        assert [(part["sentence"], part["weight"]) for part in parts] == [("a red dog", 1.0), ("cat", -0.5)]
        assert hit["score"] == pytest.approx(sum(part["weight"] * part["score"] for part in parts), abs=1e-5)
        assert [word["word"] for word in parts[0]["words"]] == ["a", "red", "dog"]
        dog = parts[0]["words"][2]
        assert dog["box"] == pytest.approx(hit["boxes"][dog["region"]], abs=0.06)
    code, out, err = han("search", "index", '"a dog" "a cat"')
    assert (code, out) == (2, "")
    assert err.count("\n") == 1


def test_a_search_loads_no_detector_and_no_plots(han):
    assert han("index", "photos", "--out", "index", "--model", "model")[0] == 0
    code = (
        "import sys\nfrom han_retrieval.cli.main import main\nmain(['search', 'index', 'a dog', '--json'])\n"
        "large = {'fastapi', 'matplotlib', 'timm', 'torchvision', 'transformers'}\n"
        "sys.exit(', '.join(large & sys.modules.keys()) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr  # which may say that kernels are compiled, once
    assert len(json.loads(result.stdout)["hits"]) == 5


def test_probabilities_and_nothing_matches(han, tmp_path):
    assert han("index", "photos", "--out", "index", "--model", "model")[0] == 0
    scores = [float(line.split()[0]) for line in han("search", "index", "a dog")[1].splitlines()]
    facts = dict.fromkeys(("precision", "recall", "answered_without", "error"), 0.5)
    counts = dict.fromkeys(("sentences", "shown", "pairs"), 1) | {"photos": len(scores)}
    whose = {"split": "dev", "model": folder_hash(tmp_path / "model"), "reliability": ()}
    fitted = Calibration(slope=1.0, intercept=0.0, threshold=0.0, **facts, **counts, **whose)
    fitted.write(tmp_path / "model")
    code, out, err = han("search", "index", "a dog")
    for line, score in zip(out.splitlines(), scores, strict=True):
        assert line.split()[:2] == [f"{score:.4f}", "strong" if 1 / (1 + math.exp(-score)) >= 0.25 else "likely"]
    assert (code, err) == (0, "")
    fitted.model_copy(update={"threshold": 0.9}).write(tmp_path / "model")
    code, out, err = han("search", "index", "a dog")
    assert (code, out) == (0, "")
    assert err == "nothing here is likely to match; --all shows the nearest photos\n"
    answer = json.loads(han("search", "index", "a dog", "--json")[1])
    assert (answer["nothing"], answer["hits"]) == (True, [])
    code, out, err = han("search", "index", "a dog", "--all")
    assert [float(line.split()[0]) for line in out.splitlines()] == scores
    assert err == "nothing here is likely to match\n"


@pytest.fixture
def finder(monkeypatch):
    for module in ("matchers.detectors", "search.index"):
        monkeypatch.setattr(f"han_retrieval.{module}.detector_for", lambda fingerprint, **_: FakeDetector(fingerprint))


def test_info_recall(han, tmp_path):
    make_photos(tmp_path / "photos", 60, first=10)
    assert han("index", "photos", "--out", "index", "--model", "model")[0] == 0
    (tmp_path / "lines.txt").write_text("a red dog\na blue cat\nzebra\n")
    code, out, _ = han("info", "index", "--recall", "--queries", "lines.txt", "--json")
    assert code == 0
    facts = json.loads(out)
    assert (facts["kind"], facts["photos"], facts["queries"]) == ("index", 65, 2)
    assert 0 < facts["percent_of_top_10_in_50"] <= 100
    assert "queries" in han("info", "index", "--recall")[1]
    assert "--recall is of an index" in han("info", "model", "--recall")[2]
    assert "go with --recall" in han("info", "index", "--queries", "lines.txt")[2]


def test_similar(han, finder, tmp_path):
    assert han("index", "photos", "--out", "index", "--model", "model")[0] == 0
    code, by_file, _ = han("similar", "index", "photos/002.png")
    assert code == 0
    assert len(by_file.splitlines()) == 4
    assert "002.png" not in by_file
    assert han("similar", "index", "002.png")[1] == by_file
    assert "002.png" in han("similar", "index", "002.png", "--keep-itself")[1]
    make_photo(tmp_path / "other.png", 99)
    code, out, _ = han("similar", "index", "other.png", "--json", "-k", 3)
    assert code == 0
    assert (json.loads(out)["indexed"], len(json.loads(out)["hits"])) == (False, 3)
    code, out, err = han("similar", "index", "nowhere.png")
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_caption(han, finder, tmp_path):
    assert han("index", "photos", "--out", "index", "--model", "model")[0] == 0
    (tmp_path / "lines.txt").write_text("a red dog\na blue cat\nzebra\na\n")
    code, out, _ = han("caption", "lines.txt", "photos/002.png", "--model", "model", "-k", 2)
    assert code == 0
    scores = [float(line.split()[0]) for line in out.splitlines()]
    assert len(scores) == 2
    assert scores == sorted(scores, reverse=True)
    ranked = json.loads(han("caption", "lines.txt", "photos/002.png", "--model", "model", "--json")[1])["captions"]
    assert {each["caption"] for each in ranked} == {"a red dog", "a blue cat", "a"}
    assert all(each["match"] is None for each in ranked)
    code, out, err = han("caption", "index", "photos/002.png")
    assert (code, out) == (2, "")
    assert "knows no word, or too few, of each of the" in err  # "thing 0" and the like
    code, _, err = han("caption", "index", "photos/002.png", "--model", "default")  # is asked for, and is another
    assert code == 2
    assert "not the model that" in err


def test_captions_of_unknown_words_are_left_out_and_named(han, finder, tmp_path):
    lines = ["a red dog", "a xqzzt blorp", "zzz", "a cat", "ein Hund", "\x1b[2J"]
    (tmp_path / "lines.txt").write_text("\n".join(lines) + "\n")
    code, out, err = han("caption", "lines.txt", "photos/002.png", "--model", "model")
    assert code == 0
    assert {line.split(maxsplit=1)[1] for line in out.splitlines()} == {"a red dog", "a cat"}
    note = err.splitlines()[-1]
    assert note.startswith("note: 4 of 6 sentences are left out, as the model knows too few of their words: ")
    assert note.endswith("'a xqzzt blorp', 'zzz', 'ein Hund', ...")


def test_what_the_model_knows_is_said_where_it_does_not_know_most(han):
    assert han("index", "photos", "--out", "index", "--model", "model")[0] == 0
    said = "note: the model knows the words of its training captions"
    assert said in han("search", "index", "ein Hund a")[2].splitlines()
    assert said not in han("search", "index", "a red dog and a blue zebra")[2]
    assert said in han("search", "index", "ein Hund a", "--json")[2].splitlines()


def test_without_anything_to_score_there_is_no_score(han, tmp_path):
    assert han("index", "photos", "--out", "index", "--model", "model")[0] == 0
    code, out, _ = han("search", "index", "text:00")
    assert code == 0
    assert sorted(out.splitlines()) == [str(tmp_path / "photos" / f"00{i}.png") for i in range(5)]
    answer = han("search", "index", "text:00", "--json")[1]
    assert {hit["score"] for hit in json.loads(answer)["hits"]} == {None}


def test_json_has_times_with_fixed_decimals(han):
    assert han("index", "photos", "--out", "index", "--model", "model")[0] == 0
    for asked in (("search", "index", "a dog"), ("similar", "index", "002.png")):
        seconds = json.loads(han(*asked, "--json")[1], parse_float=str)["seconds"]
        assert all(re.fullmatch(r"\d+\.\d{1,4}", each) for each in seconds.values())


def test_caption_ranks_the_names_of_regions(han, finder, monkeypatch):
    names = ("photo", "red dog", "blue cat", "cat")
    plain = FakeDetector.regions
    monkeypatch.setattr(FakeDetector, "regions", lambda self, pixels: named(plain(self, pixels)))

    def named(regions):
        return dataclasses.replace(regions, labels=names[: len(regions.features)])

    assert han("index", "photos", "--out", "index", "--model", "model")[0] == 0
    ranked = json.loads(han("caption", "index", "photos/002.png", "--json")[1])["captions"]
    with Index.open("index") as index:
        found = index.region_names()
    assert found[0] == "photo"  # of every photo
    assert {each["caption"] for each in ranked} == set(found) - {"photo"} <= set(names)
    assert ranked


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["search", "none", "a dog"], "no such index"),
        (["search", "photos", "a dog"], "not an index"),
        (["search", "index", "zebra"], "knows none of the words"),
        (["search", "index", "a dog", "--where", "dat > 1"], "'dat' is not known"),
        (["search", "index", "a dog", "--model", "none"], "the index's model is not there"),
        (["search", "index", "a dog", "--paths", "--json"], "choose one"),
        (["index", "--out", "new"], "which photos"),
        (["index", "empty", "--out", "new", "--model", "model"], "no photo in it"),
        (["index", "--out", "index", "--exclude", "x"], "give PHOTOS too"),
        (["index", "--out", "index", "--tokens", "float16"], "keeps tokens as int8, not float16; --rebuild"),
        (["index", "photos", "--out", "new", "--model", "model", "--detector", "grid"], "model: the features were"),
    ],
)
def test_what_is_wrong_is_one_line(han, tmp_path, args, message):
    (tmp_path / "empty").mkdir()
    assert han("index", "photos", "--out", "index", "--model", "model")[0] == 0
    code, out, err = han(*args)
    assert (code, out) == (2, "")
    assert err.startswith("han: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "new").exists()


def test_an_interrupt_says_how_to_go_on(han, tmp_path, monkeypatch):
    class Interrupted(FakeDetector):
        def detect(self, batch):
            if self.seen:
                raise KeyboardInterrupt
            return super().detect(batch)

    monkeypatch.setattr(UPDATE, lambda fingerprint, **_: Interrupted(fingerprint))
    code, out, err = han("index", "photos", "--out", "index", "--model", "model", "--batch-size", 2)
    assert (code, out) == (130, "")
    assert err.splitlines()[-1] == "stopped; what was done is kept in index: the same command goes on from there"
    assert json.loads(han("info", "index", "--json")[1])["photos"] == 2


def test_an_interrupt_before_anything_was_written_says_so(han, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("han_retrieval.search.update.scan", interrupted)
    code, _, err = han("index", "photos", "--out", "new", "--model", "model")
    assert (code, err) == (130, "stopped; nothing was written\n")


def test_where_all_photos_are_broken_no_index_is_made(han, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "text.jpg").write_text("no photo")
    before = sorted(tmp_path.iterdir())
    code, out, err = han("index", "bad", "--out", "index", "--model", "model")
    assert (code, out) == (2, "")
    assert "text.jpg: not an image" in err
    assert err.endswith("han: error: index: no photo could be indexed, so no index was made\n")
    assert sorted(tmp_path.iterdir()) == before
    code, out, _ = han("index", "bad", "--out", "index", "--model", "model", "--json")
    assert code == 2
    assert [Path(each["photo"]).name for each in json.loads(out)["broken"]] == ["text.jpg"]
    make_photo(tmp_path / "bad" / "photo.png", 1)
    assert han("index", "bad", "--out", "index", "--model", "model")[0] == 0
    (tmp_path / "bad" / "photo.png").unlink()
    assert han("index", "--out", "index")[0] == 0  # an index that is there stays, without photos too
    assert (tmp_path / "index" / "index.json").is_file()


def test_a_query_may_begin_with_a_minus(han):
    assert han("index", "photos", "--out", "index", "--model", "model")[0] == 0
    code, out, _ = han("search", "index", '- "a blue cat" + "a red dog"', "-k", 2)
    assert (code, len(out.splitlines())) == (0, 2)
    assert out == han("search", "index", "-k", 2, 'a red dog -"a blue cat"')[1]
    assert han("search", "index", "--nonsense")[0] == 2


def test_info_of_a_photo(han, tmp_path):
    photo = next(iter(sorted((tmp_path / "photos").iterdir())))
    code, out, _ = han("info", photo, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["kind"], found["bytes"]) == ("photo", photo.stat().st_size)
    assert (found["width"], found["height"]) == Image.open(photo).size
    (tmp_path / "text.jpg").write_text("no photo")
    code, _, err = han("info", "text.jpg")
    assert code == 2
    assert "text.jpg: not an image" in err


def test_photos_that_patterns_exclude_leave_with_a_word(han):
    assert han("index", "photos", "--out", "index", "--model", "model")[0] == 0
    code, out, err = han("index", "photos", "--out", "index", "--exclude", "*1*")
    assert code == 0
    assert "1 removed" in out
    assert "note: 1 photos left the index" in err


def test_a_profile_is_the_processor_time_of_a_photo_by_stage(han):
    code, out, err = han("index", "photos", "--out", "index", "--model", "model", "--profile")
    assert code == 0
    assert "added in" in out
    lines = [line.split() for line in err.partition("processor time a photo, of 5 new ones:\n")[2].splitlines()]
    assert [line[0] for line in lines] == [*STAGES, "all"]
    parts = [float(line[1]) for line in lines]
    assert sum(parts[:-1]) == pytest.approx(parts[-1], abs=0.5)
    assert parts[-1] > 0
    code, out, err = han("index", "photos", "--out", "index", "--profile", "--json")
    assert code == 0
    assert "no new photo" in err
    assert json.loads(out)["processor_seconds"].keys() <= set(STAGES)
    code, _, err = han("index", "photos", "--out", "index", "--profile", "--engine", "ray")
    assert code == 2
    assert "leave --engine ray out" in err
