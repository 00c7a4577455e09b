"""The protocol of a dataset format. Formats are found by name among the entry points ``han_retrieval.datasets``."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from han_retrieval.data.dataset import CaptionedPhotos


class DatasetAdapter(Protocol):
    """Reads datasets of one format.

    An entry point of the group ``han_retrieval.datasets`` names an object with these three members; the entry point's
    name is the format's, as in ``--format NAME``. ``read_dataset`` asks every adapter whether it recognises a source
    and reads with the one that does::

        class PairsFile:
            description = "pairs.txt with a photo's name, a tab and a caption in each line"

            def recognises(self, source: Path) -> bool:
                return source.name == "pairs.txt"

            def read(self, source: Path) -> CaptionedPhotos:
                builder = DatasetBuilder("pairs", source)
                for number, line in enumerate(read_lines(source), start=1):
                    name, _, caption = line.partition("\\t")
                    builder.photo(name, name, split=None, where=f"{source}, line {number}")
                    builder.caption(name, caption)
                return builder.finish()

        ADAPTER = PairsFile()
    """

    @property
    def description(self) -> str:
        """What the format's files are called and hold, in one line; messages about unknown formats show it."""

    def recognises(self, source: Path) -> bool:
        """Whether a file or folder is of this format, or meant to be.

        It is asked about any path that exists and must be quick: look at names and at the beginning of files. It may
        raise OSError, which is reported as a path that cannot be read, and nothing else.
        """

    def read(self, source: Path) -> CaptionedPhotos:
        """The whole dataset, in the order of its files.

        Photo ids are unique and stay the same between readings, since region stores keep them. Splits are "train",
        "dev", "test" or None. A photo without a caption and an empty caption are left out and counted in ``skipped``.

        Raises:
            DataError: Something is not as the format has it; the message is one line with the file, the line or field.
            OSError: A file cannot be read.
        """
