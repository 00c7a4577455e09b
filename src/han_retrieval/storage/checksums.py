"""A checksum a row over columns that are read together, kept as a further column of the table.

Lance does not notice when a value of a file has changed since it was written. Checksums are 64 bits of XXH3.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

Groups = Mapping[str, Collection[str]]
"""The columns that each checksum column covers."""

_ROWS = 65536  # in one step, so that the joined text of a column stays below 2 GB
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, of the golden ratio: the order of columns counts


def checksum_fields(groups: Groups) -> list[pa.Field]:
    """The fields of a schema that hold the checksums."""
    import pyarrow as pa

    return [pa.field(name, pa.uint64(), nullable=False) for name in groups]


def has_checksums(names: Collection[str], groups: Groups) -> bool:
    """Whether a table with these columns has the checksums of all of them; a table of before lacks some columns."""
    return all(name in names for name, columns in groups.items() if set(columns) <= set(names))


def add_checksums(rows: pa.Table, groups: Groups, schema: pa.Schema) -> pa.Table:
    """The rows with the checksum columns that a schema has; a table that was made before has none."""
    for name in groups:
        if name in schema.names:
            rows = rows.append_column(schema.field(name), [checksums(rows, groups[name])])
    return rows


def damaged_rows(rows: pa.Table, groups: Groups) -> NDArray[np.bool_]:
    """Which rows are not as they were written, by the checksum columns that the table has."""
    wrong = np.zeros(len(rows), bool)
    for name in groups:
        if name in rows.column_names and set(groups[name]) <= set(rows.column_names):
            wrong |= checksums(rows, groups[name]) != rows[name].to_numpy()
    return wrong


def checksums(rows: pa.Table, columns: Collection[str]) -> NDArray[np.uint64]:
    """A checksum a row over some columns, in their order: strings, numbers, and lists of these."""
    parts = [_checksums(batch) for batch in rows.select(list(columns)).to_batches(max_chunksize=_ROWS)]
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def json_checksum(content: Any) -> str:
    """The checksum of what JSON can hold, 16 hexadecimal digits."""
    from xxhash import xxh3_64_hexdigest

    return str(xxh3_64_hexdigest(json.dumps(content, sort_keys=True).encode()))


def _checksums(batch: pa.RecordBatch) -> NDArray[np.uint64]:
    import pyarrow as pa
    import pyarrow.compute as pc

    result = np.zeros(len(batch), np.uint64)
    plain = [column for column in batch.columns if not pa.types.is_nested(column.type)]
    if plain:
        texts = [column.cast(pa.string()) for column in plain]
        joined = pc.binary_join_element_wise(*texts, "\0", null_handling="replace", null_replacement="\1")
        result = _of_strings(joined)
    for column in batch.columns:
        if pa.types.is_nested(column.type):
            result = result * _FACTOR + np.where(column.is_null(), np.uint64(0), _of_lists(column))
    return result


def _of_lists(column: pa.Array) -> NDArray[np.uint64]:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_struct(kind.value_type):
        texts = [None if each is None else json.dumps(each.as_py(), ensure_ascii=False) for each in _valid(column)]
        return _of_strings(pa.array(texts, pa.string()))
    if pa.types.is_string(kind.value_type):
        counts = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.uint64)
        return _of_strings(pc.binary_join(column.cast(pa.list_(pa.string())), "\0")) + counts * _FACTOR
    if pa.types.is_fixed_size_list(kind):
        lengths, flat = np.full(len(column), kind.list_size), column.flatten()
    else:
        lengths, flat = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False), column.flatten()
        if pa.types.is_fixed_size_list(kind.value_type):
            lengths, flat = lengths * kind.value_type.list_size, flat.flatten()
    values = flat.to_numpy(zero_copy_only=False)
    ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]) * values.itemsize
    return _digests(np.ascontiguousarray(values).view(np.uint8).data, ends)


def _valid(column: pa.Array) -> Iterator[Any]:
    """The values, None for null: most lists of copies are, and to make these objects costs much."""
    there = column.is_valid().to_numpy(zero_copy_only=False)
    return (column[place] if is_there else None for place, is_there in enumerate(there.tolist()))


def _of_strings(column: pa.Array) -> NDArray[np.uint64]:
    _, ends, data = column.buffers()
    if data is None:
        return _digests(memoryview(b""), np.zeros(len(column) + 1, np.int64))
    return _digests(memoryview(data), np.frombuffer(ends, np.int32, len(column) + 1, column.offset * 4))


def _digests(data: memoryview, ends: NDArray[Any]) -> NDArray[np.uint64]:
    from xxhash import xxh3_64_intdigest

    parts = (xxh3_64_intdigest(data[first:end]) for first, end in pairwise(ends.tolist()))
    return np.fromiter(parts, np.uint64, len(ends) - 1)
