"""How many pixels are decoded at a time, so that memory stays bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from han_retrieval.process import give_memory_back

PIXELS_AT_ONCE = 50_000_000
"""Of all photos that are decoded at a time for pages; a larger one is decoded alone. Each pixel takes some 20 bytes."""

_MANY = 5_000_000
_IDLE_SECONDS = 3.0


class PixelBudget:
    """Lets photos be decoded, in the order in which they come, while they have few pixels together."""

    def __init__(self, most: int = PIXELS_AT_ONCE) -> None:
        self._most, self._used = most, 0
        self._turn = asyncio.Lock()
        self._changed = asyncio.Condition()
        self._giving: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def take(self, pixels: int) -> AsyncIterator[None]:
        """Wait until so many pixels may be decoded."""
        async with self._turn, self._changed:
            await self._changed.wait_for(lambda: not self._used or self._used + pixels <= self._most)
            self._used += pixels
        try:
            yield
        finally:
            self._used -= pixels
            if pixels > _MANY:
                self.give_memory_back_soon()
            async with self._changed:
                self._changed.notify_all()

    def give_memory_back_soon(self) -> None:
        """Give memory back to the system when no large photo has been decoded for some seconds."""
        loop = asyncio.get_running_loop()
        if self._giving is not None:
            self._giving.cancel()
        self._giving = loop.call_later(_IDLE_SECONDS, loop.run_in_executor, None, give_memory_back)
