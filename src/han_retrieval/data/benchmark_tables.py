"""The three tables of a retrieval benchmark, as MTEB's sets on the Hugging Face Hub (``mteb/flickr30ki2t``) have them.

Parquet files whose folders or names begin with ``corpus``, ``query`` or ``queries``, and ``qrels``. Photos are on one
side, captions on the other; ``query-id`` and ``corpus-id`` say which belong together. A photo's id is its table's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from han_retrieval.data.builder import DatasetBuilder
from han_retrieval.data.columns import image_column
from han_retrieval.data.dataset import CaptionedPhotos
from han_retrieval.data.packed import PackedPhoto
from han_retrieval.data.parquet import ParquetPhotos, opened, shards, split_of_file, table_kind
from han_retrieval.errors import DataError


class _Tables:
    """See ``DatasetAdapter``."""

    description = "corpus, query and qrels, each *.parquet"

    def recognises(self, source: Path) -> bool:
        """A folder with a Parquet file of relevance (qrels) in it or in its folders."""
        return source.is_dir() and "qrels" in map(table_kind, shards(source, ".parquet"))

    def read(self, source: Path) -> CaptionedPhotos:
        """The photos in the order of their table, with their captions in the order of the qrels."""
        files: dict[str, list[Path]] = defaultdict(list)
        for path in shards(source, ".parquet") if source.is_dir() else ():
            files[table_kind(path)].append(path)
        if missing := [kind for kind in ("corpus", "query", "qrels") if not files[kind]]:
            raise DataError(f"{source}: expected {self.description}; there is no {' and no '.join(missing)}")
        images = {kind: _image(files[kind][0]) for kind in ("corpus", "query")}
        if sum(image is not None for image in images.values()) != 1:
            raise DataError(f"{source}: one of corpus and query must have the bytes of images, and the other texts")
        photos, texts = ("corpus", "query") if images["corpus"] else ("query", "corpus")
        sentences = {row["id"]: row["text"] for path in files[texts] for _, row in _rows(path, ("id", "text"))}
        captions: dict[str, list[str]] = defaultdict(list)
        split: dict[str, str | None] = {}
        for path in files["qrels"]:
            for number, row in _rows(path, ("query-id", "corpus-id", "score")):
                photo_id, text_id = row[f"{photos}-id"], row[f"{texts}-id"]
                if text_id not in sentences:
                    raise DataError(f"{path}, row {number}: {texts}-id {text_id!r} is not in the table {texts}")
                if float(row["score"] or 0) > 0:
                    captions[photo_id].append(sentences[text_id] or "")
                    split[photo_id] = split_of_file(path)
        return _dataset(source, files[photos], str(images[photos]), captions, split)


ADAPTER = _Tables()


def _dataset(
    source: Path, files: list[Path], image: str, captions: dict[str, list[str]], split: dict[str, str | None]
) -> CaptionedPhotos:
    builder = DatasetBuilder("benchmark", source)
    for path in files:
        container = ParquetPhotos(path, image)
        for number, row in _rows(path, ("id",)):
            photo_id, packed = row["id"], PackedPhoto(container, number)
            if photo_id in builder:
                raise DataError(f"{packed}: photo id {photo_id!r} occurs twice; ids must be unique")
            builder.photo(photo_id, photo_id, split=split.get(photo_id), where=str(packed), packed=packed)
            for caption in captions.get(photo_id, ()):
                builder.caption(photo_id, caption)
    return builder.finish()


def _image(path: Path) -> str | None:
    with opened(path) as file:
        return image_column(file.schema_arrow)


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a table, each with its number; ids are text."""
    with opened(path) as file:
        names = file.schema_arrow.names
        if missing := [name for name in columns if name not in names]:
            raise DataError(f"{path}: no column {' and no '.join(missing)}; the columns are {', '.join(names)}")
        number = 0
        for batch in file.iter_batches(columns=list(columns)):
            for row in batch.to_pylist():
                yield number, {name: str(value) if name.endswith("id") else value for name, value in row.items()}
                number += 1
