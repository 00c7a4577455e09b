"""Datasets through Hugging Face's ``datasets`` library: ``hf:NAME[/CONFIG][@REVISION][:SPLIT]``.

NAME is ``user/name`` on the Hub, or a folder: one that ``save_to_disk`` wrote, or one that ``load_dataset`` reads. A
set that is cached needs no network. One that has more bytes than the disk has room for, or that does not say how many
it has, is streamed: its captions are read first, then its photos as their turns come. Columns are those of
``columns.py``. No code of the Hub is run.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from han_retrieval.data.builder import DatasetBuilder, split_of
from han_retrieval.data.columns import add_rows, by_path_or_row, find_columns, plain_rows
from han_retrieval.data.dataset import CaptionedPhotos
from han_retrieval.data.packed import PackedPhoto, RowReader
from han_retrieval.data.parquet import content
from han_retrieval.errors import DataError, first_line
from han_retrieval.files import from_home
from han_retrieval.hub_errors import GATED, NO_REVISION, kinds, refusal_of
from han_retrieval.logs import silenced

PREFIX = "hf:"
_PHOTOS_AT_ONCE = 4
_ROWS_AT_ONCE = 1024
_REST = re.compile(r"(@(?P<revision>[^:]+))?(:(?P<split>.+))?")
_NO_NETWORK = {"ConnectionError", "ConnectError", "TimeoutError", "OfflineModeIsEnabled", "LocalEntryNotFoundError"}


class _Datasets:
    """See ``DatasetAdapter``."""

    description = "hf:NAME[:SPLIT] of the Hub"

    def recognises(self, source: Path) -> bool:
        """No path that exists: such a source is named with ``hf:`` before it."""
        return False

    def read(self, source: Path) -> CaptionedPhotos:
        """The photos of one split, or of all, in the order of their rows."""
        return by_path_or_row(lambda paths: self._read(source, paths=paths))

    def _read(self, source: Path, *, paths: bool) -> CaptionedPhotos:
        text = source.as_posix().removeprefix(PREFIX)
        name, rest = _name_first(text)
        found = _REST.fullmatch(rest)
        if not name or not found:
            raise DataError(f"{source}: expected {self.description}")
        builder = DatasetBuilder("hf", source, folder=Path())
        with _library(str(source)):
            splits = _load(name, revision=found["revision"], split=found["split"])
            for part, rows in splits.items():
                where = f"{PREFIX}{name}:{part}"
                if rows.features is None:
                    raise DataError(f"{where}: does not say its columns when it is streamed; make room for it")
                columns = find_columns(rows.features.arrow_schema, where, paths=paths)
                photos = RowPhotos(rows, columns.image, where)
                add_rows(
                    builder,
                    _plain(rows, columns),
                    columns,
                    packed=lambda row, photos=photos: PackedPhoto(photos, row),  # type: ignore[misc]
                    prefix=f"{part}/",
                    split=split_of(re.split(r"\W", part)[0]),
                )
        return builder.finish()


ADAPTER = _Datasets()


class RowPhotos:
    """The photos of a ``datasets.Dataset`` or ``IterableDataset`` by their row; see ``PhotoContainer``."""

    def __init__(self, rows: Any, image: str, where: str) -> None:
        self._images = rows.select_columns([image]).with_format("arrow")
        self._where = where
        self._random = hasattr(rows, "num_rows")  # which one that is streamed does not know
        self._reader = RowReader(self._batches_from)

    def read(self, place: int) -> bytes:
        """See ``PhotoContainer``."""
        with _library(self.name(place)):
            value = self._reader.read(place)
            path = value.get("path") if isinstance(value, dict) and value.get("bytes") is None else None
            if path and Path(path).is_file():  # of a folder of photos
                return Path(path).read_bytes()
            return content(value, self.name(place))

    def name(self, place: int) -> str:
        """See ``PhotoContainer``."""
        return f"{self._where}, row {place}"

    def _batches_from(self, row: int) -> Iterator[tuple[int, Sequence[Any]]]:
        if self._random:
            for first in range(row, len(self._images), _PHOTOS_AT_ONCE):
                yield first, self._images[first : first + _PHOTOS_AT_ONCE].column(0).to_pylist()
            return
        first = row
        for table in self._images.skip(row).iter(_PHOTOS_AT_ONCE):
            yield first, table.column(0).to_pylist()
            first += len(table)


def _name_first(text: str) -> tuple[str, str]:
    """The name, or the longest path of a folder, that a source begins with; and what follows, from "@" or ":" on."""
    ends = [len(text), *reversed([place.start() for place in re.finditer("[@:]", text)])]
    for end in ends:
        if end and from_home(text[:end]).is_dir():
            return str(from_home(text[:end])), text[end:]
    return text[: ends[-1]], text[ends[-1] :]


def _load(name: str, *, revision: str | None, split: str | None) -> dict[str, Any]:
    """The splits of a set by name."""
    import datasets

    folder = Path(name)
    if any((folder / file).is_file() for file in ("dataset_dict.json", "state.json")):
        found = datasets.load_from_disk(str(folder))
        if split is not None and isinstance(found, dict):
            if split not in found:
                raise DataError(f"{PREFIX}{name}: no split {split!r}; there are {', '.join(found)}")
            found = found[split]
    else:
        config = None
        if not folder.exists() and name.count("/") == 2:
            name, _, config = name.rpartition("/")
        builder = datasets.load_dataset_builder(name, config, revision=revision)
        streamed = not _has_room(builder)
        found = datasets.load_dataset(name, config, revision=revision, split=split, streaming=streamed)
    return dict(found) if isinstance(found, dict) else {split or str(found.split or "all"): found}


def _has_room(builder: Any) -> bool:
    """Whether a set is cached already, or the disk has room for it; False where its size cannot be told."""
    folder = Path(builder.cache_dir)
    if folder.exists():
        return True
    while not folder.exists():
        folder = folder.parent
    needed = _size(builder)
    return needed is not None and needed <= shutil.disk_usage(folder).free


def _size(builder: Any) -> int | None:
    """The bytes that a set takes: its files, where they are downloaded, and its tables; None where nothing says so.

    A set whose card lacks sizes is measured by its files; its tables are about as large.
    """
    download, tables = builder.info.download_size, builder.info.dataset_size
    if download is None:
        from fsspec.core import url_to_fs

        files = [file for split in (builder.config.data_files or {}).values() for file in split]
        try:
            sizes = [fs.info(path)["size"] for fs, path in map(url_to_fs, files)]
            here = sum(size for file, size in zip(files, sizes, strict=True) if Path(file).exists())
            download, tables = sum(sizes) - here, sum(sizes) if tables is None else tables
        except Exception:  # of any file system, by what it lacks
            return None
        if not files:
            return None
    return int(download + (tables or 0))


def _plain(rows: Any, columns: Any) -> Iterator[dict[str, Any]]:
    needed = list(dict.fromkeys(name.removesuffix(".path") for name in columns.beside))
    for table in rows.select_columns(needed).with_format("arrow").iter(_ROWS_AT_ONCE):
        yield from plain_rows(table, columns)


@contextmanager
def _library(where: str) -> Iterator[None]:
    """A context in which what ``datasets`` raises is a DataError that says how to mend it, and the only line of it."""
    try:
        import datasets  # noqa: F401, which sets the loggers' levels

        with silenced("datasets", "huggingface_hub"):  # which log before they raise
            yield
    except DataError:
        raise
    except ImportError:
        raise DataError(f"{where}: this needs a library more: pip install 'han-retrieval[datasets]'") from None
    except Exception as error:  # of datasets, huggingface_hub, fsspec, httpx, pyarrow
        raise DataError(f"{where}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    error = error.__cause__ if isinstance(error.__cause__, Exception) else error
    said, refused = first_line(error), refusal_of(error)
    if "gated" in str(error).lower() or refused == GATED:
        return GATED
    if "revision" in said.lower() or refused == NO_REVISION:
        return f"{NO_REVISION} ({said})"
    if refused:
        return f"no such folder, and {refused}"
    if "LocalEntryNotFoundError" in str(error) or kinds(error) & _NO_NETWORK:
        return "the Hub cannot be reached or does not give it, and it is not in the cache: read it once with a network"
    return f"the library datasets cannot read it ({said})"
