"""Photos of an index as scoring takes them: fetched as they are stored, or prepared by an earlier search.

What scoring computes of a photo alone, its tables, takes most of a search and is the same for every query. So it stays
in memory, up to ``MOST_BYTES``: that of the photos that were scored last.

Legend: K photos, m regions, d numbers a token.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from han_retrieval.clock import Clock
from han_retrieval.matchers import AligningMatcher
from han_retrieval.scoring import Collection, Tokens

if TYPE_CHECKING:
    from han_retrieval.scoring.cpu.stored import StoredItem

MOST_BYTES = 2**29

Fetch = Callable[[Sequence[int]], tuple[Tokens, Tensor]]


class PreparedPhotos:
    """What one model computed of the photos that were scored last, by their rows. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._model: weakref.ref[AligningMatcher] | None = None
        self._forget()

    def _forget(self) -> None:
        self._items: OrderedDict[int, StoredItem] = OrderedDict()
        self._one: Collection | None = None  # of one photo; others are made from it
        self._bytes = 0

    def find(self, model: AligningMatcher, rows: Sequence[int]) -> tuple[dict[int, StoredItem], Collection | None]:
        """Those of these rows that are here, and a collection that can ``join`` them."""
        with self._lock:
            if self._model is None or self._model() is not model:
                self._model = weakref.ref(model)
                self._forget()
            found = {row: self._items[row] for row in rows if row in self._items}
            for row in found:
                self._items.move_to_end(row)
            return found, self._one

    def keep(self, model: AligningMatcher, rows: Sequence[int], items: Sequence[StoredItem], of: Collection) -> None:
        """Keep what ``of.split`` gave of these rows, in place of what was used longest ago."""
        one = of.join(items[:1])
        with self._lock:
            if self._model is None or self._model() is not model:
                return
            self._one = one
            for row, item in zip(rows, items, strict=True):
                if row not in self._items:
                    self._items[row] = item
                    self._bytes += item.nbytes
            while self._bytes > MOST_BYTES:
                self._bytes -= self._items.popitem(last=False)[1].nbytes


class StoredPhotos:
    """Some photos of an index.

    Args:
        rows: Which.
        fetch: Gives their tokens (K, m, d) as they are stored, and the mask (K, m).
        prepared: What is known of photos; None for nothing, where it should not be kept either.
        clock: Measures fetching.
    """

    def __init__(self, rows: Sequence[int], fetch: Fetch, prepared: PreparedPhotos | None, *, clock: Clock) -> None:
        self._rows, self._prepared, self._clock = rows, prepared, clock
        self._fetch_all = fetch
        self._tokens: tuple[Tokens, Tensor] | None = None
        self._collection: Collection | None = None

    def tokens(self) -> tuple[Tokens, Tensor]:
        """Their tokens and the mask."""
        if self._tokens is None:
            self._tokens = self._fetch(self._rows)
        return self._tokens

    def collection(self, model: AligningMatcher) -> Collection:
        """The photos, ready to be scored against sentences."""
        if self._collection is None:
            self._collection = self._make(model)
        return self._collection

    def _make(self, model: AligningMatcher) -> Collection:
        if self._prepared is None or self._tokens is not None or not self._rows:
            return _store(model, *self.tokens())
        found, one = self._prepared.find(model, self._rows)
        missing = [row for row in self._rows if row not in found]
        if missing:
            made = _store(model, *self._fetch(missing))
            items = made.split()
            if items is None:  # no kernel scores them, or not yet
                return made if len(missing) == len(self._rows) else _store(model, *self.tokens())
            found.update(zip(missing, items, strict=True))
            one = made
            self._prepared.keep(model, missing, items, made)
        assert one is not None
        return one.join([found[row] for row in self._rows])

    def _fetch(self, rows: Sequence[int]) -> tuple[Tokens, Tensor]:
        with self._clock("fetch"):
            return self._fetch_all(rows)


def _store(model: AligningMatcher, tokens: Tokens, mask: Tensor) -> Collection:
    return model.store_images(tokens.to(model.device), mask, wait=False)
