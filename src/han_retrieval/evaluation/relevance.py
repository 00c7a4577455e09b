"""Relevance: which caption belongs to which image; an image may have any number of captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from han_retrieval.errors import DataError


@dataclass(frozen=True, slots=True)
class Relevance:
    """The images and captions of a score matrix, in its order, and which belong together.

    Legend: I images, T captions.

    Attributes:
        image_ids: I ids.
        caption_ids: T ids, "imageid#k", where k is the caption's place among its image's captions in the dataset.
        caption_image: (T,) int64, the row of each caption's image.
    """

    image_ids: tuple[str, ...]
    caption_ids: tuple[str, ...]
    caption_image: np.ndarray

    def __post_init__(self) -> None:
        rows = self.caption_image
        if rows.shape != (len(self.caption_ids),) or rows.dtype != np.int64:
            raise ValueError(f"caption_image is {rows.dtype} {rows.shape}, not int64 ({len(self.caption_ids)},)")
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self.image_ids)):
            raise ValueError(f"caption_image holds {rows.min()} to {rows.max()} for {len(self.image_ids)} images")

    @classmethod
    def of(cls, image_ids: Sequence[str], captions: Sequence[tuple[int, int]]) -> Relevance:
        """The relevance of T captions given as (row of the image, place among the image's captions)."""
        return cls(
            image_ids=tuple(image_ids),
            caption_ids=tuple(f"{image_ids[row]}#{place}" for row, place in captions),
            caption_image=np.array([row for row, _ in captions], dtype=np.int64),
        )

    def captions_of(self) -> list[np.ndarray]:
        """The int64 columns of each image's captions, ascending; empty for an image without captions."""
        order = np.argsort(self.caption_image, kind="stable")
        ends = np.cumsum(np.bincount(self.caption_image, minlength=len(self.image_ids)))
        return np.split(order, ends[:-1]) if len(ends) else []

    def folds(self, count: int) -> list[tuple[slice, np.ndarray, Relevance]]:
        """Consecutive folds of equally many images: the rows, the (t,) int64 columns and the relevance of each.

        Raises:
            DataError: The images do not divide into that many folds.
        """
        images = len(self.image_ids)
        if not 1 <= count <= images or images % count:
            raise DataError(f"{images} images do not make {count} equal folds; --folds must divide their number")
        size = images // count
        folds = []
        for start in range(0, images, size):
            rows = slice(start, start + size)
            columns = np.flatnonzero((self.caption_image >= rows.start) & (self.caption_image < rows.stop))
            caption_ids = tuple(self.caption_ids[column] for column in columns)
            part = Relevance(self.image_ids[rows], caption_ids, self.caption_image[columns] - start)
            folds.append((rows, columns, part))
        return folds
