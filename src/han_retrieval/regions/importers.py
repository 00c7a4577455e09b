"""Import of features that other programs made into a region store, with few images in memory at a time.

Ids are those of the files: for SCAN's ``.npy`` as ``scan_image_ids`` reads them, for TSV the field image_id, for
``.npz`` the file's name without ending. Where a dataset names its photos differently ("COCO_val2014_000000391895.jpg"
for 391895), give its ids, and features are stored under those.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path, PurePosixPath

import numpy as np

from han_retrieval.data.files import is_text, readable, reading
from han_retrieval.data.photos import PHOTO_SUFFIXES
from han_retrieval.errors import ConfigError, DataError
from han_retrieval.objects import is_remote, to_path
from han_retrieval.progress import progress_bar
from han_retrieval.regions.extraction import Commits, ExtractReport
from han_retrieval.regions.feature_files import FEATURE_FORMATS
from han_retrieval.regions.rows import NOT_FINITE, RegionRow
from han_retrieval.regions.store import RegionStore


def feature_format(source: str | Path) -> str | None:
    """The name of the feature format of a file or folder, or None where it is none of them.

    Raises:
        DataError: It cannot be read.
    """
    source = to_path(source)
    if is_remote(source):
        return None
    with reading(source):
        if not source.exists():
            return None
        return next((name for name, format in FEATURE_FORMATS.items() if format.recognises(source)), None)


def import_features(
    source: str | Path,
    out: str | Path,
    *,
    format: str | None = None,
    split: str | None = None,
    ids: Iterable[str] | None = None,
    made_by: str | None = None,
    progress: bool = False,
) -> ExtractReport:
    """Copy features as float16 into a region store at ``out``, new or one to go on with.

    The files do not say which detector made them, so the store's fingerprint is ``imported:<made_by>:<D>``: features
    imported under one name and of one size count as one detector's.

    Args:
        source: A SCAN folder or a ``{split}_ims.npy`` of it, a TSV file or a folder of such, a folder of ``.npz``.
        out: The store's folder, new or of the same fingerprint.
        format: A key of ``FEATURE_FORMATS``; recognised by default.
        split: Only this split of a SCAN folder.
        ids: A dataset's photo ids: features are stored under the one that ``matching_ids`` finds; those without one are
            left out and counted.
        made_by: A name for the detector that made the features; the format's name by default.
        progress: Show images/s and time left on stderr.

    Raises:
        DataError: ``source`` is none of this, or something in it does not fit its format; the message says which file,
            line and field, and what was imported before is kept. Or none of its ids matches one of ``ids``.
        ConfigError: There is no such format.
        StoreError: ``out`` is of another detector, being written to, or no region store; the disk is full.
    """
    source, started = Path(source), time.perf_counter()
    name = _format_of(source, format)
    with reading(source):
        total, images = FEATURE_FORMATS[name].images(source, split)
    first = next(images, None)
    if first is None:
        raise DataError(f"{source}: there is no image in it")
    feature_size = first.load().features.shape[1]
    fingerprint = f"imported:{made_by or name}:{feature_size}"
    find = matching_ids(ids) if ids is not None else str
    already_there = matched = unmatched = 0
    with RegionStore.resume(out, fingerprint=fingerprint, feature_size=feature_size) as store:
        before = len(store)
        with progress_bar(total=total, unit=" photos", show=progress) as bar, Commits(store) as commits:
            for image in chain([first], images):
                bar.update()
                photo_id = find(image.id)
                if photo_id is None:
                    unmatched += 1
                    continue
                if not is_text(photo_id):
                    raise DataError(f"{readable(image.where)}: the id {readable(photo_id)!r} is not UTF-8; rename it")
                matched += 1
                if photo_id in store:
                    already_there += 1
                    continue
                regions = image.load()
                found = regions.features.shape[1]
                if found != feature_size:
                    raise DataError(f"{image.where}: {found} numbers a region, the first image has {feature_size}")
                if not np.isfinite(regions.features).all():
                    raise DataError(f"{image.where}: {NOT_FINITE}")
                commits.add(RegionRow(photo_id, None, regions))
        if not matched:
            raise DataError(f"{source}: its ids, such as {first.id!r}, match none of the dataset's")
        store.compact()
    return ExtractReport(len(store) - before, already_there, [], time.perf_counter() - started, unmatched)


def matching_ids(ids: Iterable[str]) -> Callable[[str], str | None]:
    """A function from an image's id in a feature file to the photo's id among ``ids``, or None.

    It is the equal id, else the one with the same file stem, else the one that ends with the same number after "_", "-"
    or "/". Stems and numbers that several ids share match none.
    """
    known: tuple[dict[str, str | None], ...] = ({}, {}, {})
    for photo_id in ids:
        for by_name, name in zip(known, _names(photo_id), strict=True):
            by_name[name] = None if name in by_name else photo_id

    def find(image_id: str) -> str | None:
        found = (by_name.get(name) for by_name, name in zip(known, _names(image_id), strict=True) if name)
        return next((photo_id for photo_id in found if photo_id is not None), None)

    return find


def _names(photo_id: str) -> tuple[str, str, str]:
    """The id, its file stem, and the number at its end, empty where there is none."""
    path = PurePosixPath(photo_id)
    stem = path.stem if path.suffix.lower() in PHOTO_SUFFIXES else path.name
    number = re.search(r"(?:^|[_-])0*(\d+)$", stem)
    return photo_id, stem, number[1] if number else ""


def _format_of(source: Path, name: str | None) -> str:
    known = ", ".join(FEATURE_FORMATS)
    with reading(source):
        if not source.exists():
            raise DataError(f"{source}: no such file or folder")
    if name is not None and name not in FEATURE_FORMATS:
        raise ConfigError(f"unknown feature format {name!r}; known are {known}")
    found = name or feature_format(source)
    if found is None:
        raise DataError(f"{source}: no features in a format that is known here: {known}")
    return found
