"""Tokens of a frozen language model for many sentences: computed once, kept in a folder of the user's.

The folder is ``han-retrieval/frozen-tokens`` in the user's cache folder. A file there is named by a hash of the text
encoder's fingerprint, of its settings and of all sentences; it holds their tokens in float16 and ends with a checksum.
A damaged one is computed anew, and the oldest are deleted so that all together have at most ``MOST_BYTES``. Files are
mapped, so that memory need not hold them.

Legend: T texts, n rows of sub-words, s places of a row, R rows of all sentences, F numbers a token.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import xxhash
from torch import Tensor
from tqdm import tqdm

from han_retrieval.caches import cache_folder
from han_retrieval.files import leftovers, move
from han_retrieval.progress import progress_bar
from han_retrieval.text.tokenizer import Ids, pad_rows

MOST_BYTES = 16 * 2**30
_AT_ONCE = 1024  # sentences of like length that a text encoder is given together
_DIGEST = 16  # bytes
_ABANDONED = 3600  # seconds since a file that is not whole was last written to


class FrozenEncoder(Protocol):
    """A text encoder with a frozen backbone.

    Attributes:
        frozen_size: F.
        fingerprint: Names everything that its frozen tokens depend on, apart from the sentence; ``settings`` may name
            more, where there is such an attribute.
    """

    frozen_size: int
    fingerprint: str

    def frozen_tokens(self, words: Tensor, word_mask: Tensor) -> Tensor:
        """(T, n, s) int64, (T, n) bool -> (T, n, F) float32, zero at padding."""
        ...


class FrozenTokens:
    """The tokens of some sentences.

    Args:
        rows: (R, F) float16, sentence after sentence.
        places: Where each sentence's are, by its key.
    """

    def __init__(self, rows: np.ndarray, places: dict[bytes, slice]) -> None:
        self._rows = rows
        self._places = places

    @classmethod
    def of(
        cls, encoder: FrozenEncoder, sentences: Iterable[Ids], *, device: torch.device, progress: bool = True
    ) -> FrozenTokens | None:
        """Take the tokens of sentences, given as rows of ids, from the folder, or compute them and write them there.

        Returns:
            None, with a warning, where the folder cannot keep them.
        """
        found = {_key(ids): ids for ids in (np.asarray(each, np.int64) for each in sentences)}
        keys = sorted(found, key=lambda key: ((found[key] >= 0).sum(), key))  # those of like length together
        ends = list(accumulate((len(found[key]) for key in keys), initial=0))
        places = {key: slice(*span) for key, span in zip(keys, pairwise(ends), strict=True)}
        made_by = f"{encoder.fingerprint}{getattr(encoder, 'settings', '')} {encoder.frozen_size} "
        name = xxhash.xxh3_128(made_by.encode() + b"".join(keys)).hexdigest()
        file, shape = cache_folder() / "frozen-tokens" / name, (ends[-1], encoder.frozen_size)
        if not ends[-1]:
            return cls(np.empty(shape, np.float16), places)
        rows = _read(file, shape)
        if rows is None:
            try:
                if (size := 2 * shape[0] * shape[1]) > MOST_BYTES:
                    raise OSError(f"{size / 2**30:,.0f} GiB are more than {MOST_BYTES / 2**30:.0f}")
                _write(file, _computed(encoder, [found[key] for key in keys], device, progress))
                rows = _read(file, shape)
            except OSError as error:
                tqdm.write(
                    f"warning: {file.parent}: the captions' tokens cannot be kept there ({error.strerror or error}), "
                    "so that each step computes its own",
                    file=sys.stderr,
                )
        return None if rows is None else cls(rows, places)

    def __getitem__(self, ids: Ids) -> Tensor:
        """The tokens (n, F) float32 of a sentence's rows of ids."""
        return self._get(_key(np.asarray(ids, np.int64)))

    def fill(self, tokens: Tensor, words: Tensor, word_mask: Tensor) -> Tensor:
        """Write the tokens of the sentences that are here into ``tokens`` (T, n, F); returns the places of the others.

        Args:
            tokens: Is written to.
            words: (T, n, s) int64.
            word_mask: (T, n) bool.
        """
        new = []
        for place, (ids, mask) in enumerate(zip(words.cpu().numpy(), word_mask.cpu().numpy(), strict=True)):
            key = _key(ids[mask])
            if key in self._places:
                tokens[place, word_mask[place]] = self._get(key).to(tokens.device)
            else:
                new.append(place)
        return torch.tensor(new, dtype=torch.int64)

    def _get(self, key: bytes) -> Tensor:
        return torch.from_numpy(self._rows[self._places[key]].astype(np.float32))


def _key(ids: np.ndarray) -> bytes:
    return xxhash.xxh3_128(np.ascontiguousarray(ids).tobytes()).digest()


def _read(file: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """The rows of a file; None where it is not there or not whole."""
    size = 2 * shape[0] * shape[1]
    try:
        if not size or file.stat().st_size != size + _DIGEST:
            return None
        rows = np.memmap(file, np.float16, "r", shape=shape)
        with file.open("rb") as opened:
            opened.seek(size)
            if opened.read() != xxhash.xxh3_128(rows.data).digest():
                return None
        os.utime(file)  # used now
    except OSError:
        return None
    return rows


def _computed(
    encoder: FrozenEncoder, sentences: Sequence[np.ndarray], device: torch.device, progress: bool
) -> Iterator[np.ndarray]:
    """The tokens (rows, F) float16 of sentences, some at a time."""
    with progress_bar(total=len(sentences), desc="encoding captions", unit="caption", show=progress) as bar:
        for first in range(0, len(sentences), _AT_ONCE):
            some = sentences[first : first + _AT_ONCE]
            words, mask = pad_rows([torch.from_numpy(ids) for ids in some])
            tokens = encoder.frozen_tokens(words.to(device), mask.to(device)).cpu()[mask].half()
            if not tokens.isfinite().all():
                raise OSError("it gives numbers beyond float16")
            yield tokens.numpy()
            bar.update(len(some))


def _write(file: Path, parts: Iterable[np.ndarray]) -> None:
    """Write rows into a file, and delete the oldest files beyond ``MOST_BYTES``.

    Raises:
        OSError: The folder or the file cannot be written.
    """
    temporary, digest = file.with_name(f".{file.name}.{os.getpid()}"), xxhash.xxh3_128()
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("wb") as opened:
            for rows in parts:
                opened.write(rows.data)
                digest.update(rows.data)
            opened.write(digest.digest())
        move(temporary, file)
    finally:
        with contextlib.suppress(OSError):  # it has the file's name by now, or never was
            temporary.unlink()
    with contextlib.suppress(OSError):  # another process deletes them as well
        _tidy(file.parent)


def _tidy(folder: Path) -> None:
    for left_over in leftovers(folder):  # of processes that were killed
        if time.time() - left_over.stat().st_mtime > _ABANDONED:
            left_over.unlink(missing_ok=True)
    files = sorted((each.stat().st_mtime, each) for each in folder.iterdir() if not each.name.startswith("."))
    left = MOST_BYTES
    for _, each in reversed(files):
        left -= each.stat().st_size
        if left < 0:
            each.unlink(missing_ok=True)
