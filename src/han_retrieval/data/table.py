"""A folder of photos with ``metadata.csv`` or ``.jsonl``, as Hugging Face's imagefolder has it, or ``captions.csv``.

Each row has ``file_name`` (or ``image``, ``file``), a path beside the table, and ``caption``, ``captions`` or
``text``: one sentence, or in ``captions`` a list of them, which a CSV cell holds as JSON. Several rows may be about
one photo. The split is the column ``split`` where there is one, else the folder train, validation or test that the
photo is in; the tables may lie in those folders too. A photo's id is its path below the source. Photos that no table
names are not part of the dataset.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from tokenize import STRING, generate_tokens
from typing import Any

from han_retrieval.data.builder import DatasetBuilder, FileFormat, split_of
from han_retrieval.data.files import field, read_csv, sentences
from han_retrieval.errors import DataError
from han_retrieval.parsing import read_json_lines, shown

_PHOTO_FIELDS = ("file_name", "image", "file")
_CAPTION_FIELDS = ("caption", "captions", "text")


def _add(builder: DatasetBuilder, files: Sequence[Path]) -> None:
    for path in files:
        others = [other.name for other in files if other.parent == path.parent and other != path]
        if others:
            raise DataError(f"{path.parent}: {path.name} and {others[0]} are both there; give one of them itself")
        json_lines = path.suffix == ".jsonl"
        for where, row in read_json_lines(path) if json_lines else read_csv(path, (_PHOTO_FIELDS, _CAPTION_FIELDS)):
            name = field(row, _one_of(row, _PHOTO_FIELDS), str, where)
            if not name:
                raise DataError(f"{where}: the file name is empty")
            photo_id = (path.parent.relative_to(builder.folder) / name).as_posix()
            builder.photo(photo_id, photo_id, split=_split(row, photo_id, where), where=where)
            key = _one_of(row, _CAPTION_FIELDS)
            for sentence in sentences(_captions(row, key, where), f"{where}, {key}"):
                builder.caption(photo_id, sentence)


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if source.suffix in (".csv", ".jsonl") else []
    folders = [source, *sorted(path for path in source.iterdir() if split_of(path.name) and path.is_dir())]
    names = [f"{stem}{suffix}" for stem in ("metadata", "captions") for suffix in (".csv", ".jsonl")]
    paths = [folder / name for folder in folders for name in names]
    return [path for path in paths if path.is_file()]


def _one_of(row: Any, names: tuple[str, ...]) -> str:
    """The name that the row has, or the first, which then is missing."""
    return next((name for name in names if isinstance(row, dict) and name in row), names[0])


def _split(row: Any, photo_id: str, where: str) -> str | None:
    if not row.get("split"):
        folder, slash, _ = photo_id.partition("/")
        return split_of(folder) if slash else None
    split = split_of(field(row, "split", str, where))
    if split is None:
        raise DataError(f"{where}: split {row['split']!r} is not one of train, dev, test")
    return split


def _captions(row: Any, key: str, where: str) -> Any:
    value = field(row, key, object, where)
    if key != "captions" or not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(value)
    try:  # as pandas writes a list, or an array: ['one' 'two'], which Python alone would read as one text
        found = ast.literal_eval(value.strip())
        if isinstance(found, list) and all(isinstance(each, str) for each in found):
            tokens = generate_tokens(io.StringIO(value.strip()).readline)
            found = [ast.literal_eval(token.string) for token in tokens if token.type == STRING]
        return found
    except Exception:  # literal_eval raises many kinds, TypeError and MemoryError among them
        raise DataError(f"{where}, captions: expected a JSON list of captions, found {shown(value)}") from None


ADAPTER = FileFormat(
    name="metadata",
    description="metadata.csv or captions.csv (or .jsonl) with file_name and caption(s), also in train/, test/",
    files=_files,
    add=_add,
    exact_paths=True,
)
