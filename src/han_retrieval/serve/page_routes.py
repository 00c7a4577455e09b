"""Routes of the page's files, all read into memory when the server starts."""

from __future__ import annotations

import hashlib
from importlib import resources

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_SHARED = ("evidence.css", "light.js")  # also part of the page that `han explain --out page.html` writes


def page_routes() -> APIRouter:
    """The routes of the page and its files."""
    router = APIRouter(include_in_schema=False)
    folder = resources.files("han_retrieval.serve") / "page"
    files = [each for each in folder.iterdir() if each.name.rpartition(".")[2] in _KINDS]
    files += [resources.files("han_retrieval.evidence") / name for name in _SHARED]
    contents = {each.name: each.read_bytes() for each in files}

    def respond(request: Request, name: str) -> Response:
        if name not in contents:
            raise HTTPException(404, f"there is no {name[:100]!r} here")
        content = contents[name]
        # The browser asks each time and gets the file only if it changed, so that a new version shows at once.
        tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        headers = {"Cache-Control": "no-cache", "ETag": tag}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=_KINDS[name.rpartition(".")[2]], headers=headers)

    @router.get("/")
    async def page(request: Request) -> Response:
        return respond(request, "index.html")

    @router.get("/favicon.ico")
    async def icon(request: Request) -> Response:
        return respond(request, "icon.svg")

    @router.get("/static/{name}")
    async def static(request: Request, name: str) -> Response:
        return respond(request, name)

    return router
