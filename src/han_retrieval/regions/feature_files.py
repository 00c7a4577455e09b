"""Feature files of other programs, read image by image: SCAN's ``.npy``, bottom-up-attention's TSV and ``.npz``.

Legend: N images, m regions, D numbers a feature.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from han_retrieval.data.arrays import read_npz
from han_retrieval.data.builder import split_of
from han_retrieval.data.files import reading
from han_retrieval.data.photos import PHOTO_SUFFIXES
from han_retrieval.data.scan import open_rows, scan_image_ids, scan_splits
from han_retrieval.errors import DataError
from han_retrieval.parsing import LINE_BYTES, numbered_lines, shown
from han_retrieval.regions.regions import Regions

BOTTOM_UP_FIELDS = ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features")
LXMERT_FIELDS = (
    *("img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf"),
    *("num_boxes", "boxes", "features"),
)
NPZ_FIELDS = ("x", "bbox", "num_bbox", "image_h", "image_w")


class StoredImage(NamedTuple):
    """An image of a feature file: its id there, its place for messages, and a function that reads it."""

    id: str
    where: str
    load: Callable[[], Regions]


class FeatureFormat(NamedTuple):
    """A test that recognises a format, and a function that reads a source: how many images (or None), and each."""

    recognises: Callable[[Path], bool]
    images: Callable[[Path, str | None], tuple[int | None, Iterator[StoredImage]]]


# SCAN: {split}_ims.npy of N x m x D, an image a row or as many equal rows as it has captions.


def _is_npy(source: Path) -> bool:
    return any(source.glob("*_ims.npy")) if source.is_dir() else source.name.endswith("_ims.npy")


def _npy_images(source: Path, split: str | None) -> tuple[int, Iterator[StoredImage]]:
    if source.is_dir():
        folder, names = source, [name for name in scan_splits(source) if (source / f"{name}_ims.npy").exists()]
    else:
        folder, names = source.parent, [source.name.removesuffix("_ims.npy")]
    chosen = [name for name in names if split is None or split in (name, split_of(name))]
    if not chosen:
        raise DataError(f"{source}: no features of split {split!r}; there are {', '.join(names) or 'none'}")
    ids_of = {name: scan_image_ids(folder, name) for name in chosen}
    images = chain.from_iterable(_npy_rows(folder / f"{name}_ims.npy", ids) for name, ids in ids_of.items())
    return sum(map(len, ids_of.values())), images


def _npy_rows(path: Path, ids: list[str]) -> Iterator[StoredImage]:
    rows = open_rows(path)
    if rows.ndim != 3 or rows.dtype.kind != "f" or 0 in rows.shape:
        raise DataError(f"{path}: expected floats, images x regions x numbers; found {rows.dtype}, {rows.shape}")
    times = len(rows) // len(ids)
    if not np.array_equal(rows[0], rows[times - 1]):
        raise DataError(f"{path}: {len(rows)} rows for {len(ids)} images, but rows 0 and {times - 1} are of two images")
    for row, photo_id in zip(range(0, len(rows), times), ids, strict=True):
        yield StoredImage(photo_id, f"{path}, row {row}", partial(_npy_row, path, row))


def _npy_row(path: Path, row: int) -> Regions:
    # Mapped anew for each image, so that the pages of those before do not stay in memory.
    features = _half(open_rows(path)[row])
    there = np.flatnonzero(features.any(axis=1))  # zeros behind the last region are padding
    return Regions(features=features[: max(1, there.max(initial=0) + 1)], boxes=None, width=0, height=0)


# Bottom-up-attention: TSV without header, an image a line, arrays of float32 in base64. LXMERT's has more fields.


def _is_tsv(source: Path) -> bool:
    files = _tsv_files(source)
    if not files or ".tsv" not in files[0].name:
        return False
    with files[0].open("rb") as file:
        fields = file.readline(LINE_BYTES).count(b"\t") + 1
    if fields not in (len(BOTTOM_UP_FIELDS), len(LXMERT_FIELDS)):
        return False
    # A table beside photos is about them.
    return not (source.is_dir() and any(path.suffix.lower() in PHOTO_SUFFIXES for path in source.iterdir()))


def _tsv_files(source: Path) -> list[Path]:
    return sorted(path for path in source.glob("*.tsv*") if path.is_file()) if source.is_dir() else [source]


def _tsv_images(source: Path, split: str | None) -> tuple[None, Iterator[StoredImage]]:
    _refuse_split(source, split)
    return None, chain.from_iterable(_tsv_lines(path) for path in _tsv_files(source))


def _tsv_lines(path: Path) -> Iterator[StoredImage]:
    with reading(path), path.open("rb") as file:
        for number, line in numbered_lines(file, path):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            values = line.rstrip(b"\r\n").split(b"\t")
            names = next((names for names in (BOTTOM_UP_FIELDS, LXMERT_FIELDS) if len(names) == len(values)), None)
            if names is None:
                raise DataError(
                    f"{where}: expected {len(BOTTOM_UP_FIELDS)} fields between tabs ({', '.join(BOTTOM_UP_FIELDS)}) or "
                    f"LXMERT's {len(LXMERT_FIELDS)}; found {len(values)}"
                )
            fields = dict(zip(names, values, strict=True))
            photo_id = values[0].decode(errors="surrogateescape")
            yield StoredImage(photo_id, where, partial(_tsv_image, fields, where))


def _tsv_image(fields: dict[str, bytes], where: str) -> Regions:
    lxmert = "img_id" in fields
    count = _positive(fields, "num_boxes", where)
    return Regions(
        features=_half(_floats(fields, "features", count, None, where)),
        boxes=_floats(fields, "boxes", count, 4, where),
        width=_positive(fields, "img_w" if lxmert else "image_w", where),
        height=_positive(fields, "img_h" if lxmert else "image_h", where),
        scores=_floats(fields, "objects_conf", count, 1, where)[:, 0] if lxmert else None,
    )


def _positive(fields: dict[str, bytes], name: str, where: str) -> int:
    text = fields[name].decode(errors="replace").strip()
    if not text.isdecimal() or len(text) > 9 or int(text) == 0:
        raise DataError(f"{where}: field {name} must be a number above 0 and below 10^9, found {text[:30]!r}")
    return int(text)


def _floats(fields: dict[str, bytes], name: str, count: int, width: int | None, where: str) -> np.ndarray:
    """(count, width) float32; any width where it is None."""
    try:
        content = base64.b64decode(fields[name], validate=True)
    except binascii.Error as error:
        raise DataError(f"{where}: field {name} is not base64 ({error})") from None
    found, rest = divmod(len(content), 4 * count)
    if rest or found == 0 or found != (width or found):
        expected = f"{count} x {width} x 4 = {4 * count * width}" if width else f"a multiple of {count} x 4"
        raise DataError(f"{where}: field {name} must hold {expected} bytes, found {len(content)}")
    return np.frombuffer(content, dtype="<f4").reshape(count, found)


# bottom-up-attention.pytorch: an .npz an image, named by its id.


def _is_npz(source: Path) -> bool:
    if not source.is_dir():
        return source.suffix == ".npz"
    suffixes = {path.suffix.lower() for path in source.iterdir()}
    return ".npz" in suffixes and not suffixes & PHOTO_SUFFIXES


def _npz_images(source: Path, split: str | None) -> tuple[int, Iterator[StoredImage]]:
    _refuse_split(source, split)
    files = sorted(source.glob("*.npz")) if source.is_dir() else [source]
    return len(files), (StoredImage(path.stem, str(path), partial(_npz_image, path)) for path in files)


def _npz_image(path: Path) -> Regions:
    arrays = read_npz(path, NPZ_FIELDS)
    x, boxes = arrays["x"], arrays["bbox"]
    m, height, width = (_whole(arrays[name], name, path) for name in NPZ_FIELDS[2:])
    if x.ndim == 2 and x.shape[1] == m != x.shape[0]:
        x = x.T  # OpenVQA writes (D, m)
    numbers = x.dtype.kind in "fiu" and boxes.dtype.kind in "fiu"
    if not numbers or x.ndim != 2 or not x.size or len(x) < m or boxes.shape[1:] != (4,) or len(boxes) < m:
        raise DataError(
            f"{path}: for num_bbox = {m} expected x of ({m}, D) and bbox of ({m}, 4), numbers; "
            f"found {x.dtype} {x.shape} and {boxes.dtype} {boxes.shape}"
        )
    return Regions(features=_half(x[:m]), boxes=boxes[:m].astype(np.float32), width=width, height=height)


def _whole(value: np.ndarray, name: str, path: Path) -> int:
    """The one number above 0 that an array holds."""
    if value.size != 1 or value.dtype.kind not in "fiu" or not 1 <= value.item() < 10**9:
        raise DataError(f"{path}: {name} must be one number above 0 and below 10^9, found {shown(value.tolist())}")
    return int(value.item())


def _half(features: np.ndarray) -> np.ndarray:
    """As float16; what is too large becomes infinite, which the store refuses."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(features, dtype=np.float16)


def _refuse_split(source: Path, split: str | None) -> None:
    if split is not None:
        raise DataError(f"{source}: these files know no splits; leave --split out, or choose images by --ids DATASET")


FEATURE_FORMATS = {
    "scan-npy": FeatureFormat(_is_npy, _npy_images),
    "bottom-up-tsv": FeatureFormat(_is_tsv, _tsv_images),
    "bottom-up-npz": FeatureFormat(_is_npz, _npz_images),
}
"""The formats by name, in the order in which they are recognised."""
