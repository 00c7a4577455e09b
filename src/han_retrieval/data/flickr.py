"""Flickr8k and Flickr30k as they are distributed, and Kaggle's copy.

``*.token`` or ``*.token.txt`` holds lines ``name.jpg#0<TAB>caption``; Kaggle's ``captions.txt`` is a CSV with the
header ``image,caption``. The official lists beside it, ``*trainImages.txt``, ``*devImages.txt`` and
``*testImages.txt``, hold a photo name a line; where there are lists, a photo in none of them is left out. A photo's id
is its file name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from han_retrieval.data.dataset import CaptionedPhotos
from han_retrieval.data.files import peek, read_csv, read_lines, shown
from han_retrieval.data.gather import Gathering, PhotoFiles
from han_retrieval.errors import HANError

NAME = "flickr"
LOOKS_FOR = "*.token or *.token.txt of lines name.jpg#0<TAB>caption, or captions.txt with the header image,caption"

_LINE = re.compile(r"(.+)#\d+\t(.*)")
_LISTS = {"trainImages": "train", "devImages": "dev", "testImages": "test"}


def recognises(source: Path) -> bool:
    """A file or a folder's file with one of the two names; captions.txt only where its header is that of a CSV."""
    return bool(_caption_files(source))


def read(source: Path) -> CaptionedPhotos:
    """The photos in the order of the captions file."""
    # Flickr8k comes with a lemmatised twin of its captions.
    files = [path for path in _caption_files(source) if ".lemma." not in path.name] if source.is_dir() else [source]
    if len(files) != 1:
        found = ", ".join(path.name for path in files) or "none"
        raise HANError(f"{source}: expected one file of captions ({LOOKS_FOR}), found {found}; give the file itself")
    path = files[0]
    lists = _split_lists(path.parent)
    gathering = Gathering(NAME, source, PhotoFiles(path.parent).find)
    unlisted = set()
    for where, name, caption in _csv_rows(path) if _starts_as_csv(path) else _token_rows(path):
        if lists and name not in lists:
            unlisted.add(name)
            continue
        gathering.photo(name, name, split=lists[name][0] if lists else None, where=where)
        gathering.caption(name, caption)
    for name, (_, listed) in lists.items():
        if name not in gathering:
            raise HANError(f"{listed}: {name!r} has no caption in {path.name}")
    if unlisted:
        gathering.skipped["photo in no split list"] = len(unlisted)
    return gathering.finish()


def _caption_files(source: Path) -> list[Path]:
    paths = sorted(source.iterdir()) if source.is_dir() else [source]
    return [
        path
        for path in paths
        if path.is_file()
        and (path.name.endswith((".token", ".token.txt")) or (path.name == "captions.txt" and _starts_as_csv(path)))
    ]


def _starts_as_csv(path: Path) -> bool:
    return peek(path, size=100).lower().startswith("image,")


def _token_rows(path: Path) -> Iterator[tuple[str, str, str]]:
    """Where a caption stands, its photo's name, the caption."""
    for number, line in enumerate(read_lines(path), start=1):
        match = _LINE.fullmatch(line)
        if match is not None:
            yield f"{path}, line {number}", match[1], match[2]
        elif line.strip():
            raise HANError(f"{path}, line {number}: expected name.jpg#0<TAB>caption, found {shown(line)}")


def _csv_rows(path: Path) -> Iterator[tuple[str, str, str]]:
    for where, row in read_csv(path, (["image"], ["caption"])):
        yield where, row["image"], row["caption"]


def _split_lists(folder: Path) -> dict[str, tuple[str, str]]:
    """Photo name -> its split and where that is written; empty where there are no lists."""
    lists: dict[str, tuple[str, str]] = {}
    for ending, split in _LISTS.items():
        for path in sorted(folder.glob(f"*{ending}.txt")):
            for number, line in enumerate(read_lines(path), start=1):
                where = f"{path}, line {number}"
                if line.strip() and lists.setdefault(line.strip(), (split, where))[0] != split:
                    raise HANError(f"{where}: {line.strip()!r} is in another list too: {lists[line.strip()][1]}")
    return lists
