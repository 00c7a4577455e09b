"""All verbs, one after another, in object storage and in a folder: the same figures and the same answers."""

from __future__ import annotations

import csv
import json

import pytest
from commands import run_han
from object_server import copy_folder
from served import make_picture

from han_retrieval.objects import to_path

WORDS = ("red", "blue", "green", "white")
EPOCHS = ("--set", "epochs=1", "--set", "min_count=1", "--set", "batch_size=4", "--set", "model.joint_size=32")


@pytest.mark.slow
def test_from_photos_to_answers(url, tmp_path, capsys):
    photos = tmp_path / "photos"
    with_captions = [["file", "caption"]]
    for i in range(16):
        make_picture(photos / f"{i:02}.jpg", i)
        with_captions += [[f"{i:02}.jpg", f"a {WORDS[i % 4]} thing"], [f"{i:02}.jpg", f"one {WORDS[i // 4]} ball"]]
    with (photos / "captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows(with_captions)
    copy_folder(photos, f"{url}/photos")

    def han(*arguments: object) -> dict:
        code, out, err = run_han(capsys, *arguments)
        assert code == 0, err
        return json.loads(out[out.index("{") :]) if "{" in out else {"out": out}

    found: dict[str, list] = {"here": [], "there": []}
    for name, place in (("here", tmp_path), ("there", url)):
        results = found[name]
        extracted = han("extract", photos, "--out", f"{place}/features", "--json")
        results.append({key: extracted[key] for key in ("done", "photos", "regions_mean", "feature_size")})
        model = tmp_path / f"model-{name}"
        han("train", photos, "--features", f"{place}/features", "--out", model, *EPOCHS)
        han(
            "evaluate", model, photos, "--features", f"{place}/features", "--split", "train", "--json", model / "e.json"
        )
        results.append(json.loads((model / "e.json").read_text())["text_to_image"])
        # The photos of the one are in object storage, too.
        source, options = f"{place}/photos", ("--model", tmp_path / "model-here", "--json")
        results.append(counts(han("index", source, "--out", f"{place}/index", *options)))
    late = make_picture(tmp_path / "late.jpg", 40)
    (photos / "late.jpg").write_bytes(late.read_bytes())
    (to_path(url) / "photos" / "late.jpg").write_bytes(late.read_bytes())
    for name, place in (("here", tmp_path), ("there", url)):
        results = found[name]
        results.append(counts(han("index", "--out", f"{place}/index", "--json")))
        to_path(f"{place}/photos/00.jpg").unlink()
        results.append(counts(han("index", "--out", f"{place}/index", "--json")))
        hits = han("search", f"{place}/index", "a red thing", "-k", "20", "--json")["hits"]
        results.append([(hit["path"].rpartition("/")[2], round(hit["score"], 5)) for hit in hits])
        similar = han("similar", f"{place}/index", f"{place}/photos/05.jpg", "--json")["hits"]
        results.append([(hit["path"].rpartition("/")[2], round(hit["score"], 5)) for hit in similar])
    assert found["there"] == found["here"]
    assert len(found["there"][5]) == 16


def counts(report: dict) -> list:
    return [report[key] if isinstance(report[key], int) else len(report[key]) for key in ("photos", "added", "removed")]
