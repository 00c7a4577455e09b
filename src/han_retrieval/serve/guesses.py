"""A brake on guessing the token."""

from __future__ import annotations

import time
from collections import OrderedDict

SECONDS = 60
"""How long wrong tokens count."""

_MOST = 10  # different ones: what an old page sends again and again is no guess
_NETWORKS = 4096  # that are remembered


class Guesses:
    """The wrong tokens that each network has shown, as far as memory is worth it.

    A network that has shown the right token is never refused, so that nobody behind the same proxy can lock its people
    out. What guards a proxy's other side is the length of the token.
    """

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, tuple[float, set[str]]] = OrderedDict()  # since when, and their hashes
        self._right: OrderedDict[str, None] = OrderedDict()

    def too_many(self, network: str) -> bool:
        """Whether a network has guessed so often that its next token is not looked at."""
        since, wrong = self._wrong.get(network, (0.0, set()))
        return len(wrong) >= _MOST and time.monotonic() - since < SECONDS and network not in self._right

    def add(self, network: str, digests: list[str], *, right: bool) -> None:
        """Remember what a network has shown: the right token, or wrong ones."""
        if right:
            self._right[network] = None
            self._right.move_to_end(network)
            if len(self._right) > _NETWORKS:
                self._right.popitem(last=False)
            return
        since, wrong = self._wrong.pop(network, (0.0, set()))
        if time.monotonic() - since >= SECONDS:
            since, wrong = time.monotonic(), set()
        wrong.update(each[:64] for each in digests[: _MOST - len(wrong)])  # a cookie may be long
        self._wrong[network] = since, wrong
        if len(self._wrong) > _NETWORKS:
            self._wrong.popitem(last=False)
