"""The server as a process: its socket, its signals, its log."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import uvicorn

from han_retrieval.errors import HANError
from han_retrieval.serve.app import create_app
from han_retrieval.serve.engine import Engine
from han_retrieval.serve.guard import is_loopback

_SECONDS_TO_FINISH = 5


def serve(
    engine: Engine,
    listener: socket.socket,
    *,
    host: str,
    token: str | None = None,
    started: Callable[[str], None] | None = None,
) -> None:
    """Answer until SIGINT or SIGTERM comes; requests that are being answered then are finished.

    Args:
        engine: What answers; closed at the end.
        listener: Of ``listen``, which can be called before the engine is loaded; closed at the end.
        host: Name or address that it listens on.
        token: What every request must show; needed where ``host`` can be reached from elsewhere.
        started: Told the page's address when requests are taken.

    Raises:
        HANError: The address needs a token.
    """
    check_access(host, token)
    app = create_app(engine, token=token, loopback_only=is_loopback(host))
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            proxy_headers=False,
            timeout_graceful_shutdown=_SECONDS_TO_FINISH,
            lifespan="on",
        )
    )
    address = f"[{host.strip('[]')}]" if ":" in host else host
    if started is not None:
        started(f"http://{address}:{listener.getsockname()[1]}/")
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with suppress(KeyboardInterrupt):  # the server raises its signals again when it is done
            server.run(sockets=[listener])
    finally:
        signal.signal(signal.SIGTERM, before)
        listener.close()


def check_access(host: str, token: str | None) -> None:
    """Refuse what would show the photos to everyone.

    Raises:
        HANError: ``host`` can be reached from elsewhere and there is no token, or the token is too short to be one.
    """
    if token is not None and len(token) < 8:
        raise HANError("the token has fewer than 8 characters, which can be guessed: take a longer one")
    if token is None and not is_loopback(host):
        raise HANError(
            f"{host} can be reached from other machines, so whoever asks must show a token: --token SECRET, or "
            "HAN_TOKEN in the environment; or --host 127.0.0.1"
        )


def listen(host: str, port: int) -> socket.socket:
    """A name or an address and a port to listen on, 0 for any that is free; who asks waits for ``serve``.

    Raises:
        HANError: It cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family)
    except (OSError, OverflowError) as error:
        # Of the system's own words: Python adds the address once more.
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else getattr(error, "strerror", None) or str(error)
        raise HANError(
            f"cannot listen on {host}, port {port} ({reason}); choose another with --port or --host"
        ) from None


def _interrupt(_: int, __: Any) -> None:
    raise KeyboardInterrupt
