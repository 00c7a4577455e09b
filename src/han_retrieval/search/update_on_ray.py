"""Index on a cluster: workers of Ray read and encode the photos, this process writes the index."""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from han_retrieval.cluster import Cluster, Lost, connected, map_on_workers
from han_retrieval.data import UnreadablePhotoError
from han_retrieval.errors import ModelError
from han_retrieval.regions import Detector
from han_retrieval.search.files import EncodedFile, EncodeFiles, encode_files
from han_retrieval.search.maker import Maker
from han_retrieval.search.report import IndexReport
from han_retrieval.search.scan import Place, path_of
from han_retrieval.search.table import MadeBy
from han_retrieval.search.update import index_photos

_FILES_A_TASK = 32


def index_on_ray(
    roots: Sequence[str | Path],
    out: str | Path,
    *,
    cluster: Cluster | None = None,
    load: Callable[[], Detector] | None = None,
    batch_size: int = 8,
    threads: int = 2,
    **options: Any,
) -> IndexReport:
    """As ``index_photos``, with the model and its detector in each worker of a Ray cluster; the index is the same.

    Workers read the photos: each must see the files under the same paths. Where a worker dies, another one does again
    what it had; files whose workers died four times are listed as unread, and the next update tries them again.

    Args:
        roots, out: As in ``index_photos``; only this process writes to ``out``.
        cluster: The cluster, and how many workers. The model runs on a GPU where workers have one.
        load: Loads the detector, here and in each worker; it is pickled. By default the one the model was trained with.
        batch_size, threads: Of each worker.
        options: Other arguments of ``index_photos``, but for ``detector``, ``device`` and ``encoder``.

    Raises:
        DataError, StoreError, QueryError: As ``index_photos``.
        ModelError: The model or its detector is missing, here or in a worker, or a worker has another one.
        ConfigError: Ray is not installed, no cluster answers, or it has no room for a worker.
    """
    cluster = cluster or Cluster()
    with connected(cluster.address) as ray:

        def encoder(maker: Maker) -> EncodeFiles:
            return partial(_encode, ray, cluster, maker, load, batch_size, threads)

        return index_photos(roots, out, detector=load() if load else None, encoder=encoder, **options)


def _encode(
    ray: Any,
    cluster: Cluster,
    maker: Maker,
    load: Callable[[], Detector] | None,
    batch_size: int,
    threads: int,
    places: Sequence[Place],
    known: Iterable[str],
    /,
) -> Generator[list[EncodedFile]]:
    device = "cuda" if cluster.gpus else "cpu"
    make = _Encoder(maker.name, load, maker.made_by, device, _Ids.of(known), batch_size, threads)
    for found in map_on_workers(ray, places, make, cluster=cluster, at_once=_FILES_A_TASK):
        if isinstance(found, Lost):
            reason = found.reason
            yield [EncodedFile(each, UnreadablePhotoError(f"{path_of(each)}: {reason}"), None) for each in found.items]
        else:
            yield found


@dataclass(frozen=True, slots=True)
class _Encoder:
    """Loads the model with its detector in a worker."""

    model: str
    load: Callable[[], Detector] | None
    made_by: MadeBy
    device: str
    known: Container[str]
    batch_size: int
    threads: int

    def __call__(self) -> Callable[[list[Place]], list[EncodedFile]]:
        maker = Maker.load(
            self.model,
            detector=self.load() if self.load else None,
            storage=self.made_by.storage,
            candidates=self.made_by.pooling,
            device=self.device,
        )
        if maker.made_by != self.made_by:
            raise ModelError(f"{self.model}: is another model or detector there: put the same files on all machines")
        maker.try_out()

        def work(places: list[Place]) -> list[EncodedFile]:
            batches = encode_files(maker, places, self.known, batch_size=self.batch_size, threads=self.threads)
            return [each for batch in batches for each in batch]

        return work


class _Ids:
    """Many ids of photos, which the workers of a machine share in memory."""

    def __init__(self, ids: np.ndarray) -> None:
        self._ids = ids

    @classmethod
    def of(cls, ids: Iterable[str]) -> _Ids:
        return cls(np.sort(np.array(list(ids), dtype="S32")))

    def __contains__(self, photo_id: object) -> bool:
        wanted = str(photo_id).encode()
        place = int(np.searchsorted(self._ids, wanted))
        return place < len(self._ids) and self._ids[place] == wanted
