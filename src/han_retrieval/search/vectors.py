"""Where the pooled vectors of photos are searched: all in memory, or on the disk through Lance's vector index.

Legend: N photos, K rows, T queries, e numbers a pooled vector.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from han_retrieval.search.rows import COLUMNS, to_vectors
from han_retrieval.search.vector_index import COLUMN, MEND, Segments, warn
from han_retrieval.storage.damage import Damage
from han_retrieval.storage.failures import is_failure, reason_of
from han_retrieval.storage.sound import SoundRows, read_all

if TYPE_CHECKING:
    from torch import Tensor

Rows = NDArray[np.int64]

_PROBES = 0.25  # the share of the partitions that a search reads
_LEAST_PROBES = 20
_FEW = 20_000  # rows that meet a condition, whose vectors are read instead


class Vectors(Protocol):
    """The pooled vectors of all photos."""

    def all(self) -> NDArray[np.float32]:
        """(N, e), of unit length."""
        ...

    def take(self, rows: Rows) -> NDArray[np.float32]:
        """(K, e)."""
        ...

    def indexed(self) -> int:
        """The number of photos that a vector index has."""
        ...

    def nearest(self, queries: Tensor, k: int, *, rows: Rows | None, where: str | None) -> Rows:
        """(T, k) rows with the largest dot products with queries (T, e), best first.

        ``rows`` are those that meet the condition ``where``; all rows where it is None.
        """
        ...


class InMemory:
    """All vectors, in memory."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self._vectors = vectors

    def all(self) -> NDArray[np.float32]:
        """See ``Vectors.all``."""
        return self._vectors

    def take(self, rows: Rows) -> NDArray[np.float32]:
        """See ``Vectors.take``."""
        return self._vectors[rows]

    def indexed(self) -> int:
        """See ``Vectors.indexed``."""
        return 0

    def nearest(self, queries: Tensor, k: int, *, rows: Rows | None, where: str | None) -> Rows:
        """See ``Vectors.nearest``."""
        best = nearest(queries, self._vectors if rows is None else self._vectors[rows], k)
        return best if rows is None else rows[best]


class OnDisk:
    """Vectors on the disk, searched through Lance's vector index; what cannot be read of it is searched in memory.

    Args:
        dataset: The version of the table.
        ids: (N,) the table's row ids.
        sound: The checksums of its rows.
        segments: The vector index.
    """

    def __init__(self, dataset: Any, ids: NDArray[np.uint64], sound: SoundRows, segments: Segments) -> None:
        self._dataset, self._ids, self._sound, self._segments = dataset, ids, sound, segments
        self._order: Rows = np.argsort(ids)
        self._in_memory: InMemory | None = None

    def all(self) -> NDArray[np.float32]:
        """See ``Vectors.all``; they stay in memory from then on."""
        return self._load().all()

    def take(self, rows: Rows) -> NDArray[np.float32]:
        """See ``Vectors.take``."""
        return read_vectors(self._dataset, rows, self._sound)

    def indexed(self) -> int:
        """See ``Vectors.indexed``."""
        return len(self._ids) - self._segments.unindexed(self._dataset)

    def nearest(self, queries: Tensor, k: int, *, rows: Rows | None, where: str | None) -> Rows:
        """See ``Vectors.nearest``; a few of the nearest may be missing, with others in their place."""
        if self._in_memory is not None:
            return self._in_memory.nearest(queries, k, rows=rows, where=where)
        # A table of before lacks columns that conditions may name, which have nulls then.
        lacks = where is not None and bool({*COLUMNS} - {*self._dataset.schema.names} & {*re.findall(r"\w+", where)})
        if rows is not None and (len(rows) <= max(_FEW, k) or where is None or lacks):
            return rows[nearest(queries, self.take(rows), k)]
        share = 1.0 if rows is None else len(rows) / len(self._ids)
        try:
            found = [self._ask(query, k, share, where) for query in queries.detach().float().cpu().numpy()]
        except BaseException as error:
            if not is_failure(error):
                raise
            warn(Damage(self._segments.table, f"its vector index cannot be read ({reason_of(error)})", MEND))
            return self._load().nearest(queries, k, rows=rows, where=where)
        fewest = min(map(len, found))
        return np.stack([each[:fewest] for each in found])

    def _ask(self, query: NDArray[np.float32], k: int, share: float, where: str | None) -> Rows:
        """The rows nearest to a query (e,), nearest first."""
        probes = max(_LEAST_PROBES, math.ceil(_PROBES * self._segments.made.partitions))
        found = self._dataset.scanner(
            columns=["_distance"],
            with_row_id=True,
            nearest={
                "column": COLUMN,
                "q": query,
                "k": k,
                "nprobes": min(self._segments.made.partitions, math.ceil(probes / share)),
            },
            filter=where,
            prefilter=where is not None,
        ).to_table()
        return self._order[np.searchsorted(self._ids, found["_rowid"].to_numpy(), sorter=self._order)]

    def _load(self) -> InMemory:
        if self._in_memory is None:
            self._in_memory = InMemory(read_vectors(self._dataset, None, self._sound))
        return self._in_memory


def nearest(queries: Tensor, vectors: NDArray[np.float32], k: int) -> Rows:
    """The places (T, k) of the vectors (N, e) with the largest dot products with queries (T, e), best first."""
    import torch

    # With torch, because numpy's own threads would compete with torch's in what follows.
    products = (queries.detach().float().cpu() @ torch.from_numpy(vectors).T).numpy()  # (T, N)
    return nearest_places(products, k)


def nearest_places(products: NDArray[np.float32], k: int) -> Rows:
    """The places (T, k) of the largest of (T, N) products, best first."""
    count = products.shape[1]
    k = min(k, count)
    if k < count:
        places = np.argpartition(products, count - k, axis=1)[:, count - k :]
    else:
        places = np.tile(np.arange(k), (len(products), 1))
    near = np.take_along_axis(products, places, axis=1)
    order = np.lexsort((places, -near), axis=1)
    return np.take_along_axis(places, order, axis=1)


def read_vectors(dataset: Any, rows: Rows | None, sound: SoundRows) -> NDArray[np.float32]:
    """The pooled vectors of some rows of a table, or of all, checked: (K, e).

    Raises:
        StoreError: They are not as they were written.
    """
    if rows is None:
        rows = np.arange(dataset.count_rows())
        found = read_all(dataset, [COLUMN])
    else:
        found = dataset.take(rows, columns=[COLUMN])
    sound.require(rows, found)
    return to_vectors(found[COLUMN])
