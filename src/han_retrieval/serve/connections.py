"""Connections of strangers: how many there may be, and how slow."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from contextlib import suppress
from importlib import import_module
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 1024
"""Connections at a time; one address, or one network of IPv6, may have half of them."""

_FILES = 2 * MOST  # that the process may have open, where the system lets it
_PATIENCE = 10.0  # seconds for a request, or for taking a response, beyond those of the slowest line
_SLOWEST = 4096  # bytes a second


def network_of(client: tuple[str, int] | None) -> str:
    """The address that a client counts under: for IPv6 its network of 64 bits, all of which one person may have."""
    host = client[0] if client else ""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64))) if address.version == 6 else host


class GuardedConnection(H11Protocol):
    """A connection that is closed when it is too slow, or when others need its place and it has not asked for anything.

    Attributes:
        most: Connections that there may be.
    """

    most = MOST

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._since = self.loop.time()  # of waiting for the request that comes next
        self._received = 0  # bytes of it
        self._unsent: tuple[float, int] | None = None  # since when bytes wait to be taken, and how many they were

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection; if there are too many, close the one that has waited longest without a whole request."""
        super().connection_made(transport)
        self.network = network_of(self.client)
        others = [each for each in self.connections if isinstance(each, GuardedConnection) and not each.is_closing]
        near = [each for each in others if each.network == self.network]
        crowd = near if len(near) > self.most // 2 else others if len(others) > self.most else []
        if crowd:  # one that has no request is always there: this
            min((each for each in crowd if each.has_no_request), key=lambda each: each._since).transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request."""
        self._received += len(data)
        super().data_received(data)

    def resume_writing(self) -> None:
        """What waited was taken: the time for the next bytes begins."""
        self._unsent = None
        super().resume_writing()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._since, self._received = self.loop.time(), 0
        super().on_response_complete()

    @property
    def is_closing(self) -> bool:
        """Whether it is being closed."""
        return self.transport.is_closing()

    @property
    def has_no_request(self) -> bool:
        """Whether the request that comes next is not here in full, so that nobody works on it."""
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY) and not self.flow.read_paused

    def is_late(self) -> bool:
        """Whether a request, or the taking of a response, is slower than the slowest line; asked every second."""
        now, unsent = self.loop.time(), self.transport.get_write_buffer_size()
        if not unsent:
            self._unsent = None
        elif self._unsent is None:
            self._unsent = now, unsent
        if self._unsent is not None:
            began, size = self._unsent
            return now - began > _PATIENCE + size / _SLOWEST
        # After the response, as after a refusal, the rest of a body is read for a while, so that the response arrives.
        received = 0 if self.cycle is not None and self.cycle.response_complete else self._received
        return self.has_no_request and now - self._since > _PATIENCE + received / _SLOWEST


def allow_connections() -> int:
    """Let the process have open as many files as ``MOST`` connections need; how many connections it may have."""
    try:
        resource: Any = import_module("resource")
    except ModuleNotFoundError:  # Windows, where sockets are not counted as files
        return MOST
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _FILES:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES if hard < 0 else min(hard, _FILES), hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft < 0 else max(2, min(MOST, soft // 2))


class NoFlood(logging.Filter):
    """Lets each message of a log pass once in some seconds, so that nobody fills a disk with it."""

    _SECONDS = 10.0
    _KINDS = 256  # messages that are remembered

    def __init__(self) -> None:
        super().__init__()
        self._passed: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is written."""
        now, kind = time.monotonic(), (record.name, record.getMessage()[:200])
        if now - self._passed.get(kind, -self._SECONDS) < self._SECONDS:
            return False
        if len(self._passed) >= self._KINDS:
            self._passed.clear()
        self._passed[kind] = now
        return True
