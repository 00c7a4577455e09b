"""A lock that networks get in turn."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque


class Turns:
    """A lock that goes round the networks that wait for it, so that none waits for all requests of another."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()  # the first network is next

    def waiting(self, network: str) -> int:
        """How many requests of a network wait."""
        return len(self._waiting.get(network, ()))

    async def acquire(self, network: str) -> None:
        """Wait for the network's turn."""
        if not self._taken:
            self._taken = True
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(network, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it came at the same time
                self.release()
            elif turn in (requests := self._waiting.get(network, deque())):
                requests.remove(turn)
                if not requests:
                    del self._waiting[network]
            raise

    def release(self) -> None:
        """Let the next network have its turn."""
        while self._waiting:
            network, requests = self._waiting.popitem(last=False)
            turn = requests.popleft()
            if requests:
                self._waiting[network] = requests  # behind the others
            if not turn.done():
                turn.set_result(None)
                return
        self._taken = False
