"""Access control in front of the application: host, origin, token and size of every request.

A plain ASGI middleware, so that streams and disconnects pass unchanged.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from collections.abc import Iterable
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "han_token"
_PUBLIC = frozenset({"/health"})  # for monitoring; it shows nothing of the photos
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether a server that listens on ``host`` can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class AccessControl:
    """Refuses requests that may not ask, and adds security headers to all responses.

    Args:
        app: The application that gets the other requests.
        token: The token that a request must send as ``Authorization: Bearer`` or as the cookie that ``?token=`` sets;
            None if requests need none.
        loopback_only: Refuse requests whose Host is not this machine. A page of another site whose name was made to
            point here (DNS rebinding) sends that name.
        upload_bytes: Largest body in bytes.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, loopback_only: bool, upload_bytes: int) -> None:
        self._app, self._loopback_only, self._upload_bytes = app, loopback_only, upload_bytes
        self._digest = None if token is None else _digest(token.encode("utf-8", "surrogateescape"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; other ASGI messages pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refuse(scope, Headers(scope=scope))
        if refusal is not None:
            await refusal(scope, receive, send_with_headers)
            return
        await self._app(scope, self._limited(receive), send_with_headers)

    def _refuse(self, scope: Scope, headers: Headers) -> Response | None:
        if self._loopback_only and not is_loopback(_host(headers.get("host", ""))):
            return _error(headers, 403, "this server accepts requests for localhost and 127.0.0.1 only")
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return _error(headers, 403, "requests from pages of other sites are refused")
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or int(length) > self._upload_bytes:
            return _error(headers, 413, _too_large(self._upload_bytes))
        return None if self._digest is None or scope["path"] in _PUBLIC else self._check_token(scope, headers)

    def _check_token(self, scope: Scope, headers: Headers) -> Response | None:
        kind, _, shown = headers.get("authorization", "").partition(" ")
        cookie = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
        if (kind.lower() == "bearer" and self._fits(_digest(shown.strip().encode("latin-1")))) or self._fits(cookie):
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        shown = next((value for name, value in query if name == "token"), "")
        if scope["method"] != "GET" or not self._fits(_digest(shown.encode())):
            return _error(headers, 401, "a token is needed: send it as Authorization: Bearer, or open /?token=")
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        response = RedirectResponse("/" + scope["path"].lstrip("/") + (f"?{rest}" if rest else ""), status_code=303)
        response.set_cookie(
            COOKIE, _digest(shown.encode()), httponly=True, samesite="lax", secure=scope["scheme"] == "https"
        )
        return response

    def _fits(self, digest: str) -> bool:
        assert self._digest is not None
        return secrets.compare_digest(digest.encode(), self._digest.encode())

    def _limited(self, receive: Receive) -> Receive:
        """Receive a body up to the limit: its Content-Length may be missing."""
        left = self._upload_bytes

        async def receive_limited() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, _too_large(self._upload_bytes))
            return message

        return receive_limited


def _too_large(limit: int) -> str:
    return f"the upload is larger than the limit of {limit / 2**20:.0f} MiB"


def _digest(token: bytes) -> str:
    """The hash that is compared, and that a browser keeps instead of the token."""
    return hashlib.sha256(b"han-retrieval:" + token).hexdigest()


def _host(header: str) -> str:
    """The host of a Host header, without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.rpartition(":")[0] if ":" in header else header


def _error(headers: Headers, status: int, message: str) -> Response:
    if "text/html" in headers.get("accept", "").split(";")[0]:
        return PlainTextResponse(f"han: {message}\n", status)
    more: Iterable[tuple[str, str]] = [("WWW-Authenticate", "Bearer")] if status == 401 else []
    return JSONResponse({"error": message}, status, dict(more))
