"""Extraction on a cluster: workers of Ray hold the detector, this process writes the region store."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from han_retrieval.cluster import Cluster, Lost, connected, map_on_workers
from han_retrieval.data import CaptionedPhoto, CaptionedPhotos
from han_retrieval.errors import ModelError
from han_retrieval.regions.detector import Detector
from han_retrieval.regions.extraction import ExtractReport, extract_with, find_regions
from han_retrieval.regions.regions import Regions

_PHOTOS_A_TASK = 32


def extract_on_ray(
    dataset: CaptionedPhotos,
    load: Callable[[], Detector],
    out: str | Path,
    *,
    cluster: Cluster | None = None,
    batch_size: int = 8,
    threads: int = 2,
    progress: bool = False,
) -> ExtractReport:
    """As ``extract``, with a detector in each worker of a Ray cluster; the store holds the same rows, in any order.

    Workers read the photos: each must see the files, or reach the URLs. Where a worker dies, another one does again
    what it had. Photos whose workers died four times are skipped and listed. Where this process is killed, what was
    committed stays, and the next run goes on.

    Args:
        dataset: The photos.
        load: Loads the detector, here for its fingerprint and in each worker; it is pickled.
        out: The store's folder, which only this process writes to.
        cluster: The cluster, and how many workers.
        batch_size: The most photos in one call of a worker's detector.
        threads: Threads of a worker that read and decode photos.
        progress: Show photos/s and time left on stderr.

    Raises:
        DataError, StoreError: As ``extract``.
        ModelError: A worker lacks the detector's weights, or has others.
        ConfigError: Ray is not installed, no cluster answers, or it has no room for a worker.
    """
    cluster = cluster or Cluster()
    with connected(cluster.address) as ray:
        detector = load()
        make = _Finder(load, detector.fingerprint, batch_size, threads)

        def find(
            wanted: Sequence[CaptionedPhoto],
        ) -> Generator[list[tuple[CaptionedPhoto, Regions | str]]]:
            photos = {photo.id: photo for photo in wanted}
            items = [replace(each, path=each.path and each.path.absolute(), captions=()) for each in wanted]
            for found in map_on_workers(ray, items, make, cluster=cluster, at_once=_PHOTOS_A_TASK):
                if isinstance(found, Lost):
                    yield [(photos[each.id], found.reason) for each in found.items]
                else:
                    yield [(photos[photo_id], result) for photo_id, result in found]

        return extract_with(find, dataset, out, made_by=detector, progress=progress)


@dataclass(frozen=True, slots=True)
class _Finder:
    """Loads the detector in a worker."""

    load: Callable[[], Detector]
    fingerprint: str
    batch_size: int
    threads: int

    def __call__(self) -> Callable[[list[CaptionedPhoto]], list[tuple[str, Regions | str]]]:
        detector = self.load()
        if detector.fingerprint != self.fingerprint:
            raise ModelError(
                f"its detector is {detector.fingerprint!r}, not {self.fingerprint!r}: put the same weights on all "
                "machines"
            )

        def work(photos: list[CaptionedPhoto]) -> list[tuple[str, Regions | str]]:
            batches = find_regions(detector, photos, batch_size=self.batch_size, threads=self.threads)
            return [(photo.id, result) for batch in batches for photo, result in batch]

        return work
