"""Arrays of several rows an item as Arrow lists, and back: a column of boxes, features or tokens.

Legend: B items, m rows of an item (each has its own number), D numbers a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor


def list_of(value: pa.DataType) -> pa.ListType:
    """The type of a list of any length, without nulls in it."""
    import pyarrow as pa

    return pa.list_(pa.field("item", value, nullable=False))


def vector_of(value: pa.DataType, size: int) -> pa.FixedSizeListType:
    """The type of a list of ``size`` values, without nulls in it."""
    import pyarrow as pa

    return pa.list_(pa.field("item", value, nullable=False), size)


def to_lists(items: Sequence[np.ndarray | None], kind: pa.ListType) -> pa.ListArray:
    """B arrays (m, D) as one Arrow array of type ``list_of(vector_of(..., D))``, null for None."""
    import pyarrow as pa

    width = kind.value_type.list_size
    lengths = [0 if item is None else len(item) for item in items]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    present = [item for item in items if item is not None] or [np.empty((0, width))]
    flat = np.concatenate(present).astype(kind.value_type.value_type.to_pandas_dtype(), copy=False)
    values = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), type=kind.value_type)
    return pa.ListArray.from_arrays(
        pa.array(offsets), values, type=kind, mask=pa.array([item is None for item in items])
    )


def to_arrays(column: pa.ChunkedArray) -> list[np.ndarray | None]:
    """A column that ``to_lists`` made, as B arrays (m, D), None for null; they are views of the column.

    Of a column of plain lists, B arrays (m,).
    """
    import pyarrow as pa

    lists = column.combine_chunks()
    flat = lists.flatten()
    if pa.types.is_fixed_size_list(lists.type.value_type):
        flat = flat.flatten().to_numpy(zero_copy_only=False).reshape(-1, lists.type.value_type.list_size)
    else:
        flat = flat.to_numpy(zero_copy_only=False)
    lengths = lists.value_lengths().to_pylist()
    ends = np.cumsum([length or 0 for length in lengths])
    return [None if length is None else flat[end - length : end] for length, end in zip(lengths, ends, strict=True)]


def to_rows(column: pa.ChunkedArray) -> Tensor:
    """All rows of such a column, one after another: (sum of m, D), without a copy."""
    from torch.utils.dlpack import from_dlpack

    lists = column.combine_chunks()
    return from_dlpack(lists.flatten().flatten()).view(-1, lists.type.value_type.list_size)


def to_counts(column: pa.ChunkedArray) -> Tensor:
    """The number m of each item of such a column, (B,) int64."""
    import torch

    return torch.from_numpy(column.combine_chunks().value_lengths().to_numpy(zero_copy_only=False).astype("int64"))


def pad(rows: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (sum of m, D) of items that have ``counts`` (B,) each: (B, m, D), zero at padding, and the mask (B, m)."""
    import torch

    largest = int(counts.max()) if len(counts) else 0
    mask = torch.arange(largest) < counts[:, None]  # (B, m)
    if bool(mask.all()):
        return rows.view(len(counts), largest, rows.shape[1]), mask
    padded = rows.new_zeros(len(counts), largest, rows.shape[1])
    padded[mask] = rows
    return padded, mask
