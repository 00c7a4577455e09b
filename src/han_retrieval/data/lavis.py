"""JSON of LAVIS, ALBEF, BLIP and X-VLM: a list of ``{"image": path, "caption": one or a list}``.

Training files have an item a caption, the others an item a photo; ``image_id`` stands only in some of them, so a
photo's id is its ``image``. Its split is the one in the file's name (flickr30k_train.json, coco_karpathy_val.json). A
folder may hold one such file a split, also in a folder ``annotations`` in it.
"""

from __future__ import annotations

from pathlib import Path

from han_retrieval.data.dataset import CaptionedPhotos
from han_retrieval.data.files import field, peek, read_json, sentences, shown
from han_retrieval.data.gather import Gathering, PhotoFiles, split_in
from han_retrieval.errors import HANError

NAME = "lavis"
LOOKS_FOR = "JSON files that are lists of {image, caption}, one file a split"


def recognises(source: Path) -> bool:
    """A JSON list of objects with an image, or a folder with such files."""
    return bool(_files(source))


def read(source: Path) -> CaptionedPhotos:
    """The photos in the order of the files, each with the captions of all its items."""
    files = _files(source) if source.is_dir() else [source]
    if not files:
        raise HANError(f"{source}: expected {LOOKS_FOR}, found none")
    by_split: dict[str | None, Path] = {}
    for path in files:
        other = by_split.setdefault(split_in(path.stem), path)
        if other != path:
            raise HANError(f"{source}: {other.name} and {path.name} are of the same split; give one file itself")
    gathering = Gathering(NAME, source, PhotoFiles(files[0].parent).find)
    for split, path in by_split.items():
        items = read_json(path)
        if not isinstance(items, list):
            raise HANError(f"{path}: expected a list of {{image, caption}}, found {shown(items)}")
        for i, item in enumerate(items):
            where = f"{path}, item {i}"
            name = field(item, "image", str, where)
            gathering.photo(name, name, split=split, where=where)
            key = "captions" if "captions" in item else "caption"
            for sentence in sentences(field(item, key, object, where), f"{where}, field {key!r}"):
                gathering.caption(name, sentence)
    return gathering.finish()


def _files(source: Path) -> list[Path]:
    paths = sorted([*source.glob("*.json"), *source.glob("annotations/*.json")]) if source.is_dir() else [source]
    return [path for path in paths if path.suffix == ".json" and _looks_right(peek(path, size=4096))]


def _looks_right(text: str) -> bool:
    return text.startswith("[") and text[1:].lstrip().startswith("{") and '"image"' in text
