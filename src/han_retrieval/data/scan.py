"""The captions and image ids of SCAN's precomputed folders (Lee et al., ECCV 2018).

``{split}_caps.txt`` has a caption a line, those of an image together, the same number for each image.
``{split}_ids.txt`` has an id a line, one an image or one a caption; ``{split}_ims.npy`` has a row an image, or each
image repeated, most often 5 times. Features imported from ``ims.npy`` get the ids of ``scan_image_ids``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from han_retrieval.data.arrays import map_npy
from han_retrieval.data.builder import split_of
from han_retrieval.data.dataset import CaptionedPhoto, CaptionedPhotos
from han_retrieval.errors import DataError
from han_retrieval.parsing import read_lines

_DESCRIPTION = "train_caps.txt, dev_caps.txt with _ids.txt or _ims.npy"


class _Folder:
    """See ``DatasetAdapter``."""

    description = _DESCRIPTION

    def recognises(self, source: Path) -> bool:
        """A folder with a ``*_caps.txt`` in it, or such a file."""
        return any(source.glob("*_caps.txt")) if source.is_dir() else source.name.endswith("_caps.txt")

    def read(self, source: Path) -> CaptionedPhotos:
        """The images of all splits, without paths; of one split where ``source`` is its ``caps.txt``."""
        if source.is_dir():
            folder, ids_of = source, _image_ids(source, scan_splits(source))
        else:
            folder, name = source.parent, source.name.removesuffix("_caps.txt")
            ids_of = {name: scan_image_ids(folder, name)}
        photos, skipped = [], Counter[str]()
        for name, ids in ids_of.items():
            captions = read_lines(folder / f"{name}_caps.txt")
            each = len(captions) // len(ids)
            for i, photo_id in enumerate(ids):
                kept = tuple(caption.strip() for caption in captions[i * each : (i + 1) * each] if caption.strip())
                skipped["empty caption"] += each - len(kept)
                if kept:
                    photos.append(CaptionedPhoto(photo_id, None, kept, split_of(name)))
                else:
                    skipped["photo without captions"] += 1
        return CaptionedPhotos("scan", source, tuple(photos), +skipped)


ADAPTER = _Folder()


def scan_splits(folder: Path) -> list[str]:
    """The names before ``_caps.txt``: train, dev, test, or as they are called there.

    COCO's "test" is left out where "testall" is there too, which holds all 5,000 of the test images.

    Raises:
        DataError: There is no such file, or none with the name of a split.
    """
    names = sorted(path.name.removesuffix("_caps.txt") for path in folder.glob("*_caps.txt"))
    splits = [name for name in names if split_of(name) and not (name == "test" and "testall" in names)]
    if not splits:
        raise DataError(f"{folder}: expected {_DESCRIPTION}, found {', '.join(names) or 'none'}")
    return sorted(splits, key=lambda name: ("train", "dev", "test").index(str(split_of(name))))


def scan_image_ids(folder: Path, split: str) -> list[str]:
    """The ids of a split's images, in order.

    Row r of ``{split}_ims.npy`` belongs to image r // (rows // images), line c of ``{split}_caps.txt`` to image
    c // (captions // images). An id is the image's line in ``ids.txt``; where an id stands in several splits of the
    folder, the ids of all splits get the split's name before them ("dev/17"). Without ``ids.txt`` an image's id is its
    split and number ("dev/17" too).

    Args:
        folder: The folder with the files.
        split: A name before ``_caps.txt``, as in ``scan_splits``.

    Raises:
        DataError: A file is missing or broken, ids are not unique, or captions and rows do not come out even.
    """
    splits = scan_splits(folder)
    return _image_ids(folder, splits)[split] if split in splits else _ids_of_split(folder, split)


def _image_ids(folder: Path, splits: Sequence[str]) -> dict[str, list[str]]:
    ids_of = {name: _ids_of_split(folder, name) for name in splits}
    if len(set().union(*ids_of.values())) == sum(map(len, ids_of.values())):
        return ids_of
    return {name: [f"{name}/{photo_id}" for photo_id in ids] for name, ids in ids_of.items()}


def _ids_of_split(folder: Path, split: str) -> list[str]:
    caps, ids_file, rows_file = (folder / f"{split}_{ending}" for ending in ("caps.txt", "ids.txt", "ims.npy"))
    captions = len(read_lines(caps))
    if not captions:
        raise DataError(f"{caps}: the file is empty")
    rows = open_rows(rows_file) if rows_file.exists() else None
    if ids_file.exists():
        ids = _ids_of_images(ids_file, captions=captions, rows=rows)
    elif rows is not None:
        ids = [f"{split}/{i}" for i in range(_images_of_rows(rows, captions=captions))]
    else:
        raise DataError(f"{caps}: {ids_file.name} or {rows_file.name} must be beside it, for the number of images")
    if not ids or captions % len(ids):
        raise DataError(f"{caps}: {captions} captions cannot be shared evenly by {len(ids)} images")
    if rows is not None and (len(rows) == 0 or len(rows) % len(ids)):
        raise DataError(f"{rows_file}: {len(rows)} rows cannot be shared evenly by {len(ids)} images")
    return ids


def _ids_of_images(path: Path, *, captions: int, rows: np.ndarray | None) -> list[str]:
    ids = [line.strip() for line in read_lines(path)]
    if "" in ids:
        raise DataError(f"{path}, line {ids.index('') + 1}: expected an image id, the line is empty")
    unique = list(dict.fromkeys(ids))
    if len(unique) < len(ids):
        times = len(ids) // len(unique)
        if ids != [photo_id for photo_id in unique for _ in range(times)]:
            raise DataError(f"{path}: ids repeat, but not each the same number of times in consecutive lines")
        return unique
    if rows is not None and len(ids) == captions:
        # An id a caption, or an image for each caption: the rows tell.
        images = _images_of_rows(rows, captions=captions)
        if images and captions % images == 0:
            return ids[:: captions // images]
    return ids


def _images_of_rows(rows: np.ndarray, *, captions: int) -> int:
    """One row an image, or as many equal rows as the image has captions."""
    if len(rows) != captions:
        return len(rows)
    times = next((i for i in range(1, len(rows)) if not np.array_equal(rows[i], rows[0])), len(rows))
    repeated = len(rows) % times == 0 and all(np.array_equal(row, rows[-1]) for row in rows[-times:])
    return len(rows) // times if repeated else len(rows)


def open_rows(path: Path) -> np.ndarray:
    """The array of a ``.npy`` file, left on the disk.

    Raises:
        DataError: It is no such file, or the array has less than two dimensions.
    """
    rows = map_npy(path)
    if rows.ndim < 2:
        raise DataError(f"{path}: expected an array of images x regions x numbers, found shape {rows.shape}")
    return rows
