"""Convert photos with their tokens to rows of an Arrow table, and back.

Legend: m regions of a photo (each has its own number of them), d numbers a token, e numbers a pooled vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from han_retrieval.data import PhotoInfo
from han_retrieval.storage.arrays import list_of, pad, to_counts, to_lists, to_rows, vector_of
from han_retrieval.storage.checksums import checksum_fields

if TYPE_CHECKING:
    from torch import Tensor

    from han_retrieval.scoring import Tokens

STORAGES = {"int8": pa.int8(), "float16": pa.float16()}
"""How tokens are stored, by Arrow type; int8 comes with a scale a token."""
DEFAULT_STORAGE = "int8"


class PhotoFile(NamedTuple):
    """A file of a photo: its root, its path from there, and when it was written, in nanoseconds."""

    root: str
    path: str
    mtime: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """What an index stores of a photo's pixels.

    Attributes:
        width, height: Of the upright photo in pixels.
        boxes: (m, 4) float32 x0 y0 x1 y1 in pixels of the upright photo, or None.
        labels: m names, or None.
        tokens: (m, d) int8 or float16.
        scales: (m,) float32, None for float16.
        pooled: (e,) float16.
    """

    width: int
    height: int
    boxes: np.ndarray | None
    labels: tuple[str, ...] | None
    tokens: np.ndarray
    scales: np.ndarray | None
    pooled: np.ndarray


class PhotoRow(NamedTuple):
    """A photo of an index.

    Attributes:
        id: The BLAKE2b hash of its content, 32 hexadecimal digits.
        files: All files with this content, in order; at least one.
        size: Of a file, in bytes.
        info: What the file says of it.
        encoded: All else.
    """

    id: str
    files: tuple[PhotoFile, ...]
    size: int
    info: PhotoInfo
    encoded: Encoded


_COPIES = pa.list_(
    pa.field(
        "item",
        pa.struct([pa.field("root", pa.string()), pa.field("path", pa.string()), pa.field("mtime", pa.int64())]),
    )
)

_PLACES = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("root", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("folder", pa.string(), nullable=False),  # of the path: '' or 'trips/2024/', with the slash
        pa.field("mtime", pa.int64(), nullable=False),
        pa.field("copies", _COPIES),
    ]
)

_FACTS = pa.schema(
    [
        pa.field("size", pa.int64(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("date", pa.string()),
        pa.field("camera", pa.string()),
        pa.field("regions", pa.int32(), nullable=False),
    ]
)

_SAID = pa.schema(
    [
        pa.field("text", pa.string()),
        pa.field("latitude", pa.float64()),
        pa.field("longitude", pa.float64()),
        pa.field("place", pa.string()),
    ]
)
"""What a photo's file says of it; an index of before lacks these columns."""

COLUMNS = [*_PLACES.names, *_FACTS.names, *_SAID.names]
"""The columns of a photo without its regions."""


CHECKSUMS = {
    "places_checksum": tuple(_PLACES.names),
    "facts_checksum": tuple(_FACTS.names),
    "said_checksum": tuple(_SAID.names),
    "regions_checksum": ("boxes", "labels"),
    "tokens_checksum": ("tokens", "scales"),
    "pooled_checksum": ("pooled",),
}
"""The columns of checksums, by what is read together; see ``storage/checksums``."""


def row_schema(joint_size: int, pooled_size: int, storage: str) -> pa.Schema:
    """The columns of an index."""
    return pa.schema(
        [
            *_PLACES,
            *_FACTS,
            *_SAID,
            pa.field("boxes", list_of(vector_of(pa.float32(), 4))),
            pa.field("labels", list_of(pa.string())),
            pa.field("tokens", list_of(vector_of(STORAGES[storage], joint_size)), nullable=False),
            pa.field("scales", list_of(pa.float32())),
            pa.field("pooled", vector_of(pa.float16(), pooled_size), nullable=False),
            *checksum_fields(CHECKSUMS),
        ]
    )


def columns_of(schema: pa.Schema) -> list[str]:
    """Those of ``COLUMNS`` that a table has."""
    return [name for name in COLUMNS if name in schema.names]


def with_all_columns(table: pa.Table) -> pa.Table:
    """The ``COLUMNS`` of a table, with nulls for those that it lacks."""
    for field in _SAID:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select(COLUMNS)


def to_table(rows: Sequence[PhotoRow], schema: pa.Schema) -> pa.Table:
    """Photos as a table of a schema, without checksums."""
    places = to_places({row.id: row.files for row in rows})
    contents = [row.encoded for row in rows]
    return pa.table(
        {
            **{name: places[name] for name in places.column_names},
            "size": [row.size for row in rows],
            "width": [each.width for each in contents],
            "height": [each.height for each in contents],
            "date": [row.info.date for row in rows],
            "camera": [row.info.camera for row in rows],
            **{name: [getattr(row.info, name) for row in rows] for name in _SAID.names if name in schema.names},
            "regions": [len(each.tokens) for each in contents],
            "boxes": to_lists([each.boxes for each in contents], schema.field("boxes").type),
            "labels": [each.labels for each in contents],
            "tokens": to_lists([each.tokens for each in contents], schema.field("tokens").type),
            "scales": [each.scales for each in contents],
            "pooled": pa.FixedSizeListArray.from_arrays(
                pa.array(np.stack([each.pooled for each in contents]).reshape(-1)), type=schema.field("pooled").type
            ),
        },
        schema=pa.schema([field for field in schema if field.name not in CHECKSUMS]),
    )


def to_places(files: Mapping[str, Sequence[PhotoFile]]) -> pa.Table:
    """The files of photos, by their ids, as the columns that hold them."""
    first = [places[0] for places in files.values()]
    return pa.table(
        {
            "id": list(files),
            "root": [file.root for file in first],
            "path": [file.path for file in first],
            "folder": [file.path[: file.path.rfind("/") + 1] for file in first],
            "mtime": [file.mtime for file in first],
            "copies": [[file._asdict() for file in places[1:]] or None for places in files.values()],
        },
        schema=_PLACES,
    )


def to_files(table: pa.Table) -> dict[str, tuple[PhotoFile, ...]]:
    """The files of each photo by its id, from a table with the columns that hold them."""
    return dict(zip(table["id"].to_pylist(), files_of(table), strict=True))


def files_of(table: pa.Table) -> Iterator[tuple[PhotoFile, ...]]:
    """The files of each row."""
    columns = (table[name].to_pylist() for name in ("root", "path", "mtime", "copies"))
    for root, path, mtime, copies in zip(*columns, strict=True):
        yield PhotoFile(root, path, mtime), *(PhotoFile(**copy) for copy in copies or ())


def newest_first(photos: pa.Table) -> NDArray[np.int64]:
    """(N,) rows by date, newest first; those without a date come last, by the time their file was written."""
    order = photos.select(["date", "mtime"]).append_column("row", pa.array(range(len(photos)), pa.int64()))
    order = order.sort_by([("date", "descending"), ("mtime", "descending"), ("row", "ascending")])
    return np.asarray(order["row"].to_numpy(), dtype=np.int64)


def to_tokens(table: pa.Table) -> tuple[Tokens, Tensor]:
    """The columns tokens and scales as (K, m, d), zero at padding, and the mask (K, m)."""
    import torch

    from han_retrieval.scoring import Tokens

    counts = to_counts(table["tokens"])
    if not len(counts):
        size = table["tokens"].type.value_type.list_size
        return Tokens.store(torch.zeros(0, 0, size), "float16"), torch.zeros(0, 0, dtype=torch.bool)
    flat = to_rows(table["tokens"])  # (sum of m, d)
    values, mask = pad(flat, counts)
    scale = torch.ones(mask.shape)
    if flat.dtype == torch.int8:
        scale[mask] = torch.from_numpy(np.array(table["scales"].combine_chunks().flatten()))
    return Tokens(values, scale), mask


def to_vectors(column: pa.ChunkedArray) -> np.ndarray:
    """The column pooled as (N, e) float32."""
    lists = column.combine_chunks()
    flat = lists.flatten().to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(flat.reshape(len(lists), lists.type.list_size), dtype=np.float32)
