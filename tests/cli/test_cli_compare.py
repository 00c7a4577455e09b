import json

import numpy as np
import pytest
from click.testing import CliRunner

from han_retrieval.cli.compare import compare
from han_retrieval.errors import HANError


def write(path, *, hit, images=30, model="m", **fields):
    """A file of `han evaluate --json` with nothing but what comparing needs."""
    ids = [f"{i}" for i in range(images)]
    queries = {}
    for way, names in (("image_to_text", ids), ("text_to_image", [f"{i}#0" for i in ids])):
        rank = np.where(np.arange(images) < hit, 1, 30).tolist()
        first = [float(r == 1) for r in rank]
        queries[way] = {"id": names, "image": ids, "fold": [0] * images, "rank": rank, "AP@R": first,
                        "R-Precision": first, "nDCG@10": first}  # fmt: skip
    path.write_text(json.dumps({"model": model, "queries": queries, **fields}))
    return str(path)


def test_compare_prints_both_systems_and_their_difference(tmp_path):
    a, b = write(tmp_path / "a.json", hit=3, model="small"), write(tmp_path / "b.json", hit=27, model="large")
    result = CliRunner().invoke(compare, [a, b], catch_exceptions=False)
    lines = result.stdout.splitlines()
    assert lines[:2] == [f"A: {a} (small)", f"B: {b} (large)"]
    row = next(line for line in lines if line.startswith("image to text R@1 ")).split()
    assert row[-7:-4] == ["10.00", "90.00", "+80.00"]
    assert float(row[-1]) < 0.001


def test_compare_as_json_is_the_same_every_time(tmp_path):
    a, b = write(tmp_path / "a.json", hit=10), write(tmp_path / "b.json", hit=14)
    first, again = (CliRunner().invoke(compare, [a, b, "--json"], catch_exceptions=False) for _ in range(2))
    assert first.stdout == again.stdout
    rows = {row["metric"]: row for row in json.loads(first.stdout)}
    assert rows["rsum"]["difference"] == pytest.approx(6 * 100 * 4 / 30)
    assert rows["rsum"]["low"] < rows["rsum"]["difference"] < rows["rsum"]["high"]


def test_compare_refuses_another_protocol(tmp_path):
    old = write(tmp_path / "old.json", hit=10)  # of a version that did not write the field
    negative = write(tmp_path / "negative.json", hit=14, equal_captions="negative")
    relevant = write(tmp_path / "relevant.json", hit=14, equal_captions="relevant")
    for alike in ([old, negative], [relevant, relevant]):
        assert CliRunner().invoke(compare, alike, catch_exceptions=False).exit_code == 0
    for apart in ([old, relevant], [relevant, negative]):
        error = CliRunner().invoke(compare, apart).exception
        assert isinstance(error, HANError)
        assert "different protocols (--equal-captions " in str(error)
        assert "\n" not in str(error)
    unknown = write(tmp_path / "unknown.json", hit=14, equal_captions="often")
    assert "equal_captions" in str(CliRunner().invoke(compare, [old, unknown]).exception)


@pytest.mark.parametrize(
    ("other", "message"),
    [("photos.txt", "line 1: broken JSON"), ("none.json", "no such file"),
     ("more.json", "different queries")],
)  # fmt: skip
def test_compare_refuses_what_it_cannot_compare(tmp_path, other, message):
    a = write(tmp_path / "a.json", hit=1)
    (tmp_path / "photos.txt").write_text("x")
    write(tmp_path / "more.json", hit=1, images=31)
    result = CliRunner().invoke(compare, [a, str(tmp_path / other)])
    assert isinstance(result.exception, HANError)
    assert message in str(result.exception)
    assert result.stdout == ""
