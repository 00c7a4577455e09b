"""A dataset format: ``pairs.txt`` with a photo's file name, a tab and a caption in each line."""

from pathlib import Path

from han_retrieval.data import CaptionedPhotos, DatasetBuilder, read_lines
from han_retrieval.errors import DataError


class PairsFile:
    """Reads ``pairs.txt``; the photos lie beside it. Photos without a split are divided by the training."""

    description = "pairs.txt, with a photo's name, a tab and a caption in each line"

    def recognises(self, source: Path) -> bool:
        """Whether a path is such a file, or a folder with one."""
        return self._file(source).name == "pairs.txt" and self._file(source).is_file()

    def read(self, source: Path) -> CaptionedPhotos:
        """The whole dataset, in the order of its lines."""
        file = self._file(source)
        builder = DatasetBuilder("pairs", source)
        for number, line in enumerate(read_lines(file), start=1):
            name, tab, caption = line.partition("\t")
            if not tab:
                raise DataError(f"{file}, line {number}: expected a photo's name, a tab and a caption")
            builder.photo(name, name, split=None, where=f"{file}, line {number}")
            builder.caption(name, caption)
        return builder.finish()

    def _file(self, source: Path) -> Path:
        return source / "pairs.txt" if source.is_dir() else source


ADAPTER = PairsFile()
