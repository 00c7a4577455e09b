"""JSON of LAVIS, ALBEF, BLIP and X-VLM: a list of ``{"image": path, "caption": one or a list}``.

Training files have an item a caption, the others an item a photo. Only some have an ``image_id``, so a photo's id is
its ``image``. Its split is the one in the file's name (flickr30k_train.json, coco_karpathy_val.json). A folder may
hold one such file a split, also in a folder ``annotations`` in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from han_retrieval.data.builder import DatasetBuilder, FileFormat, split_in
from han_retrieval.data.files import field, peek, sentences
from han_retrieval.errors import DataError
from han_retrieval.parsing import read_json, shown


def _add(builder: DatasetBuilder, files: Sequence[Path]) -> None:
    by_split: dict[str | None, Path] = {}
    for path in files:
        other = by_split.setdefault(split_in(path.stem), path)
        if other != path:
            raise DataError(f"{path.parent}: {other.name} and {path.name} are of the same split; give one file itself")
    for split, path in by_split.items():
        items = read_json(path)
        if not isinstance(items, list):
            raise DataError(f"{path}: expected a list of {{image, caption}}, found {shown(items)}")
        for i, item in enumerate(items):
            where = f"{path}, item {i}"
            name = field(item, "image", str, where)
            builder.photo(name, name, split=split, where=where)
            key = "captions" if "captions" in item else "caption"
            for sentence in sentences(field(item, key, object, where), f"{where}, field {key!r}"):
                builder.caption(name, sentence)


def _files(source: Path) -> list[Path]:
    paths = sorted([*source.glob("*.json"), *source.glob("annotations/*.json")]) if source.is_dir() else [source]
    return [path for path in paths if path.suffix == ".json" and _looks_right(peek(path, size=4096))]


def _looks_right(text: str) -> bool:
    return text.startswith("[") and text[1:].lstrip().startswith("{") and '"image"' in text


ADAPTER = FileFormat(
    name="lavis",
    description="JSON lists of {image, caption}",
    files=_files,
    add=_add,
)
