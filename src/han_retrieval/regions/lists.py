"""Arrays of some rows an item as Arrow lists, and back: a column of boxes, features or tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor


def many(value: pa.DataType) -> pa.DataType:
    """Any number of values, none of them null."""
    return pa.list_(pa.field("item", value, nullable=False))


def numbers(value: pa.DataType, size: int) -> pa.DataType:
    """So many values, none of them null."""
    return pa.list_(pa.field("item", value, nullable=False), size)


def to_lists(parts: Sequence[np.ndarray | None], kind: pa.ListType) -> pa.ListArray:
    """Arrays of (m, width), one a photo, as one Arrow list array."""
    width = kind.value_type.list_size
    lengths = [0 if part is None else len(part) for part in parts]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    present = [part for part in parts if part is not None] or [np.empty((0, width))]
    flat = np.concatenate(present).astype(kind.value_type.value_type.to_pandas_dtype(), copy=False)
    values = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), type=kind.value_type)
    return pa.ListArray.from_arrays(
        pa.array(offsets), values, type=kind, mask=pa.array([part is None for part in parts])
    )


def to_arrays(column: pa.ChunkedArray) -> list[np.ndarray | None]:
    """One Arrow list array as arrays of (m, width), one a photo, None where it holds null."""
    lists = column.combine_chunks()
    flat = lists.flatten().flatten().to_numpy(zero_copy_only=False).reshape(-1, lists.type.value_type.list_size)
    lengths = lists.value_lengths().to_pylist()
    ends = np.cumsum([length or 0 for length in lengths])
    return [None if length is None else flat[end - length : end] for length, end in zip(lengths, ends, strict=True)]


def pad(flat: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (sum of m, D) of items that have m each, counts (B,): (B, m, D), zero at padding, and its mask."""
    largest = int(counts.max()) if len(counts) else 0
    mask = torch.arange(largest) < counts[:, None]  # (B, m)
    if bool(mask.all()):
        return flat.view(len(counts), largest, flat.shape[1]), mask
    padded = flat.new_zeros(len(counts), largest, flat.shape[1])
    padded[mask] = flat
    return padded, mask
