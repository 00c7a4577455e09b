"""Extraction: a dataset's photos through a detector into a region store, resumed where an earlier run stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from han_retrieval.data import (
    CaptionedPhoto,
    CaptionedPhotos,
    PhotoBytes,
    ShrinkTo,
    add_name,
    count_pixels,
    is_text,
    open_photo,
    read_batches,
    reason_without,
)
from han_retrieval.data.files import NOT_TEXT, field, readable
from han_retrieval.errors import DataError, HANError
from han_retrieval.files import write_whole
from han_retrieval.parsing import read_json_lines
from han_retrieval.progress import progress_bar
from han_retrieval.regions.detector import Detector, detect_whole, size_needed
from han_retrieval.regions.regions import Regions
from han_retrieval.regions.rows import RegionRow
from han_retrieval.regions.store import SKIPPED_NAME, RegionStore
from han_retrieval.storage.failures import writing

if TYPE_CHECKING:
    from PIL import Image

_ROWS_A_COMMIT = 256
_SECONDS_A_COMMIT = 20.0


@dataclass(frozen=True, slots=True)
class ExtractReport:
    """What a run added to a region store.

    Attributes:
        done: Photos added by this run.
        already_there: Photos of the source that the store had before.
        skipped: Photos that could not be read or stored: path (or id, where there is no path) and reason.
        seconds: Wall-clock time.
        unmatched: Images of a feature file that were left out because the dataset has no such id.
    """

    done: int
    already_there: int
    skipped: list[tuple[str, str]]
    seconds: float
    unmatched: int = 0


def extract(
    dataset: CaptionedPhotos,
    detector: Detector,
    out: str | Path,
    *,
    batch_size: int = 8,
    threads: int = 2,
    progress: bool = False,
) -> ExtractReport:
    """Detect the regions of a dataset's photos and store them at ``out``, a new region store or one to go on with.

    Photos that are in the store already are not read. Those that cannot be read or stored are skipped, listed in
    ``out``/skipped.jsonl, and tried again by the next run. An interrupted run keeps what it detected, and the listed
    photos that it has not tried again stay listed.

    Args:
        dataset: The photos; captions are not used.
        detector: What finds the regions.
        out: The store's folder, new or of the same detector.
        batch_size: The most photos in one call of the detector; twice as many are in memory. Large photos are fewer at
            a time: some 250 million pixels are in memory at once.
        threads: Threads that decode photos ahead of the detector.
        progress: Show photos/s and time left on stderr.

    Raises:
        DataError: No photo can be read.
        StoreError: ``out`` is of another detector, being written to, or no region store; the disk is full.
    """
    find = partial(find_regions, detector, batch_size=batch_size, threads=threads)
    return extract_with(find, dataset, out, made_by=detector, progress=progress)


def extract_with(
    find: Callable[[Sequence[CaptionedPhoto]], Generator[list[tuple[CaptionedPhoto, Regions | str]]]],
    dataset: CaptionedPhotos,
    out: str | Path,
    *,
    made_by: Detector,
    progress: bool,
) -> ExtractReport:
    """As ``extract``; ``find`` gives the regions of photos or says why it cannot, some at a time, in any order.

    This process is the one that writes to the store, wherever ``find`` works.
    """
    started = time.perf_counter()
    skipped: list[tuple[str, str]] = []
    with RegionStore.resume(out, fingerprint=made_by.fingerprint, feature_size=made_by.feature_size) as store:
        wanted = [photo for photo in dataset.photos if photo.id not in store]
        already_there = len(dataset) - len(wanted)
        listed, names = _read_skipped(store.path), {name for each in dataset.photos for name in (each.id, _name(each))}
        others = {name: reason for name, reason in listed.items() if name not in names}
        # Photos that an earlier run skipped and this one has not tried again yet.
        earlier = {name: listed[name] for photo in wanted if (name := _name(photo)) in listed}
        try:
            with (
                progress_bar(
                    total=len(dataset),
                    initial=already_there,
                    unit=" photos",
                    show=progress and already_there < len(dataset),
                ) as bar,
                Commits(store) as commits,
                closing(find(wanted)) as batches,
            ):
                for batch in batches:
                    for photo, result in batch:
                        if isinstance(result, str):
                            skipped.append((_name(photo), result))
                        else:
                            commits.add(RegionRow(photo.id, photo.path and photo.path.absolute(), result))
                        earlier.pop(_name(photo), None)
                    bar.update(len(batch))
        except BaseException:
            with suppress(HANError):
                _write_skipped(store.path, [*skipped, *earlier.items(), *others.items()])
            raise
        _write_skipped(store.path, [*skipped, *others.items()])
        if not already_there and len(skipped) == len(wanted):
            first = f"; the first: {': '.join(skipped[0])}" if skipped else ""
            raise DataError(f"{dataset.source}: none of its {len(wanted)} photos can be read{first}")
        store.compact()
    return ExtractReport(len(wanted) - len(skipped), already_there, skipped, time.perf_counter() - started)


def find_regions(
    detector: Detector, photos: Sequence[CaptionedPhoto], *, batch_size: int, threads: int
) -> Generator[list[tuple[CaptionedPhoto, Regions | str]]]:
    """The regions of photos in batches, or the reason why a photo cannot be read or its regions stored."""
    begin = partial(_begin, shrink_to=size_needed(detector))
    with closing(read_batches(photos, begin, threads=threads, batch_size=batch_size)) as batches:
        for batch in batches:
            yield _detect(detector, batch)


class Commits:
    """Collects rows and appends them to a store: 256 a commit, or those of 20 seconds, the rest at the end.

    The rest is also committed where a ``HANError`` or an interrupt ends the block.
    """

    def __init__(self, store: RegionStore) -> None:
        self._store = store
        self._rows: list[RegionRow] = []
        self._last = time.monotonic()

    def add(self, row: RegionRow) -> None:
        """Add a row, and commit where there are enough or the last commit was long ago."""
        self._rows.append(row)
        if len(self._rows) >= _ROWS_A_COMMIT or time.monotonic() - self._last >= _SECONDS_A_COMMIT:
            self.flush()

    def flush(self) -> None:
        """Commit all rows that were added."""
        rows, self._rows = self._rows, []
        try:
            self._store.append(rows)
        except KeyboardInterrupt:
            self._store.append(rows)  # the interrupted commit wrote none of them, or all, which are left out now
            raise
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, HANError | KeyboardInterrupt):
            self.flush()


def _read_skipped(folder: Path) -> dict[str, str]:
    """The photos that earlier runs skipped, with the reasons; none where the list cannot be read."""
    skipped = {}
    try:
        for where, each in read_json_lines(folder / SKIPPED_NAME):
            name, reason = (field(each, key, str, where) for key in ("photo", "reason"))
            skipped[name] = reason
    except DataError:
        return {}
    return skipped


def _write_skipped(folder: Path, skipped: Iterable[tuple[str, str]]) -> None:
    """Write the list of skipped photos beside the features, a JSON object a line; no file where there are none."""
    lines = [json.dumps({"photo": name, "reason": reason}) + "\n" for name, reason in skipped]
    path = folder / SKIPPED_NAME
    if lines:
        write_whole(path, "".join(lines))
    else:
        with writing(folder):
            path.unlink(missing_ok=True)


def _begin(photo: CaptionedPhoto, *, shrink_to: ShrinkTo | None) -> tuple[int, Callable[[], Image.Image | str]]:
    """The pixels of a photo, and what decodes it or says why it cannot be read."""
    if photo.path is None and photo.packed is None:
        return 0, lambda: "the dataset has no file for it: none of its name lies beside the captions"
    if not (is_text(photo.id) and (photo.path is None or is_text(str(photo.path.absolute())))):
        return 0, lambda: NOT_TEXT
    name = str(photo.path or photo.packed)
    try:
        file = photo.path if photo.packed is None else photo.packed.read()
        assert file is not None
        return count_pixels(file), lambda: _open(file, shrink_to)
    except HANError as error:
        reason = reason_without(name, error)
        return 0, lambda: reason


def _open(file: Path | PhotoBytes, shrink_to: ShrinkTo | None) -> Image.Image | str:
    try:
        return open_photo(file, shrink_to=shrink_to)
    except HANError as error:
        return reason_without(file, error)


def _detect(
    detector: Detector, batch: Iterable[tuple[CaptionedPhoto, Image.Image | str]]
) -> list[tuple[CaptionedPhoto, Regions | str]]:
    """The regions of each photo that could be read, and the reason for each that could not, or cannot be stored."""
    images = {photo.id: image for photo, image in batch if not isinstance(image, str)}
    for name, image in images.items():
        add_name(image, name)
    found = dict(zip(images, detect_whole(detector, [*images.values()]) if images else (), strict=True))
    return [
        (photo, image if isinstance(image, str) else _fault(found[photo.id]) or found[photo.id])
        for photo, image in batch
    ]


def _fault(regions: Regions) -> str | None:
    """Why a photo's regions cannot be stored, or None."""
    if not len(regions.features):
        return "the detector found no region"
    if not np.isfinite(regions.features).all():
        return "its features are not finite"
    if regions.pooled is not None and not np.isfinite(regions.pooled).all():
        return "its pooled vector is not finite"
    return None


def _name(photo: CaptionedPhoto) -> str:
    return readable(str(photo.path or photo.packed or photo.id))
