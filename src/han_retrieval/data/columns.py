"""Which columns of an Arrow table hold photos, captions, ids and splits, and their rows as photos.

What Parquet files, Lance tables and datasets of the Hub have in common. A photo's id is the first of these columns that
is there: ``cocoid``, ``filename``, ``file_name``, ``image_id``, ``img_id``, ``key``, ``__key__``, ``id``; else the
``path`` inside the image, else the number of its row. A path, and ``__key__``, which names a sample of one shard, count
where no two photos have the same. Rows with one caption each and the same id are one photo.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from han_retrieval.data.builder import DatasetBuilder, split_of
from han_retrieval.data.dataset import CaptionedPhotos
from han_retrieval.data.packed import PackedPhoto
from han_retrieval.errors import DataError, shortened
from han_retrieval.parsing import shown

if TYPE_CHECKING:
    import pyarrow as pa

_IMAGES = ("image", "jpg", "jpeg", "png", "webp", "photo", "img", "picture", "image_bytes", "bytes")
_CAPTIONS = ("captions", "sentences", "sentences_raw", "caption", "text", "txt", "raw")
_PATHS = ("url", "image_url", "uri", "path", "file_path", "file_name", "filename", "file")
_NUMBERED = re.compile(r"(?:captions?|sentence|text)_?\d+")
_IDS = ("cocoid", "filename", "file_name", "image_id", "img_id", "key", "__key__", "id")
_OF_SHARD = "__key__"  # a WebDataset's name of a sample, which another shard may have too
# The text in an object that a caption is, and the object that a WebDataset's .json becomes.
_TEXT = ("raw", "caption", "sentence", "text")
_JSON = "json"


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table.

    Attributes:
        image: The bytes, or an object with ``bytes`` and perhaps ``path``.
        path: Whether ``image`` has a path.
        captions: One or several.
        id, split: None where there is none.
        nested: Whether captions are in the object ``json``.
        nested_id: Whether the id is.
    """

    image: str
    path: bool
    captions: tuple[str, ...]
    id: str | None
    split: str | None
    nested: bool
    nested_id: bool

    @property
    def beside(self) -> list[str]:
        """What is read for the captions: all but the bytes; fields of objects by their path."""
        names = [_JSON] if self.nested else [*self.captions]
        names += filter(None, (None if self.nested_id else self.id, self.split))
        fields = [f"{self.image}.path"] if self.path and self.id is None else []
        return list(dict.fromkeys([*names, *fields]))


def image_column(schema: pa.Schema) -> str | None:
    """The column with the bytes of photos."""
    types = {field.name: field.type for field in schema}
    return next((name for name in [*_IMAGES, *types] if name in types and _holds_photos(types[name])), None)


def path_column(schema: pa.Schema) -> str | None:
    """The column with paths or URLs of photos; case does not matter."""
    texts = {field.name.lower(): field.name for field in schema if _is_text(field.type)}
    return next((texts[name] for name in _PATHS if name in texts), None)


class RepeatedPathError(DataError):
    """Two photos have the same path inside their image, or the same key, so that these are no ids here."""


def by_path_or_row(read: Callable[[bool], CaptionedPhotos]) -> CaptionedPhotos:
    """A dataset whose ids may be paths inside its images, or keys: read by them, or by rows where they repeat."""
    try:
        return read(True)
    except RepeatedPathError:
        return read(False)


def find_columns(schema: pa.Schema, where: str, *, paths: bool) -> Columns:
    """The columns that hold photos and captions; ``paths`` says whether paths inside images, and keys, may be ids.

    Raises:
        DataError: None holds photos, or none captions; the message names those there are.
    """
    import pyarrow.types as kinds

    types = {field.name: field.type for field in schema}
    image = image_column(schema)
    there = ", ".join(f"{name} ({shortened(str(kind), 60)})" for name, kind in types.items()) or "none"
    if image is None:
        raise DataError(
            f"{where}: no column with the bytes of images; the columns are {there}; put the bytes of each photo's file "
            "into one, such as image"
        )
    inside = {}
    if _JSON in types and kinds.is_struct(types[_JSON]):
        inside = {field.name: field.type for field in types[_JSON]}
    nested = types | inside
    captions = caption_columns(nested)
    in_json = bool(captions) and captions[0] not in types
    if not captions:
        raise DataError(
            f"{where}: no column with captions, such as caption, captions, sentences or caption_0; the columns are "
            f"{there}; rename the one that holds them, or add one"
        )
    usable = nested if in_json else types
    names = [name for name in _IDS if name in usable and _is_id(usable[name]) and (paths or name != _OF_SHARD)]
    id_ = names[0] if names else None
    return Columns(
        image=image,
        path=paths and kinds.is_struct(types[image]) and types[image].get_field_index("path") >= 0,
        captions=captions,
        id=id_,
        split="split" if not in_json and "split" in types and _is_text(types["split"]) else None,
        nested=in_json,
        nested_id=in_json and id_ in inside,
    )


def add_rows(
    builder: DatasetBuilder,
    rows: Iterable[dict[str, Any]],
    columns: Columns,
    *,
    packed: Callable[[int], PackedPhoto],
    prefix: str,
    split: str | None,
) -> None:
    """Add a table's photos and captions.

    Args:
        builder: Collects them.
        rows: Of the columns ``columns.beside``, in the order of the table.
        columns: What is in them.
        packed: The photo of a row.
        prefix: What a row's number gets before it where it is the id.
        split: That of all rows, where the table has no such column.

    Raises:
        DataError: A value is not what its column should hold, or an id stands for two photos.
    """
    for number, raw in enumerate(rows):
        photo = packed(number)
        where = str(photo)
        row = raw.get(_JSON) or {} if columns.nested else raw
        captions = list(caption_texts([row.get(name) for name in columns.captions], where))
        photo_id = _id(row, raw, columns, where) or f"{prefix}{number}"
        own = columns.id not in (None, _OF_SHARD)
        one_each = own and len(columns.captions) == 1 and isinstance(row.get(columns.captions[0]), str)
        if photo_id in builder and not one_each:
            one = columns.id is None and len(captions) == 1 and len(columns.captions) == 1
            kind = DataError if own or one else RepeatedPathError
            raise kind(f"{where}: photo id {photo_id!r} occurs twice; ids must be unique")
        here = split if columns.split is None else _split(row[columns.split], where)
        builder.photo(photo_id, photo_id, split=here, where=where, packed=photo)
        for caption in captions:
            builder.caption(photo_id, caption)


def plain_rows(table: pa.Table | pa.RecordBatch, columns: Columns) -> Iterator[dict[str, Any]]:
    """The rows of a table as dicts with ``columns.beside``; the bytes of images are not copied."""
    import pyarrow.compute as pc

    lists = {}
    for name in columns.beside:
        column, _, field = name.partition(".") if name.startswith(f"{columns.image}.") else (name, "", "")
        values = table.column(column)
        lists[name] = (pc.struct_field(values, field) if field else values).to_pylist()
    for row in zip(*lists.values(), strict=True):
        yield dict(zip(lists, row, strict=True))


def _holds_photos(kind: pa.DataType) -> bool:
    import pyarrow.types as kinds

    if kinds.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _is_binary(kind.field(place).type)
    return _is_binary(kind)


def _is_binary(kind: pa.DataType) -> bool:
    import pyarrow.types as kinds

    return kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_binary_view(kind)


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow.types as kinds

    kind = kind.value_type if kinds.is_dictionary(kind) else kind
    return kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind)


def _is_id(kind: pa.DataType) -> bool:
    import pyarrow.types as kinds

    return _is_text(kind) or kinds.is_integer(kind)


def _is_caption(kind: pa.DataType) -> bool:
    import pyarrow.types as kinds

    if kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind):
        return _is_caption(kind.value_type)
    if kinds.is_struct(kind):
        return any(field.name in _TEXT and _is_caption(field.type) for field in kind)
    return _is_text(kind)


def caption_columns(types: dict[str, pa.DataType]) -> tuple[str, ...]:
    """The columns with captions."""
    usable = [name for name in types if _is_caption(types[name])]
    numbered = sorted((name for name in usable if _NUMBERED.fullmatch(name)), key=_number)
    if "captions" in usable or not numbered:
        return next(((name,) for name in _CAPTIONS if name in usable), ())
    return tuple(numbered)


def _number(name: str) -> tuple[str, int]:
    letters = name.rstrip("0123456789")
    return letters, int(name[len(letters) :])


def caption_texts(value: Any, where: str) -> Iterator[str]:
    """Captions in whatever they are wrapped; a caption that is missing gives none."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        yield from chain.from_iterable(caption_texts(each, where) for each in value)
    elif isinstance(value, dict):
        yield from caption_texts(next((value[name] for name in _TEXT if name in value), None), where)
    elif value is not None:
        raise DataError(f"{where}: expected captions, found {shown(value)}")


def _id(row: dict[str, Any], raw: dict[str, Any], columns: Columns, where: str) -> str:
    if columns.id is None:
        path = raw.get(f"{columns.image}.path")
        return path.replace("\\", "/").rpartition("/")[2] if isinstance(path, str) else ""
    value = (row if columns.nested_id else raw).get(columns.id)
    if value is None or value == "":
        raise DataError(f"{where}: the column {columns.id!r}, which is the photo's id, is empty")
    return str(value)


def _split(value: Any, where: str) -> str | None:
    if value is None:
        return None
    split = split_of(str(value))
    if split is None:
        raise DataError(f"{where}: split {value!r} is not one of train, dev, test")
    return split
