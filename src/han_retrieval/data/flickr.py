"""Flickr8k and Flickr30k as they are distributed, and Kaggle's copy.

``*.token`` or ``*.token.txt`` holds lines ``name.jpg#0<TAB>caption``; Kaggle's ``captions.txt`` is a CSV with the
header ``image,caption``. The official lists beside it, ``*trainImages.txt``, ``*devImages.txt`` and
``*testImages.txt``, hold a photo name a line; where there are lists, a photo in none of them is left out. A photo's id
is its file name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from han_retrieval.data.builder import DatasetBuilder, FileFormat
from han_retrieval.data.files import peek, read_csv
from han_retrieval.errors import DataError
from han_retrieval.parsing import read_lines, shown

_LINE = re.compile(r"(.+)#\d+\t(.*)")
_LISTS = {"trainImages": "train", "devImages": "dev", "testImages": "test"}


def _add(builder: DatasetBuilder, files: Sequence[Path]) -> None:
    (path,) = files
    lists = _split_lists(path.parent)
    unlisted = set()
    for where, name, caption in _rows(path):
        if lists and name not in lists:
            unlisted.add(name)
            continue
        builder.photo(name, name, split=lists[name][0] if lists else None, where=where)
        builder.caption(name, caption)
    for name, (_, listed) in lists.items():
        if name not in builder:
            raise DataError(f"{listed}: {name!r} has no caption in {path.name}")
    if unlisted:
        builder.skipped["photo in no split list"] = len(unlisted)


def _caption_files(source: Path) -> list[Path]:
    # Flickr8k comes with a lemmatised copy of its captions.
    paths = sorted(p for p in source.iterdir() if ".lemma." not in p.name) if source.is_dir() else [source]
    return [
        path
        for path in paths
        if path.is_file()
        and (path.name.endswith((".token", ".token.txt")) or (path.name == "captions.txt" and _starts_as_csv(path)))
    ]


def _starts_as_csv(path: Path) -> bool:
    return re.match(r'"?image"?\s*[,;\t]', peek(path, size=100), re.IGNORECASE) is not None


def _rows(path: Path) -> Iterator[tuple[str, str, str]]:
    """The place of each caption, its photo's name, the caption."""
    if _starts_as_csv(path):
        for where, row in read_csv(path, (["image"], ["caption"])):
            yield where, row["image"], row["caption"]
        return
    for number, line in enumerate(read_lines(path), start=1):
        match = _LINE.fullmatch(line)
        if match is not None:
            yield f"{path}, line {number}", match[1], match[2]
        elif line.strip():
            raise DataError(f"{path}, line {number}: expected name.jpg#0<TAB>caption, found {shown(line)}")


def _split_lists(folder: Path) -> dict[str, tuple[str, str]]:
    """The split of each photo's name and the line that says so; empty without lists."""
    lists: dict[str, tuple[str, str]] = {}
    for ending, split in _LISTS.items():
        for path in sorted(folder.glob(f"*{ending}.txt")):
            for number, line in enumerate(read_lines(path), start=1):
                where = f"{path}, line {number}"
                if line.strip() and lists.setdefault(line.strip(), (split, where))[0] != split:
                    raise DataError(f"{where}: {line.strip()!r} is in another list too: {lists[line.strip()][1]}")
    return lists


ADAPTER = FileFormat(
    name="flickr",
    description="*.token(.txt) of name.jpg#0<TAB>caption, or captions.txt of image,caption",
    files=_caption_files,
    add=_add,
    single=True,
)
