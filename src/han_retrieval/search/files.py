"""Read photo files and encode those that are new, some at a time."""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol

from PIL import Image

from han_retrieval.data import read_batches
from han_retrieval.data.url_path import UrlPath
from han_retrieval.errors import DataError
from han_retrieval.regions.detector import size_needed
from han_retrieval.search.maker import Maker
from han_retrieval.search.photo import Photo, read_photo
from han_retrieval.search.rows import Encoded
from han_retrieval.search.scan import Place, path_of


class EncodedFile(NamedTuple):
    """A file that was tried: the photo in it, without its pixels, and what an index stores of it.

    Instead of the photo there is the error of reading it. Instead of what is stored there is the reason why it cannot
    be indexed; None where the photo is known already.
    """

    place: Place
    photo: Photo | DataError
    encoded: Encoded | str | None


class EncodeFiles(Protocol):
    """Reads files and encodes photos whose ids are not known, some at a time, in any order."""

    def __call__(self, places: Sequence[Place], known: Container[str], /) -> Generator[list[EncodedFile]]: ...  # noqa: D102


def encode_files(
    maker: Maker,
    places: Sequence[Place],
    known: Container[str],
    *,
    batch_size: int,
    threads: int,
    where: Callable[[Place], Path | UrlPath] = path_of,
) -> Generator[list[EncodedFile]]:
    """As ``EncodeFiles``: in this process, in order; ``known`` may grow meanwhile."""

    needed = size_needed(maker.detector)

    def read(place: Place) -> tuple[int, Callable[[], Photo | DataError]]:
        return read_photo(where(place), known, shrink_to=needed)

    with closing(read_batches(places, read, threads=threads, batch_size=batch_size)) as batches:
        for batch in batches:
            new: dict[str, Image.Image] = {}
            for _, photo in batch:
                if isinstance(photo, Photo) and photo.image is not None and photo.id not in known:
                    new.setdefault(photo.id, photo.image)
            encoded = dict(zip(new, maker.encode([*new.values()]) if new else (), strict=True))
            new.clear()
            yield [
                EncodedFile(place, photo, None)
                if isinstance(photo, DataError)
                else EncodedFile(place, replace(photo, image=None), encoded.get(photo.id))
                for place, photo in batch
            ]
