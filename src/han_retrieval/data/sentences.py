"""Reading sentences alone: from a file with one a line, or the captions of a dataset."""

from __future__ import annotations

from pathlib import Path

from han_retrieval.data.files import reading
from han_retrieval.data.read import read_dataset, recognised_formats
from han_retrieval.errors import DataError
from han_retrieval.objects import to_path
from han_retrieval.parsing import read_lines


def read_sentences(source: str | Path) -> list[str]:
    """Read the sentences of a text file or a dataset, each once, in order.

    Args:
        source: A file whose name ends in .txt and that is no dataset's, with a sentence a line; or what
            ``read_dataset`` reads.

    Raises:
        DataError: There is no such path, the format is not recognised, or there is no sentence.
    """
    path = to_path(source)
    with reading(path):
        plain = path.is_file() and path.suffix == ".txt" and not recognised_formats(path)
    if plain:
        found = [line.strip() for line in read_lines(path)]
    else:
        found = [caption for photo in read_dataset(source).photos for caption in photo.captions]
    sentences = list(dict.fromkeys(sentence for sentence in found if sentence))
    if not sentences:
        raise DataError(f"{source}: no sentence in it; give a text file (.txt) with a sentence a line, or a dataset")
    return sentences
