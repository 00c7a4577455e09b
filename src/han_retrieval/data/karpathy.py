"""Karpathy's JSON: ``dataset_flickr8k.json``, ``dataset_flickr30k.json``, ``dataset_coco.json``.

``images[]`` with ``filename``, ``split`` (train, restval, val, test) and ``sentences[].raw``; COCO adds ``filepath``
and ``cocoid``. A photo's id is its ``cocoid`` where there is one, its file name otherwise.
"""

from __future__ import annotations

from pathlib import Path

from han_retrieval.data.dataset import CaptionedPhotos
from han_retrieval.data.files import field, identifier, peek, read_json
from han_retrieval.data.gather import Gathering, PhotoFiles, split_of
from han_retrieval.errors import HANError

NAME = "karpathy"
LOOKS_FOR = "a JSON file (dataset_*.json) with images[], each with filename, split and sentences[].raw"


def recognises(source: Path) -> bool:
    """A JSON file whose images hold their sentences, or a folder with such a file."""
    return bool(_files(source))


def read(source: Path) -> CaptionedPhotos:
    """The photos in the order of the file."""
    files = _files(source) if source.is_dir() else [source]
    if len(files) != 1:
        found = ", ".join(path.name for path in files) or "none"
        raise HANError(f"{source}: expected one {LOOKS_FOR}, found {found}; give the file itself")
    path = files[0]
    gathering = Gathering(NAME, source, PhotoFiles(path.parent).find)
    for i, image in enumerate(field(read_json(path), "images", list, str(path))):
        where = f"{path}, images[{i}]"
        name = field(image, "filename", str, where)
        split = split_of(field(image, "split", str, where))
        if split is None:
            raise HANError(f"{where}: split {image['split']!r} is none of train, restval, val, test")
        photo_id = identifier(image, "cocoid", where) if "cocoid" in image else name
        folder = field(image, "filepath", str, where) + "/" if "filepath" in image else ""
        gathering.photo(photo_id, folder + name, split=split, where=where)
        for j, sentence in enumerate(field(image, "sentences", list, where)):
            gathering.caption(photo_id, field(sentence, "raw", str, f"{where}.sentences[{j}]"))
    return gathering.finish()


def _files(source: Path) -> list[Path]:
    paths = sorted(source.glob("*.json")) if source.is_dir() else [source]
    return [path for path in paths if path.suffix == ".json" and _looks_right(peek(path))]


def _looks_right(text: str) -> bool:
    # One key may be missing: reading then says which.
    keys = ('"images"', '"sentences"', '"raw"', '"split"', '"filename"')
    return text.startswith("{") and '"annotations"' not in text and sum(key in text for key in keys) >= 4
