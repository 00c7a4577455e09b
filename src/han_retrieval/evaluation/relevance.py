"""Relevance: which caption belongs to which image; an image may have any number of captions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
        caption_images: For each caption the int64 rows, ascending, of all images that it is relevant to; None where
            that is its own image alone.
    """

    image_ids: tuple[str, ...]
    caption_ids: tuple[str, ...]
    caption_image: np.ndarray
    caption_images: tuple[np.ndarray, ...] | None = None

    def __post_init__(self) -> None:
        rows = self.caption_image
        if rows.shape != (len(self.caption_ids),) or rows.dtype != np.int64:
            raise ValueError(f"caption_image is {rows.dtype} {rows.shape}, not int64 ({len(self.caption_ids)},)")
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self.image_ids)):
            raise ValueError(f"caption_image holds {rows.min()} to {rows.max()} for {len(self.image_ids)} images")

    @classmethod
    def of(
        cls,
        image_ids: Sequence[str],
        captions: Sequence[tuple[int, int]],
        *,
        having: Sequence[Iterable[int]] | None = None,
    ) -> Relevance:
        """The relevance of T captions given as (row of the image, place among the image's captions).

        ``having`` has the rows of all images that a caption is relevant to, where that is not its own image alone.
        """
        return cls(
            image_ids=tuple(image_ids),
            caption_ids=tuple(f"{image_ids[row]}#{place}" for row, place in captions),
            caption_image=np.array([row for row, _ in captions], dtype=np.int64),
            caption_images=None if having is None else tuple(np.array(sorted(rows), dtype=np.int64) for rows in having),
        )

    @property
    def equal_captions(self) -> str:
        """What a caption that several images have is to the others: "negative", or "relevant" as to its own."""
        return "negative" if self.caption_images is None else "relevant"

    def captions_of(self) -> list[np.ndarray]:
        """The int64 columns of the captions relevant to each image, ascending; empty for an image without any."""
        if self.caption_images is not None:
            columns: list[list[int]] = [[] for _ in self.image_ids]
            for column, rows in enumerate(self.caption_images):
                for row in rows:
                    columns[row].append(column)
            return [np.array(each, dtype=np.int64) for each in columns]
        order = np.argsort(self.caption_image, kind="stable")
        ends = np.cumsum(np.bincount(self.caption_image, minlength=len(self.image_ids)))
        return np.split(order, ends[:-1]) if len(ends) else []

    def images_of(self) -> Sequence[np.ndarray]:
        """The int64 rows of the images that each caption is relevant to, ascending."""
        return list(self.caption_image[:, np.newaxis]) if self.caption_images is None else self.caption_images

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
            of_images = (
                None
                if self.caption_images is None
                else tuple(
                    of[(of >= rows.start) & (of < rows.stop)] - start
                    for of in (self.caption_images[c] for c in columns)
                )
            )
            part = Relevance(self.image_ids[rows], caption_ids, self.caption_image[columns] - start, of_images)
            folds.append((rows, columns, part))
        return folds
