"""COCO's ``captions_*.json``.

``images[]`` with ``id`` and ``file_name``, ``annotations[]`` with ``image_id`` and ``caption``. A photo's id is its
COCO id; its split is the one in the file's name (captions_train2017.json). A folder may hold one such file a split,
also in a folder ``annotations`` in it.
"""

from __future__ import annotations

from pathlib import Path

from han_retrieval.data.dataset import CaptionedPhotos
from han_retrieval.data.files import field, identifier, peek, read_json
from han_retrieval.data.gather import Gathering, PhotoFiles, split_in
from han_retrieval.errors import HANError

NAME = "coco"
LOOKS_FOR = "captions_*.json with images[] (id, file_name) and annotations[] (image_id, caption)"


def recognises(source: Path) -> bool:
    """A JSON file with images and annotations that have captions, or a folder with captions_*.json."""
    return bool(_files(source))


def read(source: Path) -> CaptionedPhotos:
    """The photos in the order of the files."""
    files = _files(source) if source.is_dir() else [source]
    if not files:
        raise HANError(f"{source}: expected {LOOKS_FOR}, found none")
    gathering = Gathering(NAME, source, PhotoFiles(files[0].parent).find)
    for path in files:
        content = read_json(path)
        known = set()
        for i, image in enumerate(field(content, "images", list, str(path))):
            where = f"{path}, images[{i}]"
            photo_id = identifier(image, "id", where)
            gathering.photo(photo_id, field(image, "file_name", str, where), split=split_in(path.stem), where=where)
            known.add(photo_id)
        for i, annotation in enumerate(field(content, "annotations", list, str(path))):
            where = f"{path}, annotations[{i}]"
            photo_id = identifier(annotation, "image_id", where)
            if photo_id not in known:
                raise HANError(f"{where}: image_id {photo_id} is the id of none of the images")
            gathering.caption(photo_id, field(annotation, "caption", str, where))
    return gathering.finish()


def _files(source: Path) -> list[Path]:
    if source.is_dir():
        return sorted([*source.glob("captions_*.json"), *source.glob("annotations/captions_*.json")])
    if source.suffix != ".json":
        return []
    text = peek(source)
    # Of a large file the beginning and the end are seen: the keys of the two lists, or what stands in them.
    keys = [('"images"', '"annotations"'), ('"file_name"', '"image_id"')]
    return [source] if text.startswith("{") and any(a in text and b in text for a, b in keys) else []
