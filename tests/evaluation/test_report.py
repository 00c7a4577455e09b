import json
from dataclasses import replace

import numpy as np
import pytest
from stand_in import MaxMatcher, random_task

from han_retrieval.errors import HANError
from han_retrieval.evaluation import Grounding, compare, evaluate
from han_retrieval.evaluation.metrics import RECALLS
from han_retrieval.evaluation.report import (
    difference_table,
    make_folder,
    read_results,
    results,
    table,
    write_json,
)


@pytest.fixture(scope="module")
def evaluation():
    dataset, store = random_task(12)
    return evaluate(MaxMatcher(), dataset, store, folds=3, progress=False)


def test_json_holds_the_figures_and_gives_each_query_back(tmp_path, evaluation):
    path = tmp_path / "new" / "dev.json"
    write_json(path, results(evaluation, model="runs/han"))
    content, per_query = read_results(path)
    for way in ("image_to_text", "text_to_image"):
        assert content[way] == evaluation.metrics[way]
        assert content[way].keys() >= {*RECALLS, "median_rank", "mean_rank", "mAP@R", "R-Precision", "nDCG@10"}
        ours, back = evaluation.per_query[way], per_query[way]
        assert (back.ids, back.images) == (ours.ids, ours.images)
        for name in ("rank", "average_precision", "r_precision", "ndcg", "fold"):
            assert np.array_equal(getattr(back, name), getattr(ours, name))
    assert content["rsum"] == evaluation.rsum
    assert content["counts"] == evaluation.counts
    assert (content["model"], content["split"], content["folds"]) == ("runs/han", "dev", 3)
    counts = evaluation.counts
    scored = counts["images"] * counts["different_captions"]
    assert content["pairs_per_second"] == pytest.approx(scored / evaluation.seconds["score"])
    assert content["versions"].keys() >= {"python", "torch", "numpy", "han-retrieval"}
    assert list(tmp_path.glob("new/*")) == [path]
    assert path.read_text().count("\n") < 30  # a field a line, not a query a line


def test_a_result_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    with path.open() as reader:
        write_json(path, {"a": 2})
        assert json.load(reader) == {"a": 1}  # whoever reads meanwhile reads the old file
    assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(HANError, match=r"folder\.json: cannot be written"):
        write_json(tmp_path / "folder.json", {})
    with pytest.raises(HANError, match="its folder cannot be made"):
        make_folder(path / "y" / "z.json")


@pytest.mark.parametrize("text", ["[1]", "{}", '{"queries": {}}', '{"queries": {"image_to_text": {"id": []}}}'])
def test_other_files_are_not_taken_for_results(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(HANError, match=r"other\.json: not the results of `han evaluate --json`"):
        read_results(path)
    with pytest.raises(HANError, match="cannot be read"):
        read_results(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda ways: ways.pop("text_to_image"), "queries.text_to_image is missing"),
        (lambda ways: ways["text_to_image"]["rank"].pop(), "columns are of different lengths"),
        (lambda ways: ways["text_to_image"]["rank"].__setitem__(1, 0), r"rank\.1 = 0: input should be greater"),
        (lambda ways: ways["text_to_image"]["rank"].__setitem__(1, 10**30), r"rank\.1 = "),
        (lambda ways: ways["text_to_image"]["AP@R"].__setitem__(0, float("nan")), r"AP@R\.0 = nan"),
        (lambda ways: ways["text_to_image"]["id"].__setitem__(1, "a#0"), "a query is there twice"),
        (
            lambda ways: ways["text_to_image"]["id"].__setitem__(1, ["b#0"]),
            r"id\.1 = \['b#0'\]: input should be a valid",
        ),
        (lambda ways: ways["text_to_image"].pop("nDCG@10"), "it has no nDCG@10, an earlier version wrote it"),
        (lambda ways: ways["text_to_image"]["image"].__setitem__(1, "a"), "its captions are of other images"),
        (lambda ways: ways["text_to_image"]["fold"].__setitem__(1, 1), "a caption is in another fold than its image"),
    ],
)
def test_queries_that_do_not_fit_together_are_refused(tmp_path, spoil, reason):
    each = {"fold": [0, 0], "rank": [1, 2], "AP@R": [1, 0.5], "R-Precision": [1, 0], "nDCG@10": [1, 0.5]}
    ways = {
        "image_to_text": {"id": ["a", "b"], "image": ["a", "b"], **each},
        "text_to_image": {"id": ["a#0", "b#0"], "image": ["a", "b"], **json.loads(json.dumps(each))},
    }
    write_json(tmp_path / "right.json", {"queries": ways})
    _, found = read_results(tmp_path / "right.json")
    assert found["text_to_image"].rank.tolist() == [1, 2]
    spoil(ways)
    write_json(tmp_path / "wrong.json", {"queries": ways})
    with pytest.raises(HANError, match=rf"wrong\.json: not the results of .* \(.*{reason}"):
        read_results(tmp_path / "wrong.json")


def test_tables_show_the_figures(evaluation):
    metrics = {
        "image_to_text": {"R@1": 22.84, "R@5": 53.8, "R@10": 66.6, "median_rank": 5, "mean_rank": 20.5, "mAP@R": 12.3,
                          "R-Precision": 14.2, "nDCG@10": 33.1},
        "text_to_image": {"R@1": 18.2, "R@5": 44.9, "R@10": 58.1, "median_rank": 7, "mean_rank": 41.2, "mAP@R": 18.2,
                          "R-Precision": 18.2, "nDCG@10": 36.9},
    }  # fmt: skip
    known = replace(evaluation, metrics=metrics)
    vars(known)["intervals"] = {"rsum": (255.0, 271.25)}
    shown = table(known).splitlines()
    assert shown[0] == "photos, split dev: mean over 3 folds of 4"
    assert next(line for line in shown if line.startswith("image to text")).split()[3:] == [
        "22.8", "53.8", "66.6", "5.0", "20.5", "12.3", "14.2", "33.1",
    ]  # fmt: skip
    assert "rSum 264.4 (95 % interval 255.0 to 271.2)" in shown


def test_the_grounding_table_has_a_row_a_type(evaluation):
    shares = {"model": 63.8, "random": 40.9, "centre": 52.8, "best": 95.8}
    hits = dict.fromkeys(("pointing", "iou", "pointing_union", "iou_union"), shares)
    found = Grounding(hits, {"people": hits}, {"phrases": 2777, "phrases: people": 900})
    rows = [line.split() for line in table(evaluation, grounding=found).splitlines()[-2:]]
    assert rows == [
        ["all", "2777", *["63.8", "40.9", "52.8", "95.8"] * 2],
        ["people", "900", *["63.8", "40.9", "52.8", "95.8"] * 2],
    ]
    content = results(evaluation, model="m", grounding=found)["grounding"]
    assert content["pointing"]["model"] == 63.8
    assert content["by_type"]["people"]["iou"]["best"] == 95.8
    assert content["counts"]["phrases"] == 2777


def test_the_difference_table_names_both_systems(evaluation):
    lines = difference_table(
        compare(evaluation.per_query, evaluation.per_query, resamples=20), names=("one.json", "two.json")
    ).splitlines()
    assert lines[:2] == ["A: one.json", "B: two.json"]
    assert next(line for line in lines if line.startswith("rsum")).split()[-5:] == [
        "+0.00",
        "+0.00",
        "to",
        "+0.00",
        "1.0000",
    ]
