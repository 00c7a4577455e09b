"""Lance tables with the bytes of photos, such as ``lance-format/flickr30k-lance`` on the Hugging Face Hub.

A folder ``NAME.lance``, or a folder that holds some, also in ``data/`` (``train.lance``, ``val.lance``). The split is
the column ``split``, else the one in the table's name; columns are those of ``columns.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from han_retrieval.data.builder import DatasetBuilder, split_in
from han_retrieval.data.columns import Columns, add_rows, by_path_or_row, find_columns, plain_rows
from han_retrieval.data.dataset import CaptionedPhotos
from han_retrieval.data.packed import PackedPhoto
from han_retrieval.data.parquet import content
from han_retrieval.errors import DataError, first_line

_ROWS_AT_ONCE = 4096


class _Lance:
    """See ``DatasetAdapter``."""

    description = "*.lance with image (bytes) and caption(s)"

    def recognises(self, source: Path) -> bool:
        """A folder ``*.lance``, or one that holds such folders; stores and indexes have other names."""
        return bool(_tables(source))

    def read(self, source: Path) -> CaptionedPhotos:
        """The photos in the order of the tables' names and of their rows."""
        return by_path_or_row(lambda paths: self._read(source, paths=paths))

    def _read(self, source: Path, *, paths: bool) -> CaptionedPhotos:
        builder = DatasetBuilder("lance", source)
        tables = _tables(source) or [source]
        for path in tables:
            with _reading(path):
                import lance

                table = lance.dataset(str(path.absolute()))  # which a worker of a cluster opens, too
                columns = find_columns(table.schema, str(path), paths=paths)
                photos = LancePhotos(path, table, columns)
                add_rows(
                    builder,
                    _rows(table, columns),
                    columns,
                    packed=lambda row, photos=photos: PackedPhoto(photos, row),  # type: ignore[misc]
                    prefix=f"{path.stem}/",
                    split=split_in(path.stem),
                )
        return builder.finish()


ADAPTER = _Lance()


class LancePhotos:
    """The photos of a Lance table by the number of their row; see ``PhotoContainer``."""

    def __init__(self, path: Path, table: Any, columns: Columns) -> None:
        self.path = path
        self._table = table
        self._image = columns.image

    def read(self, place: int) -> bytes:
        """See ``PhotoContainer``."""
        with _reading(self.path, self.name(place)):
            values = self._table.take([place], columns=[self._image]).column(0).to_pylist()
            return content(values[0], self.name(place))

    def name(self, place: int) -> str:
        """See ``PhotoContainer``."""
        return f"{self.path}, row {place}"


def _tables(source: Path) -> list[Path]:
    if not source.is_dir():
        return []
    if source.suffix == ".lance":
        return [source]
    return sorted(path for path in [*source.glob("*.lance"), *source.glob("data/*.lance")] if path.is_dir())


def _rows(table: Any, columns: Columns) -> Iterator[dict[str, Any]]:
    for batch in table.scanner(columns=columns.beside, batch_size=_ROWS_AT_ONCE, scan_in_order=True).to_batches():
        yield from plain_rows(batch, columns)


@contextmanager
def _reading(path: Path, where: str | None = None) -> Iterator[None]:
    """A context in which what Lance raises is a DataError."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # Lance raises many kinds
        raise DataError(
            f"{where or path}: cannot be read as a Lance table ({first_line(error)}); copy it again"
        ) from None
