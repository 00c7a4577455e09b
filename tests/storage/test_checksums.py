"""Checksums of rows: the same for the same values, another one for whatever differs."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from han_retrieval.storage.arrays import list_of, to_lists, vector_of
from han_retrieval.storage.checksums import add_checksums, checksum_fields, checksums, damaged_rows

VECTORS = list_of(vector_of(pa.float16(), 2))
COPIES = pa.list_(pa.struct([("root", pa.string()), ("mtime", pa.int64())]))
COLUMNS = {
    "strings": pa.array(["a", "", None, "ä", "ab", "b"]),
    "numbers": pa.array([1, 2, None, 2**62, -1, 0], pa.int64()),
    "names": pa.array([["a", "b"], ["ab"], None, [], [""], ["", ""]], list_of(pa.string())),
    "scores": pa.array([[1.0, 2.0], [1.0], None, [], [0.0], [0.0, 0.0]], list_of(pa.float32())),
    "vectors": to_lists([np.ones((m, 2)) * m if m else None for m in (3, 1, 0, 2, 4, 5)], VECTORS),
    "one": pa.array([[i, i + 1] for i in range(6)], vector_of(pa.float16(), 2)),
    "copies": pa.array([[{"root": "r", "mtime": 1}], None, [], [{"root": "r", "mtime": 2}], None, None], COPIES),
}
TABLE = pa.table(COLUMNS)


@pytest.mark.parametrize("name", COLUMNS)
def test_each_value_has_its_own_and_slices_have_those_of_the_whole(name):
    whole = checksums(TABLE, [name])
    values = [repr(each) for each in COLUMNS[name].to_pylist()]
    assert len(set(whole.tolist())) == len(set(values))
    for first in range(6):
        assert np.array_equal(checksums(TABLE.slice(first, 3), [name]), whole[first : first + 3])
    pieces = pa.concat_tables([TABLE.slice(2, 4), TABLE.slice(0, 2)])
    assert np.array_equal(checksums(pieces, [name]), np.concatenate([whole[2:], whole[:2]]))
    assert np.array_equal(checksums(TABLE.take([5, 0, 3]), [name]), whole[[5, 0, 3]])


def test_the_order_of_columns_and_their_bounds_count():
    table = pa.table({"a": ["x", "xy"], "b": ["yz", "z"], "c": [[1.0], [2.0]], "d": [[2.0], [1.0]]})
    assert len({*checksums(table, ["a", "b"]).tolist(), *checksums(table, ["b", "a"]).tolist()}) == 4
    assert len({*checksums(table, ["c", "d"]).tolist(), *checksums(table, ["d", "c"]).tolist()}) == 2  # swapped values
    assert checksums(table, ["c", "d"])[0] != checksums(table, ["d", "c"])[0]


def test_a_row_that_changed_is_found_and_the_group_that_is_not_there_is_left_out():
    groups = {"plain_checksum": ("strings", "numbers"), "lists_checksum": ("vectors", "names", "scores")}
    schema = pa.schema([*TABLE.schema, *checksum_fields(groups)])
    table = add_checksums(TABLE, groups, schema)
    assert not damaged_rows(table, groups).any()
    changed = table.set_column(1, "numbers", pa.array([1, 2, None, 2**62, -1, 7], pa.int64()))
    assert damaged_rows(changed, groups).tolist() == [False] * 5 + [True]
    assert not damaged_rows(changed.drop_columns(["numbers"]), groups).any()
    assert add_checksums(TABLE, groups, TABLE.schema) is TABLE  # a table of before


def test_no_rows():
    assert checksums(TABLE.slice(0, 0), list(COLUMNS)).shape == (0,)
