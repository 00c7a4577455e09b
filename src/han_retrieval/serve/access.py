"""Access control in front of the application: host, origin, token and size of every request.

A plain ASGI middleware, so that streams and disconnects pass unchanged.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import re
import secrets
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from han_retrieval.serve.connections import network_of
from han_retrieval.serve.guesses import SECONDS, Guesses
from han_retrieval.serve.limits import Limits

COOKIE = "han_token"
_PUBLIC = frozenset({"/health"})  # for monitoring; it shows nothing of the photos
_OWN_PAGES = ("same-origin", "none")  # Sec-Fetch-Site of this server's pages, and of what people type
_AUTHORITY = re.compile(r"(?P<host>[\w.-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?", re.IGNORECASE | re.ASCII)
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
        return host.lower() == "localhost"


class AccessControl:
    """Refuses requests that may not ask, and adds security headers to all responses.

    Args:
        app: The application that gets the other requests.
        token: The token that a request must send as ``Authorization: Bearer`` or as the cookie that ``?token=`` sets;
            None if requests need none.
        loopback_only: Refuse requests whose Host is not this machine. A page of another site whose name was made to
            point here (DNS rebinding) sends that name.
        limits: The size of a body, how many may come at a time, and how long others wait until then.
    """

    def __init__(self, app: ASGIApp, *, token: str | None, loopback_only: bool, limits: Limits) -> None:
        self._app, self._loopback_only, self._limits = app, loopback_only, limits
        self._uploads = asyncio.Semaphore(limits.uploads)
        self._digest = None if token is None else _digest(token.encode("utf-8", "surrogateescape"))
        self._cookie = f"{COOKIE}_{(self._digest or '')[:8]}"  # servers at other ports of the same host have their own
        self._guesses = Guesses()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; other ASGI messages pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        began = False

        async def send_with_headers(message: Message) -> None:
            nonlocal began
            began = True
            if message["type"] == "http.response.start":
                answer_headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    answer_headers.setdefault(name, value)
                answer_headers.setdefault("Cache-Control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        refusal = self._refuse(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, send_with_headers)
            return
        try:
            if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
                await self._app(scope, receive, send_with_headers)
            elif await self._turn():
                try:
                    await self._app(scope, self._limited(receive), send_with_headers)
                finally:
                    self._uploads.release()
            else:
                await _error(headers, 503, "too many uploads come at once")(scope, receive, send_with_headers)
        except asyncio.CancelledError:  # the server stops, and this took too long
            if not began:
                await _error(headers, 503, "the server is stopping")(scope, receive, send_with_headers)

    async def _turn(self) -> bool:
        """Whether a body may come before time is up: until it is worked on, it lies on the disk."""
        try:
            return await asyncio.wait_for(self._uploads.acquire(), self._limits.seconds)
        except TimeoutError:
            return False

    def _refuse(self, scope: Scope, headers: Headers) -> Response | None:
        if self._loopback_only and not is_loopback(_host(headers.getlist("host"))):
            return _error(headers, 403, "this server accepts requests for localhost and 127.0.0.1 only")
        if _is_foreign(scope, headers):
            return _error(headers, 403, "requests from pages of other sites are refused, but for links to /")
        length = headers.get("content-length", "0")
        if not re.fullmatch("[0-9]{1,20}", length) or int(length) > self._limits.upload_bytes:
            return _error(headers, 413, _too_large(self._limits.upload_bytes))
        return None if self._digest is None or scope["path"] in _PUBLIC else self._check_token(scope, headers)

    def _check_token(self, scope: Scope, headers: Headers) -> Response | None:
        network = network_of(scope.get("client"))
        if self._guesses.too_many(network):
            return _error(headers, 429, "too many wrong tokens came from your address; try again in a minute")
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        cookie = cookie_parser(headers.get("cookie", "")).get(self._cookie, "")
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        shown = next((value for name, value in query if name == "token"), "") if scope["method"] == "GET" else ""
        in_headers = [_digest(bearer.strip().encode("latin-1")) if kind.lower() == "bearer" else "", cookie]
        # "+" stands for a space in an address, and for itself in tokens of base64.
        as_sent = [_digest(each.encode()) for each in (shown, shown.replace(" ", "+"))]
        in_address = next(filter(self._fits, as_sent), as_sent[0])
        is_known, is_new = any(map(self._fits, in_headers)), self._fits(in_address)
        self._guesses.add(
            network, [each for each in (*in_headers, shown and in_address) if each], right=is_known or is_new
        )
        if is_known and not (is_new and scope["path"] == "/"):  # the page's address is not to keep the token
            return None
        if not is_new:
            return _error(headers, 401, "a token is needed: send it as Authorization: Bearer, or open /?token=")
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        response = RedirectResponse("/" + scope["path"].lstrip("/") + (f"?{rest}" if rest else ""), status_code=303)
        response.set_cookie(self._cookie, in_address, httponly=True, samesite="lax", secure=scope["scheme"] == "https")
        return response

    def _fits(self, digest: str) -> bool:
        assert self._digest is not None
        return secrets.compare_digest(digest.encode(), self._digest.encode())

    def _limited(self, receive: Receive) -> Receive:
        """Receive a body up to the limit: its Content-Length may be missing."""
        left = self._limits.upload_bytes

        async def receive_limited() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, _too_large(self._limits.upload_bytes))
            return message

        return receive_limited


def _too_large(limit: int) -> str:
    return f"the upload is larger than the limit of {limit / 2**20:.0f} MiB"


def _digest(token: bytes) -> str:
    """The hash that is compared, and that a browser keeps instead of the token."""
    return hashlib.sha256(b"han-retrieval:" + token).hexdigest()


def _host(headers: list[str]) -> str:
    """The host of a request's Host headers without its port; empty where it has none, several, or another thing."""
    found = _AUTHORITY.fullmatch(headers[0]) if len(headers) == 1 else None
    return "" if found is None else found["host"]


def _is_foreign(scope: Scope, headers: Headers) -> bool:
    """Whether a browser sends the request for a page of another origin, other than to open this server's page.

    Browsers send Sec-Fetch-Site to this machine and over TLS. Elsewhere, Origin tells what a page changes or reads.
    """
    site = headers.get("sec-fetch-site", "").lower()
    if not site:
        origin = headers.get("origin")
        return origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower()
    opens_page = headers.get("sec-fetch-mode", "").lower() == "navigate" and scope["method"] == "GET"
    return site not in _OWN_PAGES and not (opens_page and scope["path"] == "/")


def _error(headers: Headers, status: int, message: str) -> Response:
    if "text/html" in headers.get("accept", "").split(";")[0]:
        return PlainTextResponse(f"han: {message}\n", status)
    more = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": str(SECONDS)}, 503: {"Retry-After": "1"}}
    return JSONResponse({"error": message}, status, more.get(status))
