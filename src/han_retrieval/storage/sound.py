"""Read rows of a table and check that they are as they were written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from han_retrieval.errors import StoreError
from han_retrieval.storage.checksums import Groups, checksums, damaged_rows
from han_retrieval.storage.failures import MEND, reading

if TYPE_CHECKING:
    import pyarrow as pa


_ROWS = 8192  # read in one step


class SoundRows:
    """The checksums of all rows of a version, to check those that are read later.

    Args:
        path: The table's folder.
        rows: All rows, with the checksum columns that the table has.
        groups: The columns of checksums, and what they cover.
    """

    def __init__(self, path: Path, rows: pa.Table, groups: Groups) -> None:
        self._path, self._groups = path, groups
        self._checksums = {name: rows[name].to_numpy() for name in groups if name in rows.column_names}

    def extend(self, rows: pa.Table) -> None:
        """Know further rows, which follow the others."""
        for name, known in self._checksums.items():
            self._checksums[name] = np.concatenate([known, rows[name].to_numpy()])

    def require(self, places: Sequence[int] | NDArray[Any], rows: pa.Table) -> None:
        """Check rows that were read, as far as whole groups of columns were; ``places`` are theirs among all rows.

        Raises:
            StoreError: They are not as they were written.
        """
        for name, known in self._checksums.items():
            columns = self._groups[name]
            if set(columns) <= set(rows.column_names):
                _require(self._path, checksums(rows, columns) != known[np.asarray(places, np.int64)])


def read_sound(path: Path, dataset: Any, columns: Sequence[str], groups: Groups) -> pa.Table:
    """Some columns of all rows of a dataset, and the checksum columns that it has.

    Raises:
        StoreError: They cannot be read, or are not as they were written.
    """
    with reading(path):
        names = [name for name in groups if name in dataset.schema.names]
        rows = read_all(dataset, [*columns, *names])
        if len(rows) != dataset.count_rows():
            raise StoreError(f"{path}: holds {len(rows):,} of {dataset.count_rows():,} rows; {MEND}")
    _require(path, damaged_rows(rows, groups))
    return rows


def read_all(dataset: Any, columns: Sequence[str], rows: range | None = None) -> pa.Table:
    """Some columns of all rows of a dataset, or of those in a range.

    Not by a scan: where a file is damaged, that may end the process.
    """
    import pyarrow as pa

    rows = range(dataset.count_rows()) if rows is None else rows
    places = (rows[first : first + _ROWS] for first in range(0, max(len(rows), 1), _ROWS))
    return pa.concat_tables(dataset.take(list(part), columns=list(columns)) for part in places)


def _require(path: Path, wrong: NDArray[np.bool_]) -> None:
    if wrong.any():
        raise StoreError(
            f"{path}: {wrong.sum():,} of {len(wrong):,} rows that were read are not as they were written; {MEND}"
        )
