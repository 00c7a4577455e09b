"""Karpathy's JSON: ``dataset_flickr8k.json``, ``dataset_flickr30k.json``, ``dataset_coco.json``.

``images[]`` with ``filename``, ``split`` (train, restval, val, test) and ``sentences[].raw``; COCO adds ``filepath``
and ``cocoid``. A photo's id is its ``cocoid`` where there is one, its file name otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from han_retrieval.data.builder import DatasetBuilder, FileFormat, split_of
from han_retrieval.data.files import field, identifier, peek
from han_retrieval.errors import DataError
from han_retrieval.parsing import read_json


def _add(builder: DatasetBuilder, files: Sequence[Path]) -> None:
    (path,) = files
    for i, image in enumerate(field(read_json(path), "images", list, str(path))):
        where = f"{path}, images[{i}]"
        name = field(image, "filename", str, where)
        split = split_of(field(image, "split", str, where))
        if split is None:
            raise DataError(f"{where}: split {image['split']!r} is not one of train, restval, val, test")
        photo_id = identifier(image, "cocoid", where) if "cocoid" in image else name
        folder = field(image, "filepath", str, where) + "/" if "filepath" in image else ""
        builder.photo(photo_id, folder + name, split=split, where=where)
        for j, sentence in enumerate(field(image, "sentences", list, where)):
            builder.caption(photo_id, field(sentence, "raw", str, f"{where}.sentences[{j}]"))


def _files(source: Path) -> list[Path]:
    paths = sorted(source.glob("*.json")) if source.is_dir() else [source]
    return [path for path in paths if path.suffix == ".json" and _looks_right(peek(path))]


def _looks_right(text: str) -> bool:
    # One key may be missing: reading then says which.
    keys = ('"images"', '"sentences"', '"raw"', '"split"', '"filename"')
    return text.startswith("{") and '"annotations"' not in text and sum(key in text for key in keys) >= 4


ADAPTER = FileFormat(
    name="karpathy",
    description="dataset_*.json with images[] of filename, split and sentences[].raw",
    files=_files,
    add=_add,
    single=True,
)
