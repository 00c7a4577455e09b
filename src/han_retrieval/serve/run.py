"""Running the server: socket, signals, log."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from han_retrieval.errors import ConfigError
from han_retrieval.serve.access import is_loopback
from han_retrieval.serve.app import create_app
from han_retrieval.serve.connections import GuardedConnection, NoFlood, allow_connections
from han_retrieval.serve.service import SearchService

_SECONDS_TO_FINISH = 4  # for requests that run
_SECONDS_TO_END = 4.5  # for everything
_SECONDS_TO_CUT_OFF = 2  # for what is to be done although a request still runs
_TICKS = 10  # uvicorn's, in a second
_BACKLOG = 128  # connections that the system keeps until they are accepted, as many at a time


def serve(
    service: SearchService,
    listener: socket.socket,
    *,
    host: str,
    token: str | None = None,
    started: Callable[[str], None] | None = None,
    cut_off: Callable[[], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, and finish the requests that are running then; the process ends within 5 s.

    Args:
        service: The index with its model; closed at the end.
        listener: The socket of ``listen``; closed at the end.
        host: The name or address that it listens on.
        token: The token that every request must send; needed where ``host`` can be reached from other machines.
        started: Called with the page's address before the first request.
        cut_off: Called where the process ends although a request still runs, in place of what follows this call.

    Raises:
        ConfigError: The address needs a token.
    """
    check_access(host, token)
    app = create_app(service, token=token, loopback_only=is_loopback(host))
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    calm = NoFlood()
    for handler in logging.getLogger().handlers:
        handler.addFilter(calm)
    GuardedConnection.most = allow_connections()
    server = make_server(app, cut_off=cut_off)
    address = f"[{host.strip('[]')}]" if ":" in host else host
    if started is not None:
        started(f"http://{address}:{listener.getsockname()[1]}/")
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):  # uvicorn raises its signals again after it has stopped
            server.run(sockets=[listener])
    finally:
        signal.signal(signal.SIGTERM, before)
        listener.close()
        server.end.cancel()


def make_server(app: ASGIApp, *, cut_off: Callable[[], None] | None = None) -> Server:
    """A server of an application that is not run yet; ``cut_off`` as of ``serve``."""
    return Server(
        uvicorn.Config(
            app,
            http=GuardedConnection,
            backlog=_BACKLOG,
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            proxy_headers=False,
            timeout_graceful_shutdown=_SECONDS_TO_FINISH,
            lifespan="on",
        ),
        cut_off,
    )


class Server(uvicorn.Server):
    """Closes slow connections; ends the process if a request that nothing can interrupt outlasts the signal to stop."""

    def __init__(self, config: uvicorn.Config, cut_off: Callable[[], None] | None = None) -> None:
        super().__init__(config)
        self.end = threading.Timer(_SECONDS_TO_END, _end, [cut_off])
        self.end.daemon = True
        self._ends = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; called at a signal, and perhaps at a second one within the first call."""
        ends, self._ends = self._ends, True
        if not ends:
            self.end.start()
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Close slow connections once a second."""
        if counter % _TICKS == 0:
            for each in list(self.server_state.connections):
                if isinstance(each, GuardedConnection) and each.is_late():
                    each.transport.abort()
        return await super().on_tick(counter)


def _end(cut_off: Callable[[], None] | None) -> None:
    if cut_off is not None:
        ending = threading.Thread(target=cut_off, daemon=True)
        ending.start()
        ending.join(_SECONDS_TO_CUT_OFF)
    print("stopped; a request that still ran was cut off", file=sys.stderr, flush=True)
    os._exit(0)


def check_access(host: str, token: str | None) -> None:
    """Refuse to serve photos to everyone on the network.

    Raises:
        ConfigError: ``host`` can be reached from other machines and there is no token, or the token is too short.
    """
    if token is not None and len(token) < 8:
        raise ConfigError("the token has fewer than 8 characters and can be guessed: choose a longer one")
    if token is None and not is_loopback(host):
        raise ConfigError(
            f"{host} can be reached from other machines, so a token is needed: --token SECRET, or HAN_TOKEN in the "
            "environment; or listen on this machine only with --host 127.0.0.1"
        )


def listen(host: str, port: int) -> socket.socket:
    """Open a socket on a host and a port (0 for any free one); connections wait until ``serve`` accepts them.

    Raises:
        ConfigError: The address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        made = socket.create_server((host.strip("[]"), port), family=family)
        # Of a socket that names no protocol, asyncio does not know that small answers should leave at once.
        return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=made.detach())
    except (OSError, OverflowError) as error:
        # The system's own message: Python's repeats the address.
        number = getattr(error, "errno", None) or 0
        reason = (
            os.strerror(number) if number > 0 and os.name == "posix" else getattr(error, "strerror", None) or str(error)
        )
        raise ConfigError(
            f"cannot listen on {host}, port {port} ({reason}); choose another with --port or --host"
        ) from None
