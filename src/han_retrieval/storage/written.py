"""Read back what Lance has written, before a commit names it: its writer does not report every failure."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from han_retrieval.errors import StoreError
from han_retrieval.objects import is_remote
from han_retrieval.storage.checksums import Groups, damaged_rows
from han_retrieval.storage.failures import is_failure
from han_retrieval.storage.hashes import has_footer

_ROWS = 64  # in memory at a time


def require_written(table: Path, fragments: Collection[Any], known: Collection[str], checksums: Groups) -> set[str]:
    """Check the files of fragments that are about to be committed, and delete what is not whole.

    Args:
        table: The table's folder.
        fragments: Metadata of the fragments.
        known: Files that are part of the table already, by their path in it; they are not checked.
        checksums: The columns of checksums, and what they cover.

    Returns:
        The files that were checked.

    Raises:
        StoreError: A file is not as it must be.
    """
    checked = set()
    for fragment in fragments:
        for file in fragment.files:
            name = f"data/{file.path}"
            if name not in known:
                _require(table / name, _data_fault(table / name, file.file_size_bytes, fragment, checksums))
                checked.add(name)
        deletions = getattr(fragment, "deletion_file", None)
        name = "" if deletions is None else deletions.path(fragment.id)
        if deletions is not None and name not in known:
            _require(table / name, _deletions_fault(table / name, deletions.num_deleted_rows))
            checked.add(name)
    return checked


def _require(path: Path, fault: str | None) -> None:
    if fault is None:
        return
    path.unlink(missing_ok=True)
    raise StoreError(
        f"{path}: could not be written ({fault}); make room or choose another disk; what was committed is kept"
    )


def _data_fault(path: Path, length: int | None, fragment: Any, checksums: Groups) -> str | None:
    import pyarrow as pa
    from lance.file import LanceFileReader

    is_length = path.stat().st_size
    if length is not None and is_length != length:
        return f"it has {is_length:,} of {length:,} bytes"
    if is_remote(path):  # which acknowledges what it has as a whole, with a checksum
        return None
    if not has_footer(path):
        return "its end is missing"
    rows = 0
    try:
        for batch in LanceFileReader(str(path)).read_all(batch_size=_ROWS).to_batches():
            rows += len(batch)
            if damaged_rows(pa.Table.from_batches([batch]), checksums).any():
                return "it does not hold what was written"
    except BaseException as error:
        if not is_failure(error):
            raise
        return "it cannot be read back"
    return None if rows == fragment.physical_rows else f"it holds {rows} of {fragment.physical_rows} rows"


def _deletions_fault(path: Path, count: int) -> str | None:
    """Of a file of deleted rows, an Arrow file or a Roaring bitmap."""
    import pyarrow as pa

    if is_remote(path) or path.suffix != ".arrow":
        return None if path.stat().st_size else "it is empty"
    try:
        with pa.OSFile(str(path)) as file:
            rows = pa.ipc.open_file(file).read_all().num_rows
    except (OSError, ValueError):
        return "it cannot be read back"
    return None if rows == count else f"it holds {rows} of {count} rows"
