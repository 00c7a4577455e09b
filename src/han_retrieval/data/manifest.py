"""Lists of photos: a text or Parquet file of paths and URLs, a pattern, a folder behind a URL.

A text file has a path or a URL a line; lines that begin with ``#`` are left out. A Parquet file has them in the column
``url``, ``image_url``, ``uri``, ``path``, ``file_path``, ``file_name``, ``filename`` or ``file``, and no bytes of
images; captions are read where it has some. A photo's id is the line; relative paths begin at the list's folder. Photos
of a pattern or a folder have the path behind the part without wildcards as id, as those of a folder of this machine.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit
from urllib.request import url2pathname

from han_retrieval.data.columns import caption_columns, caption_texts, path_column
from han_retrieval.data.dataset import CaptionedPhoto, CaptionedPhotos
from han_retrieval.data.files import peek
from han_retrieval.data.parquet import has_paths, opened, shards
from han_retrieval.data.photos import PHOTO_SUFFIXES
from han_retrieval.data.url_path import is_url
from han_retrieval.data.urls import fixed_part, has_wildcards, list_urls, photo_at, read_url
from han_retrieval.errors import DataError
from han_retrieval.objects import is_remote, to_path
from han_retrieval.parsing import read_lines

_NAME = "manifest"

_Row = tuple[str, list[str]]
"""A path or URL, "" for none, and captions."""


class _Manifest:
    """See ``DatasetAdapter``."""

    description = "*.txt, *.parquet of paths or URLs"

    def recognises(self, source: Path) -> bool:
        """A text file whose first line is a URL or ends as a photo does, or Parquet files with paths and no photos."""
        if source.suffix == ".txt" and source.is_file():
            first = next(_entries(peek(source, size=4096).splitlines()), "")
            return is_url(first) or ("\t" not in first and PurePosixPath(first).suffix.lower() in PHOTO_SUFFIXES)
        return has_paths(source)

    def read(self, source: Path) -> CaptionedPhotos:
        """The photos in the order of the list."""
        if source.suffix == ".txt":
            return _listed(source, source.absolute().parent, _without_captions(read_lines(source)))
        files = shards(source, ".parquet")
        if not files:
            raise DataError(f"{source}: expected {self.description}, found none")
        folder = source.absolute() if source.is_dir() else source.absolute().parent
        return _listed(source, folder, (row for path in files for row in _rows(path)))


ADAPTER = _Manifest()


def is_listing(source: str | Path) -> bool:
    """Whether a source is a URL, or a pattern that stands for files of this machine."""
    name = str(source)
    if not is_url(name):
        return has_wildcards(name) and not Path(source).exists()
    is_one = has_wildcards(name) or PurePosixPath(name).suffix.lower() in (".txt", ".parquet")
    return is_one or not is_remote(to_path(source))  # a folder in object storage is one like others


def is_list(source: str | Path) -> bool:
    """Whether a source is a list of photos, or stands for one: not a folder of this machine."""
    return is_listing(source) or (Path(source).is_file() and ADAPTER.recognises(Path(source)))


def read_list(source: str | Path) -> list[tuple[str, Path | str]]:
    """The photos of what ``is_list``: their ids, and their paths or URLs.

    Raises:
        DataError: There are none, or they cannot be listed.
    """
    photos = (read_listing(source) if is_listing(source) else ADAPTER.read(Path(source))).photos
    return [(photo.id, photo.path or str(photo.packed)) for photo in photos]


def read_listing(source: str | Path) -> CaptionedPhotos:
    """The photos that a pattern matches, those below a URL, or those of a list behind a URL.

    Raises:
        DataError: There are none, or they cannot be listed.
    """
    name = str(source)
    suffix = PurePosixPath(name).suffix.lower()
    found: Iterable[tuple[str, str | Path]]
    if not is_url(name):
        paths = [Path(path) for path in sorted(glob.glob(name, recursive=True))]  # noqa: PTH207
        base = fixed_part(name, os.sep) or os.curdir
        found = [(Path(os.path.relpath(path, base)).as_posix(), path) for path in paths if path.is_file()]
    elif suffix == ".txt":
        lines = read_url(name).decode("utf-8-sig", errors="replace").splitlines()
        return _listed(name, name.rpartition("/")[0], _without_captions(lines))
    elif suffix == ".parquet" and not has_wildcards(name):
        return _listed(name, name.rpartition("/")[0], _rows(name))
    elif suffix in PHOTO_SUFFIXES and not has_wildcards(name):
        found = [(name.rpartition("/")[2], name)]
    else:
        found = list_urls(name)
    photos = [_photo(each, place) for each, place in found if PurePosixPath(each).suffix.lower() in PHOTO_SUFFIXES]
    if not photos:
        raise DataError(f"{source}: no photo there")
    return CaptionedPhotos(_NAME, source, tuple(photos), Counter())


def _entries(lines: Iterable[str]) -> Iterator[str]:
    return (line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))


def _without_captions(lines: Iterable[str]) -> Iterator[_Row]:
    return ((line, []) for line in _entries(lines))


def _rows(path: Path | str) -> Iterator[_Row]:
    """The rows of a Parquet file."""
    content = None if isinstance(path, Path) else BytesIO(read_url(path))
    with opened(path, content) as file:
        column = path_column(file.schema_arrow)
        if column is None:
            raise DataError(f"{path}: no column of paths or URLs of photos, such as url or path")
        types = {field.name: field.type for field in file.schema_arrow if field.name != column}
        captions = caption_columns(types)
        for batch in file.iter_batches(columns=[column, *captions]):
            for row in batch.to_pylist():
                found = caption_texts([row[each] for each in captions], str(path))
                yield row[column] or "", [each.strip() for each in found if each.strip()]


def _listed(source: Path | str, base: Path | str, rows: Iterable[_Row]) -> CaptionedPhotos:
    """The photos of a list whose relative paths begin at ``base``."""
    skipped = Counter[str]()
    photos: dict[str, CaptionedPhoto] = {}
    for name, captions in rows:
        if not name.strip():
            skipped["row without a path"] += 1
        elif name in photos:
            skipped["listed twice"] += int(not captions)
            photos[name] = replace(photos[name], captions=(*photos[name].captions, *captions))
        else:
            place = name if is_url(name) or isinstance(base, Path) else f"{base}/{name}"
            photo = _photo(name, place if is_url(place) else Path(base, name))
            photos[name] = replace(photo, captions=tuple(captions))
    if not photos:
        raise DataError(f"{source}: lists no photos")
    return CaptionedPhotos(_NAME, source, tuple(photos.values()), +skipped)


def _photo(name: str, place: str | Path) -> CaptionedPhoto:
    if str(place).lower().startswith("file://"):
        with suppress(ValueError):  # of a URL that is none, which reading it says
            place = Path(url2pathname(urlsplit(str(place)).path))
    path = place if isinstance(place, Path) else to_path(place)
    if isinstance(path, Path) and isinstance(place, str):
        return CaptionedPhoto(name, None, (), None, photo_at(place))
    return CaptionedPhoto(name, path, ())  # of this machine or of object storage
