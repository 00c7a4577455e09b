"""Annotations that link phrases of captions to boxes in photos: Flickr30k Entities (Plummer et al., IJCV 2017)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from han_retrieval.data.files import field
from han_retrieval.errors import DataError
from han_retrieval.parsing import read_json_lines, read_lines, read_text, shown


@dataclass(frozen=True, slots=True, eq=False)
class Phrase:
    """Words of a sentence that name one entity.

    Attributes:
        start, end: The words, tokens[start:end] of their sentence.
        chain: The entity's id within the dataset; "0" for what cannot be seen ("each other").
        types: Its categories ("people", "clothing", ...).
        boxes: (k, 4) float32, x0 y0 x1 y1, the edges of the entity's boxes in pixels of the stored photo; k = 0 for an
            entity without a box.
    """

    start: int
    end: int
    chain: str
    types: tuple[str, ...]
    boxes: np.ndarray


@dataclass(frozen=True, slots=True)
class EntitiesSentence:
    """A caption in the tokens of the annotation, and its phrases in order."""

    tokens: tuple[str, ...]
    phrases: tuple[Phrase, ...]


@dataclass(frozen=True, slots=True)
class EntitiesPhoto:
    """The annotation of one photo: its file name, its width and height in pixels as annotated, its sentences."""

    id: str
    width: int
    height: int
    sentences: tuple[EntitiesSentence, ...]


EntitiesPhotos = dict[str, EntitiesPhoto]
"""Annotations by photo id, in the order of their files."""

_ANNOTATION_BYTES = 2**22  # of an XML file; as elements it takes a hundred times as much memory
_NO_BOXES = np.zeros((0, 4), np.float32)
_FAR = 1_000_000  # pixels: no photo is as wide or high
_PHRASE = re.compile(r"\[/EN#(\w+)/(\S+)")


def read_entities(path: str | Path) -> EntitiesPhotos:
    """Read the Entities annotations of a dataset.

    Args:
        path: A ``.jsonl`` file with an object a photo (``file``, ``width``, ``height``, ``boxes`` of ``box`` and
            ``chains``, ``sentences`` of ``tokens`` and ``phrases``), or the original folder with ``Annotations/*.xml``
            and ``Sentences/*.txt``. The original's boxes, whole pixels counted from 1, become pixel edges.

    Raises:
        DataError: ``path`` is neither of the two, or something in it is broken; the message has the file and line.
    """
    path = Path(path)
    if path.is_dir():
        return _read_original(path)
    photos: EntitiesPhotos = {}
    for where, record in read_json_lines(path):
        photo = _photo_of(record, where)
        if photo.id in photos:
            raise DataError(f"{where}: photo {photo.id!r} is in an earlier line too")
        photos[photo.id] = photo
    if not photos:
        raise DataError(f"{path}: the file is empty")
    return photos


def _photo_of(record: Any, where: str) -> EntitiesPhoto:
    boxes: dict[str, list[Any]] = {}
    for entry in field(record, "boxes", list, where):
        box = field(entry, "box", list, where)
        if len(box) != 4 or not all(isinstance(edge, int | float) for edge in box) or not _is_box(*box):
            raise DataError(f"{where}: a box must be four numbers, x0 < x1 and y0 < y1, found {shown(box)}")
        for chain in _texts(entry, "chains", where):
            boxes.setdefault(chain, []).append(box)
    arrays = _arrays(boxes)
    sentences = tuple(_sentence_of(sentence, arrays, where) for sentence in field(record, "sentences", list, where))
    width, height = (field(record, name, int, where) for name in ("width", "height"))
    if not _is_size(width, height):
        raise DataError(f"{where}: 'width' and 'height' must be from 1 to 999999, found {shown([width, height])}")
    return EntitiesPhoto(field(record, "file", str, where), width, height, sentences)


def _is_size(width: int, height: int) -> bool:
    return 0 < width < _FAR and 0 < height < _FAR


def _is_box(x0: float, y0: float, x1: float, y1: float) -> bool:
    # Of NaN no comparison is true.
    return -_FAR < x0 < x1 < _FAR and -_FAR < y0 < y1 < _FAR


def _texts(record: Any, name: str, where: str) -> tuple[str, ...]:
    """The value of a field that is a list of texts, none of them empty."""
    values = field(record, name, list, where)
    for value in values:
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"{where}: the field {name!r} must be a list of texts, none empty; found {shown(value)}")
    return tuple(values)


def _sentence_of(record: Any, boxes: dict[str, np.ndarray], where: str) -> EntitiesSentence:
    tokens = _texts(record, "tokens", where)
    phrases = field(record, "phrases", list, where)
    return EntitiesSentence(tokens, tuple(_phrase_of(phrase, len(tokens), boxes, where) for phrase in phrases))


def _phrase_of(record: Any, tokens: int, boxes: dict[str, np.ndarray], where: str) -> Phrase:
    start, end = field(record, "start", int, where), field(record, "end", int, where)
    if not 0 <= start < end <= tokens:
        raise DataError(f"{where}: the phrase [{start}, {end}) is not within its sentence of {tokens} tokens")
    chain = field(record, "chain", str, where)
    return Phrase(start, end, chain, _texts(record, "types", where), boxes.get(chain, _NO_BOXES))


def _arrays(boxes: dict[str, list[Any]]) -> dict[str, np.ndarray]:
    return {chain: np.array(edges, np.float32).reshape(-1, 4) for chain, edges in boxes.items()}


def _read_original(folder: Path) -> EntitiesPhotos:
    files = sorted((folder / "Sentences").glob("*.txt"))
    if not files:
        raise DataError(f"{folder}: expected a .jsonl file, or a folder with Sentences/*.txt and Annotations/*.xml")
    photos: EntitiesPhotos = {}
    for path in files:
        width, height, boxes = _read_annotation(folder / "Annotations" / f"{path.stem}.xml")
        sentences = tuple(
            _parse_sentence(line, boxes, f"{path}, line {number}")
            for number, line in enumerate(read_lines(path), start=1)
            if line.strip()
        )
        photos[f"{path.stem}.jpg"] = EntitiesPhoto(f"{path.stem}.jpg", width, height, sentences)
    return photos


def _read_annotation(path: Path) -> tuple[int, int, dict[str, np.ndarray]]:
    """Width, height, and the boxes of each chain."""
    text = read_text(path, most=_ANNOTATION_BYTES)
    # The format has no document type; with none, no entity can be declared that expands without end or reads a file.
    if "<!doctype" in text.lower():
        raise DataError(f"{path}: a document type (DOCTYPE) is not allowed here")
    try:
        root = ElementTree.fromstring(text)
        width, height = _number(root, "size/width"), _number(root, "size/height")
        if not _is_size(width, height):
            raise ValueError(f"<width> and <height> must be from 1 to 999999, found {shown([width, height])}")
        boxes: dict[str, list[Any]] = {}
        for thing in root.iter("object"):
            if thing.find("bndbox") is None:
                continue
            x0, y0, x1, y1 = (_number(thing, f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax"))
            # Pixels xmin..xmax, counted from 1, reach from the edge xmin - 1 to the edge xmax.
            box = (max(x0 - 1, 0), max(y0 - 1, 0), x1, y1)
            if not _is_box(*box):
                raise ValueError(f"a <bndbox> must have xmin <= xmax and ymin <= ymax, found {shown([x0, y0, x1, y1])}")
            for name in thing.iter("name"):
                boxes.setdefault(name.text or "", []).append(box)
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{path}: not an Entities annotation ({error})") from None
    return width, height, _arrays(boxes)


def _number(element: ElementTree.Element, tag: str) -> int:
    text = element.findtext(tag)
    if text is None:
        raise ValueError(f"<{tag}> is missing in <{element.tag}>")
    return int(text)


def _parse_sentence(line: str, boxes: dict[str, np.ndarray], where: str) -> EntitiesSentence:
    """``[/EN#283585/people Two young guys] look at [/EN#0/notvisual each other] .``"""
    tokens: list[str] = []
    phrases: list[Phrase] = []
    opened: re.Match[str] | None = None
    start = 0
    for part in line.split():
        match = _PHRASE.fullmatch(part)
        if match is not None:
            if opened is not None:
                raise DataError(f"{where}: a phrase begins at {part!r} before the one at {opened[0]!r} ends")
            opened, start = match, len(tokens)
            continue
        closes = opened is not None and part.endswith("]")
        word = part[:-1] if closes else part
        if word:
            tokens.append(word)
        if opened is not None and closes:
            if start == len(tokens):
                raise DataError(f"{where}: the phrase at {opened[0]!r} has no words")
            chain, types = opened[1], tuple(opened[2].split("/"))
            phrases.append(Phrase(start, len(tokens), chain, types, boxes.get(chain, _NO_BOXES)))
            opened = None
    if opened is not None:
        raise DataError(f"{where}: the phrase at {opened[0]!r} has no closing bracket")
    return EntitiesSentence(tuple(tokens), tuple(phrases))
