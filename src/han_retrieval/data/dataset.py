"""Captioned photos: what every adapter of a dataset format returns."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from han_retrieval.data.packed import PackedPhoto
from han_retrieval.errors import DataError


@dataclass(frozen=True, slots=True)
class CaptionedPhoto:
    """One photo and every sentence written about it.

    Attributes:
        id: The photo's name within its dataset, unique, always a string ("1000268201_693b08cb0e.jpg", "391895").
            Region stores use the same ids.
        path: The image file, or None where a dataset has only precomputed features, or where the photo is packed.
        captions: Any number of sentences, as written (the tokenizer lower-cases later).
        split: "train", "dev", "test", or None where the dataset knows no splits. Formats' other
            names become these three: "val" and "valid" are "dev", "restval" is "train".
        packed: Where the photo's bytes are, if they lie inside a larger file: a Parquet file, a shard.
    """

    id: str
    path: Path | None
    captions: tuple[str, ...]
    split: str | None = None
    packed: PackedPhoto | None = None


@dataclass(frozen=True)
class CaptionedPhotos:
    """A dataset of captioned photos, in the order of its files.

    Attributes:
        format: The name of the adapter that read it ("flickr", "karpathy", ...).
        source: The file or folder that was read, or its URL.
        photos: The photos; ids are unique.
        skipped: How many things were left out, by reason ("empty caption": 3, "photo file missing": 1).
    """

    format: str
    source: Path | str
    photos: tuple[CaptionedPhoto, ...]
    skipped: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        for photo_id, times in Counter(photo.id for photo in self.photos).most_common(1):
            if times > 1:
                raise DataError(f"{self.source}: photo id {photo_id!r} occurs {times} times; ids must be unique")

    def __len__(self) -> int:
        return len(self.photos)

    @property
    def caption_count(self) -> int:
        """How many captions the photos have together."""
        return sum(len(photo.captions) for photo in self.photos)

    @property
    def splits(self) -> dict[str, int]:
        """Photos by split name, in order of appearance; photos without a split do not count."""
        return dict(Counter(photo.split for photo in self.photos if photo.split is not None))

    def split(self, name: str) -> CaptionedPhotos:
        """The photos of one split.

        Raises:
            DataError: No photo belongs to it; the message names the splits there are.
        """
        photos = tuple(photo for photo in self.photos if photo.split == name)
        if not photos:
            known = ", ".join(f"{split} ({count})" for split, count in self.splits.items()) or "none"
            raise DataError(f"{self.source}: no photo is in split {name!r}; splits there: {known}")
        return replace(self, photos=photos, skipped=Counter())

    def divided(self, *, dev_share: float = 0.1) -> CaptionedPhotos:
        """The same photos in splits "train" and "dev", for a dataset without splits.

        The split of a photo depends on its id alone: adding photos moves none to the other split.
        """

        def split(photo: CaptionedPhoto) -> str:
            place = int.from_bytes(hashlib.sha256(photo.id.encode(errors="surrogatepass")).digest()[:8], "big") / 2**64
            return "dev" if place < dev_share else "train"

        return replace(self, photos=tuple(replace(photo, split=split(photo)) for photo in self.photos))

    def only(self, ids: Iterable[str]) -> CaptionedPhotos:
        """The photos whose id is among ``ids``, in the dataset's order."""
        wanted = set(ids)
        return replace(self, photos=tuple(photo for photo in self.photos if photo.id in wanted), skipped=Counter())
