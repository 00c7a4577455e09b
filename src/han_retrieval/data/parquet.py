"""Parquet files with the bytes of photos, as most sets of photos on the Hugging Face Hub are.

One file, or a folder with the shards of one or several splits (``train-00000-of-00004.parquet``, also in ``data/`` or
in a folder a split). The split is the column ``split``, else the one in the file's name, else its folder's name;
columns are those of ``columns.py``. Of the images, one page of one row group is in memory at once, not a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from han_retrieval.data.builder import DatasetBuilder, split_in, split_of
from han_retrieval.data.columns import (
    Columns,
    add_rows,
    by_path_or_row,
    find_columns,
    image_column,
    path_column,
    plain_rows,
)
from han_retrieval.data.dataset import CaptionedPhotos
from han_retrieval.data.packed import PackedPhoto, RowReader
from han_retrieval.errors import DataError, first_line

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_PHOTOS_AT_ONCE = 4
_ROWS_AT_ONCE = 4096
_BUFFER = 2**20  # of a column that is read; without it, a whole row group is


_TABLES = {"corpus": "corpus", "query": "query", "queries": "query", "qrels": "qrels"}


def table_kind(path: Path) -> str:
    """The table of a benchmark that a file is of, by its folder or its name; "" for another."""
    return _TABLES.get(path.parent.name) or _TABLES.get(path.name.partition("-")[0].removesuffix(".parquet"), "")


class _Parquet:
    """See ``DatasetAdapter``."""

    description = "*.parquet with image (bytes) and caption(s)"

    def recognises(self, source: Path) -> bool:
        """A Parquet file, or a folder with some in it or in its folders, but for lists and a benchmark's tables."""
        files = shards(source, ".parquet")
        return bool(files) and not has_paths(source) and "qrels" not in map(table_kind, files)

    def read(self, source: Path) -> CaptionedPhotos:
        """The photos in the order of the files' names and of their rows."""
        return by_path_or_row(lambda paths: self._read(source, paths=paths))

    def _read(self, source: Path, *, paths: bool) -> CaptionedPhotos:
        files = shards(source, ".parquet")
        if not files:
            raise DataError(f"{source}: expected {self.description}, found none")
        builder = DatasetBuilder("parquet", source)
        for path in files:
            name = path.relative_to(source if source.is_dir() else path.parent).with_suffix("").as_posix()
            with opened(path) as file:
                columns = find_columns(file.schema_arrow, str(path), paths=paths)
                photos = ParquetPhotos(path, columns.image)
                add_rows(
                    builder,
                    _rows(file, columns),
                    columns,
                    packed=lambda row, photos=photos: PackedPhoto(photos, row),  # type: ignore[misc]
                    prefix=f"{name}/",
                    split=split_of_file(path),
                )
        return builder.finish()


ADAPTER = _Parquet()


class ParquetPhotos:
    """The photos of a Parquet file by the number of their row; see ``PhotoContainer``."""

    def __init__(self, path: Path, image: str) -> None:
        self.path, self._file = path, path.absolute()  # a worker of a cluster has a working folder of its own
        self._image = image
        self._rows = RowReader(self._batches_from)

    def read(self, place: int) -> bytes:
        """See ``PhotoContainer``."""
        try:
            found = self._rows.read(place)
        except DataError as error:
            raise DataError(f"{self.name(place)}: {str(error).removeprefix(f'{self._file}: ')}") from None
        except IndexError:
            raise DataError(f"{self.name(place)}: the file has changed, there is no such row") from None
        except OSError as error:  # whose own text has the path
            reason = os.strerror(error.errno) if error.errno else first_line(error)
            raise DataError(f"{self.name(place)}: cannot be read ({reason})") from None
        return content(found, self.name(place))

    def name(self, place: int) -> str:
        """See ``PhotoContainer``."""
        return f"{self.path}, row {place}"

    def _batches_from(self, row: int) -> Iterator[tuple[int, Sequence[Any]]]:
        with opened(self._file) as file:
            first = 0
            groups: list[int] = []
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if groups or first + rows > row:
                    groups.append(group)
                else:
                    first += rows
            for batch in file.iter_batches(_PHOTOS_AT_ONCE, row_groups=groups, columns=[self._image]):
                yield first, batch.column(0).to_pylist() if first + len(batch) > row else range(len(batch))
                first += len(batch)


def shards(source: Path, suffix: str) -> list[Path]:
    """The files of that ending which a path is, or which are in it or in its folders, in the order of their names."""
    if not source.is_dir():
        return [source] if source.suffix == suffix else []
    return sorted(p for p in [*source.glob(f"*{suffix}"), *source.glob(f"*/*{suffix}")] if not p.name.startswith("."))


def has_paths(source: Path) -> bool:
    """Whether a source is Parquet files with the paths of photos instead of their bytes."""
    files = shards(source, ".parquet")
    if not files:
        return False
    try:
        with opened(files[0]) as file:
            schema = file.schema_arrow
    except DataError:
        return False
    return image_column(schema) is None and path_column(schema) is not None


def split_of_file(path: Path) -> str | None:
    """The split in a file's name, or that which its folder is called."""
    return split_in(path.stem) or split_of(path.absolute().parent.name)


def content(value: Any, where: str) -> bytes:
    """The bytes of a value in a column of images.

    Raises:
        DataError: There are none, but perhaps a path.
    """
    found = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(found, bytes):
        path = value.get("path") if isinstance(value, dict) else None
        only = f", only the path {path}" if path else ""
        raise DataError(f"{where}: has no bytes{only}; write the photos themselves into that column")
    return found


def _rows(file: pq.ParquetFile, columns: Columns) -> Iterator[dict[str, Any]]:
    for batch in file.iter_batches(_ROWS_AT_ONCE, columns=columns.beside):
        yield from plain_rows(batch, columns)


@contextmanager
def opened(path: Path | str, content: IO[bytes] | None = None) -> Iterator[pq.ParquetFile]:
    """A Parquet file that is open, or the content of one; what goes wrong with it is a DataError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(content or path, buffer_size=_BUFFER, pre_buffer=False) as file:
            yield file
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:  # also UnicodeDecodeError
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(
            f"{path}: a Parquet file that is cut off or damaged ({first_line(error)}); copy it again"
        ) from None
