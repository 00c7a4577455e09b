"""Photos that lie inside a larger file: in a Parquet file, a shard, a table, a dataset of the Hub.

Nothing is unpacked to files: the bytes of a photo are read when its turn comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Protocol

_BATCHES_HELD = 3  # threads that read ahead ask out of order, by a photo or two
_ROWS_AHEAD = 256  # as far, rows are passed over; farther, reading begins anew


@dataclass(frozen=True, slots=True)
class PhotoBytes:
    """The content of a photo's file, where ``open_photo`` takes a path.

    Attributes:
        name: What messages call it.
        content: The bytes of a JPEG, a PNG, ...
    """

    name: str
    content: bytes = field(repr=False)

    def __str__(self) -> str:
        return self.name


class PhotoContainer(Protocol):
    """A file, or several, with photos in it. Several threads may read at once."""

    def read(self, place: Any) -> bytes:
        """The content of the photo at a place.

        Raises:
            DataError: It cannot be read; the message begins with ``name(place)``.
        """

    def name(self, place: Any) -> str:
        """The place as people read it: "train-00000-of-00004.parquet, row 17"."""


@dataclass(frozen=True, slots=True)
class PackedPhoto:
    """Where the bytes of a photo are: a container, and the place in it. As text it is the container's name of it."""

    container: PhotoContainer
    place: Any

    def read(self) -> PhotoBytes:
        """Its bytes, which are no longer held when the caller drops them.

        Raises:
            DataError: They cannot be read.
        """
        return PhotoBytes(str(self), self.container.read(self.place))

    def __str__(self) -> str:
        return self.container.name(self.place)


class RowReader:
    """Rows by number from what can be read from a row on and forward only; a few batches are in memory.

    Args:
        batches_from: Batches of rows from one on that is not behind the given row, each with its first row's number.
    """

    def __init__(self, batches_from: Callable[[int], Iterator[tuple[int, Sequence[Any]]]]) -> None:
        self._batches_from = batches_from
        self._batches: Iterator[tuple[int, Sequence[Any]]] | None = None
        self._held: deque[tuple[int, Sequence[Any]]] = deque(maxlen=_BATCHES_HELD)
        self._next = 0
        self._lock = Lock()

    def __getstate__(self) -> Callable[[int], Iterator[tuple[int, Sequence[Any]]]]:
        return self._batches_from  # in another process, reading begins anew

    def __setstate__(self, batches_from: Callable[[int], Iterator[tuple[int, Sequence[Any]]]]) -> None:
        self.__init__(batches_from)  # type: ignore[misc]

    def read(self, row: int) -> Any:
        """The row of a number; IndexError where there is none. Other errors are those of the batches."""
        with self._lock:
            for first, values in self._held:
                if first <= row < first + len(values):
                    return values[row - first]
            if self._batches is None or not self._next <= row < self._next + _ROWS_AHEAD:
                self._close()
                self._batches = self._batches_from(row)
            try:
                for first, values in self._batches:
                    self._next = first + len(values)
                    if row < self._next:
                        self._held.append((first, values))
                        return values[row - first]
            except BaseException:
                self._close()
                raise
            self._close()
            raise IndexError(row)

    def _close(self) -> None:
        if self._batches is not None:
            with suppress(AttributeError):  # a generator holds a file open
                self._batches.close()  # type: ignore[attr-defined]
        self._batches = None
