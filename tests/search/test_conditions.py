"""Conditions on photos: what they may hold, and that nobody's condition takes long or reads anything else."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from served import make_index

from han_retrieval.errors import QueryError
from han_retrieval.search import Index
from han_retrieval.search.conditions import _KEYWORDS, FILTER_COLUMNS, FUNCTIONS, check_condition

ALLOWED = [
    "date >= '2024-01-01' and folder like 'trips/%'",
    "height>width",
    "PATH = 'a.jpg' OR Width > 3",
    "path <> 'b''s.jpg' and path != '写真' and not path = 'x\\'",
    "width between 1 and 200 and height in (160, 240, -1)",
    "camera is null or date is not null",
    "path ilike '%.JPG' and path not like 'd\\%%'",
    "lower(path) = 'a.jpg' or starts_with(folder, 'trips/') or ends_with(path, '.png') or contains(path, 'é')",
    "width * height > 1e4 or width % 2 = 0 and size - 1 > 2.0 or mtime / 2 < 5",
    "(" * 40 + "width > 3" + ")" * 40,
    "width\n>\t3",
    "id in (" + ", ".join(f"'{i:032}'" for i in range(250)) + ")",
    " or ".join(["width = 1"] * 200),
]
REFUSED = [
    ("levenshtein(repeat(path,2000),repeat(id,2000))>0", "'levenshtein' is not known"),
    ("array_length(array_repeat(1,1000000000))>0", "'array_length' is not known"),
    ("lower(repeat(path, 9)) = ''", "'repeat' is not known"),
    ("path in (select path from t)", "'select' is not known"),
    ("exists (select 1)", "'exists' is not known"),
    ("path = (select content from read_text('/etc/passwd'))", "'select' is not known"),
    ("regexp_like(path, '(a+)+$')", "'regexp_like' is not known"),
    ("path ~ 'a'", "cannot be read"),
    ("path || path = ''", "cannot be read"),
    ("cast(path as int) > 1", "'cast' is not known"),
    ("case when true then true end", "'case' is not known"),
    ("path('x') = 'a'", "path is a column, no function"),
    ("lower = 'a'", "'lower' is not known"),
    ("\"path\" = 'a'", "cannot be read"),
    ("`path` = 'a'", "cannot be read"),
    ("path = 'a' ; drop table t", "cannot be read"),
    ("path = 'a' /* ' */", "cannot be read"),
    ("path = 'a", "cannot be read"),
    ("path = x'00'", "'x' is not known"),
    ("_rowid = 1", "'_rowid' is not known"),
    ("copies is null", "'copies' is not known"),
    ("path like id", "a pattern in single quotes must follow like"),
    ("path like", "a pattern in single quotes must follow like"),
    ("path like '" + "%a" * 400 + "'", "more than 20 of % and _"),
    ("width" + "+1" * 490 + " > 1", "more than 20 operators stand in a row"),
    ("true" + " is null" * 490, "more than 20 operators stand in a row"),
    ("(" * 2000 + "true" + ")" * 2000, "40 others are open"),
    ("true) or (true", "a bracket is not opened"),
    ("((true)", "a bracket is not closed"),
    ("width in (" + "1, " * 1000 + "1)", "more than 1,000"),
    ("path = '" + "a" * 20_000 + "'", "more than 10,000"),
    ("(" * 41 + "true" + ")" * 41, "40 others are open"),
    ("width / 0 = 1", "cannot be used"),
]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    with Index.open(make_index(tmp_path_factory.mktemp("conditions"))) as index:
        yield index


@pytest.mark.parametrize("where", ALLOWED)
def test_what_is_allowed_means_what_it_means_to_the_engine(index, where):
    found = index._dataset.scanner(columns=["id"], filter=where).to_table()["id"].to_pylist()
    assert sorted(index.photos["id"][row].as_py() for row in index.filter(where)) == sorted(found)
    assert check_condition(check_condition(where)) == check_condition(where)


@pytest.mark.parametrize(("where", "says"), REFUSED)
def test_what_is_not_is_refused_at_once_in_one_line(index, where, says):
    began = time.perf_counter()
    with pytest.raises(QueryError) as error:
        index.filter(where)
    assert time.perf_counter() - began < 5
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert "lower, upper, length" in str(error.value)  # what may stand there
    assert len(str(error.value)) < 1_500


PIECES = [
    *FILTER_COLUMNS,
    *FUNCTIONS,
    *_KEYWORDS,
    *'=<+-*/%(),~;"\\\0é',
    "<>",
    "--",
    "/*",
    "1",
    ".5",
    "''",
    "'a'",
    "'a%'",
]


@given(st.lists(st.sampled_from(PIECES), max_size=40).map(" ".join) | st.text(max_size=100))
def test_whatever_is_written_gives_photos_or_one_line(index, where):
    try:
        rows = set(index.filter(where))
    except QueryError as error:
        rows = {*str(error)} & {"\n"}
    assert rows <= set(range(len(index)))
