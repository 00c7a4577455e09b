"""Routes of one photo of the index: its JPEG, its details, its evidence for a query."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import FileResponse, Response

from han_retrieval.data import open_file
from han_retrieval.data.url_path import UrlPath
from han_retrieval.errors import StoreError
from han_retrieval.evidence import Evidence
from han_retrieval.evidence.colours import region_colours
from han_retrieval.objects import is_remote
from han_retrieval.objects.cache import local_copy
from han_retrieval.search import Part
from han_retrieval.search.calibration import Match
from han_retrieval.search.scan import path_of
from han_retrieval.serve import jpegs
from han_retrieval.serve.catalogue import Catalogue, unchanged_file
from han_retrieval.serve.context import Context
from han_retrieval.serve.schemas import EvidenceResponse, PhotoDetails, PhotoScore, RegionColour, SentenceEvidence

_JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe")
_SHOWN = dict.fromkeys(_JPEG_SUFFIXES, "image/jpeg") | {
    f".{kind}": f"image/{kind}" for kind in ("png", "gif", "webp", "avif", "bmp")
}
Where = Path | UrlPath
_KEPT = {"Cache-Control": "private, max-age=604800"}  # a photo's address names its content
_CACHED_THUMBNAILS = 1024  # some 40 KB each; larger photos are cached by browsers alone

_JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}, "description": "the photo"}}


def photo_routes(context: Context) -> APIRouter:
    """The routes of single photos."""
    router = APIRouter(tags=["photos"])
    service = context.service
    threads = CapacityLimiter(os.cpu_count() or 1)

    thumbnails = jpegs.JPEGCache(_CACHED_THUMBNAILS)

    async def jpeg(request: Request, photo_id: str, size: jpegs.Size) -> Response:
        catalogue = service.catalogue  # another one may take its place while this request waits
        row, facts = known_photo(catalogue, photo_id)
        headers = _KEPT | {"ETag": f'"{photo_id}-{size.name.lower()}"'}
        path = await run_sync(_file_of, catalogue, row, facts)
        if headers["ETag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        is_small = size is jpegs.Size.THUMBNAIL
        if is_small and (content := thumbnails.get(photo_id)):  # before it waits for a large photo
            return Response(content, media_type="image/jpeg", headers=headers)
        width, height = facts["width"], facts["height"]
        is_jpeg = path.suffix.lower() in _JPEG_SUFFIXES
        pixels = size.pixels_of(width, height) if is_jpeg else width * height
        async with context.pixels.take(pixels):
            if await request.is_disconnected():  # while it waited
                raise HTTPException(499, "the sender has gone")
            content = await run_sync(jpegs.make_jpeg, path, size, limiter=threads)
        if is_small:
            thumbnails.keep(photo_id, content)
        return Response(content, media_type="image/jpeg", headers=headers)

    @router.get("/thumbnails/{photo_id}.jpg", response_class=Response, responses=_JPEG)
    async def thumbnail(request: Request, photo_id: str) -> Response:
        """The photo for a grid, at most 400 pixels high."""
        return await jpeg(request, photo_id, jpegs.Size.THUMBNAIL)

    @router.get("/photos/{photo_id}.jpg", response_class=Response, responses=_JPEG)
    async def photo(request: Request, photo_id: str) -> Response:
        """The photo for a screen, at most 2048 pixels wide or high."""
        return await jpeg(request, photo_id, jpegs.Size.SCREEN)

    @router.get("/originals/{photo_id}", response_class=FileResponse, responses={200: {"description": "the file"}})
    async def original(
        photo_id: str,
        view: bool = Query(False, description="to be shown by a browser, where browsers know the file's format"),
    ) -> Response:
        """The photo's file as it is, to download or to view."""
        catalogue = service.catalogue
        row, facts = known_photo(catalogue, photo_id)
        path = await run_sync(_file_of, catalogue, row, facts)
        return await run_sync(_whole_file, path, _SHOWN.get(path.suffix.lower()) if view else None)

    @router.get("/api/photos/{photo_id}")
    async def facts(photo_id: str) -> PhotoDetails:
        """Path, date, camera and size of a photo."""
        catalogue = service.catalogue
        row, facts = known_photo(catalogue, photo_id)
        path, *copies = (str(path_of((file.root, file.path))) for file in catalogue.files(row))
        return PhotoDetails(**{**facts, "name": facts["path"], "path": path, "copies": copies})

    @router.get("/api/photos/{photo_id}/evidence")
    async def evidence(
        request: Request,
        photo_id: str,
        q: str = Query(max_length=context.limits.query, description="a query as of /api/search"),
    ) -> EvidenceResponse:
        """For each word of a query, the regions of the photo that it is aligned with and how well it matches them."""

        def work() -> EvidenceResponse:
            row, _ = known_photo(service.catalogue, photo_id)
            return _response(photo_id, q, *service.evidence(row, q))

        return await context.queue.run(request, work)

    return router


def known_photo(catalogue: Catalogue, photo_id: str) -> tuple[int, dict[str, Any]]:
    """A photo's row and its columns.

    Raises:
        HTTPException: The index has no such photo (404).
    """
    row = catalogue.row(photo_id)
    if row is None:
        raise HTTPException(404, f"the index has no photo {photo_id[:100]!r}")
    return row, catalogue.facts(row)


def _file_of(catalogue: Catalogue, row: int, facts: dict[str, Any]) -> Where:
    try:
        path = unchanged_file(catalogue.files(row), facts["size"])
    except StoreError as error:
        raise HTTPException(503, str(error)) from None
    if path is None:
        raise HTTPException(
            410, f"{facts['path']}: gone or changed since it was indexed; update the index with `han index --out`"
        )
    return path


def _whole_file(path: Where, kind: str | None) -> Response:
    """A photo's file, to view as an image of this kind or else to save; one of object storage is copied here first.

    Whatever the file holds, a browser takes it for an image: answers have X-Content-Type-Options.
    """
    how = "attachment" if kind is None else "inline"
    kind = kind or "application/octet-stream"
    copy = path if isinstance(path, Path) else local_copy(path) if is_remote(path) else open_file(path).read()
    if isinstance(copy, Path):
        return FileResponse(copy, media_type=kind, filename=path.name, content_disposition_type=how, headers=_KEPT)
    headers = _KEPT | {"Content-Disposition": f"{how}; filename*=UTF-8''{quote(path.name, safe='')}"}
    return Response(copy, media_type=kind, headers=headers)


def _response(
    photo_id: str,
    query: str,
    evidence: list[tuple[Part, Evidence]],
    photos: list[tuple[Part, float]],
    probability: float | None,
    match: Match | None,
) -> EvidenceResponse:
    colours = region_colours(*(each for _, each in evidence))  # of all parts together: a region has one colour
    return EvidenceResponse(
        id=photo_id,
        query=query,
        score=sum(part.weight * each.score for part, each in evidence)
        + sum(part.weight * score for part, score in photos),
        probability=probability,
        match=match,
        shown=[RegionColour(region=region, colour=colour) for region, colour in colours.items()],
        parts=[SentenceEvidence(weight=part.weight, **each.to_dict()) for part, each in evidence],
        photos=[PhotoScore(weight=part.weight, id=str(part.photo), score=score) for part, score in photos],
    )
