"""COCO's ``captions_*.json``.

``images[]`` with ``id`` and ``file_name``, ``annotations[]`` with ``image_id`` and ``caption``. A photo's id is its
COCO id; its split is the one in the file's name (captions_train2017.json). A folder may hold one such file a split,
also in a folder ``annotations`` in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from han_retrieval.data.builder import DatasetBuilder, FileFormat, split_in
from han_retrieval.data.files import field, identifier, peek
from han_retrieval.errors import DataError
from han_retrieval.parsing import read_json


def _add(builder: DatasetBuilder, files: Sequence[Path]) -> None:
    for path in files:
        content = read_json(path)
        known = set()
        for i, image in enumerate(field(content, "images", list, str(path))):
            where = f"{path}, images[{i}]"
            photo_id = identifier(image, "id", where)
            builder.photo(photo_id, field(image, "file_name", str, where), split=split_in(path.stem), where=where)
            known.add(photo_id)
        for i, annotation in enumerate(field(content, "annotations", list, str(path))):
            where = f"{path}, annotations[{i}]"
            photo_id = identifier(annotation, "image_id", where)
            if photo_id not in known:
                raise DataError(f"{where}: image_id {photo_id} is not the id of one of the images")
            builder.caption(photo_id, field(annotation, "caption", str, where))


def _files(source: Path) -> list[Path]:
    if source.is_dir():
        return sorted([*source.glob("captions_*.json"), *source.glob("annotations/captions_*.json")])
    if source.suffix != ".json":
        return []
    text = peek(source)
    # Only the ends of a large file are read: they have the keys of the two lists, or keys of their objects.
    keys = [('"images"', '"annotations"'), ('"file_name"', '"image_id"')]
    return [source] if text.startswith("{") and any(a in text and b in text for a, b in keys) else []


ADAPTER = FileFormat(
    name="coco",
    description="captions_*.json with images[] and annotations[]",
    files=_files,
    add=_add,
)
