"""WebDataset shards: tar files with ``KEY.jpg`` beside ``KEY.json``, ``KEY.txt`` or ``KEY.caption``.

One shard, or a folder with the shards of one or several splits (``train-00000.tar``, also in a folder a split). JSON
has ``caption``, ``captions``, ``sentences`` or ``text``; a text file has a caption a line. A caption that two files
of a photo have, as img2dataset writes it, counts once. A photo's id is ``cocoid``, ``filename`` or ``image_id`` of its
JSON, else its shard and key. Photos are read at their offset, nothing is unpacked.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from han_retrieval.data.builder import DatasetBuilder
from han_retrieval.data.dataset import CaptionedPhotos
from han_retrieval.data.packed import PackedPhoto
from han_retrieval.data.parquet import shards, split_of_file
from han_retrieval.data.photos import PHOTO_SUFFIXES
from han_retrieval.data.stored_files import MOST_BYTES
from han_retrieval.errors import DataError, first_line
from han_retrieval.parsing import shown

_TEXT_BYTES = 2**20  # of the captions of one photo
_TEXTS = (".txt", ".caption", ".text", ".captions")
_CAPTIONS = ("captions", "caption", "sentences", "text")
_IDS = ("cocoid", "filename", "file_name", "image_id", "id")


class _WebDataset:
    """See ``DatasetAdapter``."""

    description = "*.tar with key.jpg and key.json or .txt"

    def recognises(self, source: Path) -> bool:
        """A tar file, or a folder with some in it or in its folders."""
        return bool(shards(source, ".tar"))

    def read(self, source: Path) -> CaptionedPhotos:
        """The photos in the order of the shards' names and of their members; broken members are counted and named."""
        files = shards(source, ".tar")
        if not files:
            raise DataError(f"{source}: expected {self.description}, found none")
        builder = DatasetBuilder("webdataset", source)
        faults: dict[str, list[str]] = {}
        for path in files:
            name = path.relative_to(source if source.is_dir() else path.parent).with_suffix("").as_posix()
            shard = ShardPhotos(path)
            for sample in _samples(path, faults):
                where = f"{path}, {sample.key}"
                if sample.photo is None:
                    builder.skipped["captions without a photo in a shard"] += 1
                    continue
                photo_id = sample.id or f"{name}/{sample.key}"
                if photo_id in builder:
                    raise DataError(f"{where}: photo id {photo_id!r} occurs twice; ids must be unique")
                packed = PackedPhoto(shard, sample.photo)
                builder.photo(photo_id, photo_id, split=split_of_file(path), where=where, packed=packed)
                for caption in sample.captions:
                    builder.caption(photo_id, caption)
        for reason, names in faults.items():
            builder.skipped[f"{reason}, such as {names[0]}"] = len(names)
        return builder.finish()


ADAPTER = _WebDataset()


@dataclass(frozen=True, slots=True)
class Member:
    """A file in a shard: its name, and where its bytes are."""

    name: str
    offset: int
    size: int


class ShardPhotos:
    """The photos of a shard; see ``PhotoContainer``."""

    def __init__(self, path: Path) -> None:
        self.path, self._file = path, path.absolute()  # a worker of a cluster has a working folder of its own

    def read(self, place: Member) -> bytes:
        """See ``PhotoContainer``."""
        try:
            with self._file.open("rb") as file:
                return _content(file, place)
        except OSError as error:
            raise DataError(f"{self.name(place)}: cannot be read ({error.strerror or error})") from None

    def name(self, place: Member) -> str:
        """See ``PhotoContainer``."""
        return f"{self.path}, {place.name}"


@dataclass(slots=True)
class _Sample:
    """What a shard has under one key."""

    key: str
    photo: Member | None = None
    captions: list[str] = field(default_factory=list)
    id: str = ""


def _samples(path: Path, faults: dict[str, list[str]]) -> Iterator[_Sample]:
    """The samples of a shard; a member that is broken or there twice goes to ``faults`` by its reason."""
    samples: dict[str, _Sample] = {}
    seen: set[str] = set()
    with path.open("rb") as file:
        for member in _members(path):
            where = f"{path}, {member.name}"
            folder, slash, last = member.name.rpartition("/")
            stem, _, ending = last.partition(".")
            suffix = f".{ending.lower()}"
            if not stem or suffix not in (*PHOTO_SUFFIXES, *_TEXTS, ".json"):
                continue
            sample = samples.setdefault(folder + slash + stem, _Sample(folder + slash + stem))
            if member.name in seen or (suffix in PHOTO_SUFFIXES and sample.photo is not None):
                faults.setdefault("duplicate member of a shard", []).append(where)
                continue
            seen.add(member.name)
            if suffix in PHOTO_SUFFIXES:
                sample.photo = member
                continue
            try:
                _add_text(sample, _content(file, member) if member.size <= _TEXT_BYTES else b"", member, suffix)
            except (ValueError, RecursionError) as error:
                faults.setdefault("broken member of a shard", []).append(f"{where} ({first_line(error)})")
    yield from samples.values()


def _members(path: Path) -> Iterator[Member]:
    """The plain files of a tar file, in order.

    Raises:
        DataError: It is cut off, damaged, packed, or no tar file.
    """
    size, last, fault = path.stat().st_size, "", ""
    try:
        with tarfile.open(path, "r:") as tar:
            while (info := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # which it would keep
                if info.offset_data + (info.size if info.isreg() else 0) > size:
                    raise tarfile.ReadError("unexpected end of data")
                if info.isreg() and not info.issparse():
                    yield Member(info.name, info.offset_data, info.size)
                last = info.name
            fault = "" if _ends(path, tar.offset) else "no end"
    except (DataError, OSError):
        raise
    except Exception as error:  # a damaged header raises anything
        fault = str(error) or type(error).__name__
    if fault and last:
        raise DataError(f"{path}: the shard is cut off or damaged after {shown(last)} ({fault}); copy it again")
    if fault:
        raise DataError(f"{path}: not a tar file that can be read ({fault}); unpack one that is compressed")


def _ends(path: Path, offset: int) -> bool:
    """Whether a tar file has its end, a block of zeros, at an offset, where no header could be read."""
    with path.open("rb") as file:
        file.seek(max(0, offset - tarfile.BLOCKSIZE))
        blocks = file.read(2 * tarfile.BLOCKSIZE)
    return len(blocks) >= tarfile.BLOCKSIZE and not any(blocks[-tarfile.BLOCKSIZE :])


def _content(file: Any, member: Member) -> bytes:
    if member.size > MOST_BYTES:
        raise DataError(f"{member.name}: {member.size:,} bytes, more than a photo takes")
    file.seek(member.offset, os.SEEK_SET)
    found: bytes = file.read(member.size)
    if len(found) < member.size:
        raise DataError(f"{member.name}: the shard is cut off")
    return found


def _add_text(sample: _Sample, data: bytes, member: Member, suffix: str) -> None:
    """Add the captions, and the id, of a member; ValueError where it is not what its name says."""
    if member.size > _TEXT_BYTES:
        raise ValueError(f"{member.size:,} bytes of captions")
    text = data.decode("utf-8-sig")
    if suffix != ".json":
        _add_new(sample, text.splitlines())
        return
    record = json.loads(text)
    if not isinstance(record, dict):
        raise ValueError(f"expected an object, found {shown(record)}")
    for value in (record[name] for name in _CAPTIONS if name in record):
        _add_new(sample, _texts(value))
        break
    found = next((record[name] for name in _IDS if isinstance(record.get(name), str | int) and record[name] != ""), "")
    sample.id = str(found)


def _add_new(sample: _Sample, captions: list[str]) -> None:
    """Add the captions of a member that no other member of the photo has."""
    there = {caption.strip() for caption in sample.captions}
    sample.captions += [caption for caption in captions if caption.strip() not in there]


def _texts(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    texts = [each.get("raw", each.get("caption")) if isinstance(each, dict) else each for each in values]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"expected captions, found {shown(value)}")
    return [str(text) for text in texts]
