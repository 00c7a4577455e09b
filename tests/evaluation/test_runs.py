from urllib.parse import unquote

import ir_measures
import numpy as np
import pytest
from ir_measures import AP, RR, Rprec, Success, nDCG

from han_retrieval.evaluation.metrics import query_results
from han_retrieval.evaluation.relevance import Relevance
from han_retrieval.evaluation.runs import write_runs


def five_each(images, *, name="{}.jpg"):
    return Relevance.of([name.format(i) for i in range(images)], [(i, k) for i in range(images) for k in range(5)])


def read(path):
    return [line.split() for line in path.read_text(encoding="utf-8").splitlines()]


def test_ir_measures_reads_them_and_finds_the_same(tmp_path):
    rng = np.random.default_rng(0)
    relevance = five_each(30)
    scores = rng.permutation(30 * 150).reshape(30, 150).astype(np.float32)  # no ties: trec_eval breaks them by name
    scores[relevance.caption_image, np.arange(150)] += 800.5
    per_query = query_results(scores, relevance)
    files = write_runs(tmp_path / "dev.run", scores, relevance, depth=150)
    assert [file.name for file in files] == [
        "dev.image_to_text.run", "dev.image_to_text.qrels", "dev.text_to_image.run", "dev.text_to_image.qrels",
    ]  # fmt: skip
    for way, relevant in (("image_to_text", 5), ("text_to_image", 1)):
        run = list(ir_measures.read_trec_run(str(tmp_path / f"dev.{way}.run")))
        qrels = list(ir_measures.read_trec_qrels(str(tmp_path / f"dev.{way}.qrels")))
        wanted = [RR, Rprec, AP @ relevant, Success @ 1, Success @ 5, Success @ 10, nDCG @ 10]
        found = {measure: {} for measure in wanted}
        for row in ir_measures.iter_calc(wanted, qrels, run):
            found[row.measure][row.query_id] = row.value
        queries = per_query[way]
        assert len(set(queries.rank.tolist())) > 3
        for measure, ours in (
            (RR, 1 / queries.rank),
            (Rprec, queries.r_precision),
            (AP @ relevant, queries.average_precision),
            (Success @ 1, queries.rank <= 1),
            (Success @ 5, queries.rank <= 5),
            (Success @ 10, queries.rank <= 10),
            (nDCG @ 10, queries.ndcg),
        ):
            assert set(found[measure]) == set(queries.ids)
            assert [found[measure][query] for query in queries.ids] == pytest.approx(ours.astype(float), abs=1e-6)


def test_a_run_that_is_called_as_qrels_takes_not_their_place(tmp_path):
    relevance = five_each(3)
    files = write_runs(tmp_path / "dev.qrels", np.zeros((3, 15), np.float32), relevance)
    assert len(set(files)) == 4
    assert [len(line) for line in read(tmp_path / "dev.image_to_text.qrels")] == [4] * 15


def test_names_with_spaces_stay_one_field_and_come_back(tmp_path):
    names = ["a b.jpg", "c\t100%.jpg", "d\u00a0e\u3000f.jpg"]
    relevance = Relevance.of(names, [(0, 0), (1, 0), (2, 0)])
    write_runs(tmp_path / "x.run", np.eye(3, dtype=np.float32), relevance)
    for way in ("image_to_text", "text_to_image"):
        lines = read(tmp_path / f"x.{way}.run")
        assert all(len(line) == 6 for line in lines)
        assert {unquote(line[0]).removesuffix("#0") for line in lines} == set(names)
        assert [(unquote(q).removesuffix("#0"), unquote(d).removesuffix("#0")) for q, _, d, _ in read(
            tmp_path / f"x.{way}.qrels"
        )] == [(name, name) for name in names]  # fmt: skip


def test_depth_order_and_ties_against_the_system(tmp_path):
    relevance = Relevance.of(["a", "b"], [(0, 0), (0, 1), (1, 0), (1, 1)])
    scores = np.array([[1, 2, 2, 1], [0.1, 0.1, 0.1, 0.1]], dtype=np.float32)
    write_runs(tmp_path / "run", scores, relevance, depth=3)
    assert read(tmp_path / "run.image_to_text.run") == [
        ["a", "Q0", "b#0", "1", "2", "han"],
        ["a", "Q0", "a#1", "2", "2", "han"],
        ["a", "Q0", "b#1", "3", "1", "han"],
        ["b", "Q0", "a#0", "1", "0.100000001", "han"],
        ["b", "Q0", "a#1", "2", "0.100000001", "han"],
        ["b", "Q0", "b#0", "3", "0.100000001", "han"],
    ]
    assert len(read(tmp_path / "run.text_to_image.run")) == 8  # two documents are all there are


def test_scores_come_back_exactly(tmp_path):
    scores = np.random.default_rng(0).standard_normal((4, 20)).astype(np.float32)
    relevance = five_each(4, name="{}")
    write_runs(tmp_path / "r.run", scores, relevance)
    for query, _, document, _, score, _ in read(tmp_path / "r.image_to_text.run"):
        assert np.float32(score) == scores[int(query), relevance.caption_ids.index(document)]


def test_with_folds_a_query_ranks_its_fold(tmp_path):
    relevance = five_each(4, name="{}")
    write_runs(tmp_path / "r.run", np.zeros((4, 20), dtype=np.float32), relevance, folds=2)
    pairs = {(line[0], line[2].partition("#")[0]) for line in read(tmp_path / "r.image_to_text.run")}
    assert pairs == {(q, d) for fold in ("01", "23") for q in fold for d in fold}
    assert len(read(tmp_path / "r.text_to_image.run")) == 20 * 2


def test_an_image_without_captions_is_a_document_only(tmp_path):
    write_runs(tmp_path / "r.run", np.ones((2, 1), dtype=np.float32), Relevance.of(["a", "b"], [(0, 0)]))
    assert [line[0] for line in read(tmp_path / "r.image_to_text.run")] == ["a"]
    assert [line[2] for line in read(tmp_path / "r.text_to_image.run")] == ["b", "a"]
