"""Rows of a region store: photos with their regions as an Arrow table, and back.

Legend: B photos, m regions (each photo has its own number of them), D numbers a feature, P numbers a pooled vector.

Features are List<FixedSizeList<float16>[D]>, so that any m fits, the schema says what the numbers are, and a batch is
read without copying each photo. Opaque bytes were no faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from han_retrieval.errors import DataError
from han_retrieval.regions.regions import Regions
from han_retrieval.storage.arrays import list_of, pad, to_arrays, to_counts, to_lists, to_rows, vector_of
from han_retrieval.storage.checksums import checksum_fields

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

NOT_FINITE = "a feature is NaN, infinite or beyond 65504, the largest float16 number"


class RegionRow(NamedTuple):
    """A photo for a region store: its id, its file (None where there is none) and its regions."""

    id: str
    path: Path | None
    regions: Regions


@dataclass(frozen=True, slots=True)
class RegionBatch:
    """The regions of B photos, padded to the largest m among them.

    Attributes:
        features: (B, m, D) float32, zero at padding.
        mask: (B, m) bool, true where there is a region.
        boxes: For each photo (m, 4) float32 x0 y0 x1 y1 in pixels of the upright photo, not padded, or None.
        pooled: (B, P) float32, the image tower's vector of each whole photo; None where a photo has none.
    """

    features: torch.Tensor
    mask: torch.Tensor
    boxes: list[np.ndarray | None]
    pooled: torch.Tensor | None = None


class StoredPhoto(NamedTuple):
    """A photo of a region store without its regions; width and height are 0 where they are not known."""

    id: str
    path: Path | None
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class StoreSummary:
    """What a region store holds, in numbers.

    Attributes:
        fingerprint: The detector that made the features.
        feature_size: D.
        photos: How many photos.
        with_boxes: How many of them have boxes.
        pooled_size: P; 0 where photos have no pooled vectors.
        regions_min, regions_mean, regions_max: Regions a photo; 0 in an empty store.
        bytes_a_photo: Of the data files; 0 in an empty store.
    """

    fingerprint: str
    feature_size: int
    photos: int
    with_boxes: int
    pooled_size: int
    regions_min: int
    regions_mean: float
    regions_max: int
    bytes_a_photo: float


PHOTO = ("id", "path", "width", "height", "regions")
"""The columns of a photo without its regions."""

CHECKSUMS = {
    "photo_checksum": PHOTO,
    "regions_checksum": ("features", "boxes"),
    "names_checksum": ("labels", "scores"),
    "pooled_checksum": ("pooled",),
}
"""The columns of checksums, by what is read together; see ``storage/checksums``."""


def row_schema(feature_size: int) -> pa.Schema:
    """The columns of a region store."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("path", pa.string()),
            pa.field("width", pa.int32(), nullable=False),
            pa.field("height", pa.int32(), nullable=False),
            pa.field("regions", pa.int32(), nullable=False),  # m, known without reading features
            pa.field("boxes", list_of(vector_of(pa.float32(), 4))),
            pa.field("labels", list_of(pa.string())),
            pa.field("scores", list_of(pa.float32())),
            pa.field("features", list_of(vector_of(pa.float16(), feature_size)), nullable=False),
            pa.field("pooled", list_of(pa.float16())),  # P is known with the first photo; older stores lack the column
            *checksum_fields(CHECKSUMS),
        ]
    )


def to_table(rows: Sequence[RegionRow], schema: pa.Schema) -> pa.Table:
    """The rows as a table of that schema, without checksums.

    Raises:
        DataError: A feature is NaN or too large for float16.
        ValueError: Regions are not of the shapes and types that ``Regions`` promises, or a photo has none.
    """
    import pyarrow as pa

    for row in rows:
        _check(row, schema.field("features").type.value_type.list_size)
    regions = [row.regions for row in rows]
    return pa.table(
        {
            "id": [row.id for row in rows],
            "path": [None if row.path is None else str(row.path) for row in rows],
            "width": [each.width for each in regions],
            "height": [each.height for each in regions],
            "regions": [len(each.features) for each in regions],
            "boxes": to_lists([each.boxes for each in regions], schema.field("boxes").type),
            "labels": [each.labels for each in regions],
            "scores": [each.scores for each in regions],
            "features": to_lists([each.features for each in regions], schema.field("features").type),
            "pooled": [each.pooled for each in regions],
        },
        schema=pa.schema([field for field in schema if field.name not in CHECKSUMS]),
    )


def to_regions(table: pa.Table) -> list[Regions]:
    """The photos of a table that was read; arrays are views of it, not to be written to."""
    fields = zip(
        to_arrays(table["features"]),
        to_arrays(table["boxes"]),
        table["width"].to_pylist(),
        table["height"].to_pylist(),
        table["labels"].to_pylist(),
        table["scores"].to_pylist(),
        _vectors(table),
        strict=True,
    )
    return [
        Regions(
            features=features,
            boxes=boxes,
            width=width,
            height=height,
            labels=None if labels is None else tuple(labels),
            scores=None if scores is None else np.asarray(scores, dtype=np.float32),
            pooled=pooled,
        )
        for features, boxes, width, height, labels, scores, pooled in fields
        if features is not None
    ]


def to_batch(table: pa.Table) -> RegionBatch:
    """The photos of a table with the columns boxes and features, and pooled where the store has it, padded."""
    counts = to_counts(table["features"])  # (B,)
    features, mask = pad(to_rows(table["features"]).float(), counts)
    return RegionBatch(features, mask, to_arrays(table["boxes"]), _stacked(_vectors(table)))


def batch_of(found: Sequence[Regions]) -> RegionBatch:
    """The regions of photos, one or more of each, padded."""
    import torch

    inputs = [torch.tensor(regions.features, dtype=torch.float32) for regions in found]  # (m, D)
    features, mask = pad(torch.cat(inputs), torch.tensor([len(each) for each in inputs]))
    return RegionBatch(
        features, mask, [regions.boxes for regions in found], _stacked([regions.pooled for regions in found])
    )


def interleave(parts: Sequence[tuple[Sequence[int], RegionBatch]]) -> RegionBatch:
    """Several batches as one, padded to the largest m among them.

    Args:
        parts: Each batch with the places of its photos; the places of all are 0 to B - 1. Features are of one size, and
            so are pooled vectors.
    """
    import torch

    places = [place for of_part, _ in parts for place in of_part]
    most = max(batch.mask.shape[1] for _, batch in parts)
    first = parts[0][1].features
    features = first.new_zeros(len(places), most, first.shape[2])
    mask = torch.zeros(len(places), most, dtype=torch.bool)
    boxes: list[np.ndarray | None] = [None] * len(places)
    pooled = None
    vectors = [batch.pooled for _, batch in parts if batch.pooled is not None]
    if len(vectors) == len(parts):
        pooled = torch.empty_like(torch.cat(vectors))
        pooled[places] = torch.cat(vectors)
    for of_part, batch in parts:
        m = batch.mask.shape[1]
        features[of_part, :m], mask[of_part, :m] = batch.features, batch.mask
        for place, of_photo in zip(of_part, batch.boxes, strict=True):
            boxes[place] = of_photo
    return RegionBatch(features, mask, boxes, pooled)


def _vectors(table: pa.Table) -> list[np.ndarray | None]:
    """The pooled vectors (P,) of a table; all None where the store is older than the column."""
    if "pooled" not in table.column_names:
        return [None] * len(table)
    return to_arrays(table["pooled"])


def _stacked(vectors: Sequence[np.ndarray | None]) -> torch.Tensor | None:
    """B vectors (P,) as (B, P) float32; None where one is missing."""
    import torch

    there = [vector for vector in vectors if vector is not None]
    return torch.from_numpy(np.stack(there).astype(np.float32)) if there and len(there) == len(vectors) else None


def _check(row: RegionRow, feature_size: int) -> None:
    features, boxes = row.regions.features, row.regions.boxes
    if features.dtype != np.float16 or features.ndim != 2 or features.shape[1] != feature_size or len(features) == 0:
        raise ValueError(
            f"photo {row.id!r}: features are {features.dtype} {features.shape}, not float16 (m, {feature_size}), m > 0"
        )
    for name, part, shape in (
        ("boxes", boxes, (len(features), 4)),
        ("labels", row.regions.labels, (len(features),)),
        ("scores", row.regions.scores, (len(features),)),
    ):
        if part is not None and np.shape(part) != shape:
            raise ValueError(f"photo {row.id!r}: {name} have the shape {np.shape(part)}, not {shape}")
    pooled = row.regions.pooled
    if pooled is not None and (pooled.dtype != np.float16 or pooled.ndim != 1 or not len(pooled)):
        raise ValueError(f"photo {row.id!r}: its pooled vector is {pooled.dtype} {pooled.shape}, not float16 (P,)")
    for part in (features, pooled):
        if part is not None and not np.isfinite(part).all():
            raise DataError(f"photo {row.id!r}: {NOT_FINITE}")
