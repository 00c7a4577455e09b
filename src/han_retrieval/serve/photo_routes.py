"""What is about one photo: its picture, what is known of it, why it matches a sentence. Only of photos in the index."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response

from han_retrieval.evidence import Evidence
from han_retrieval.evidence.colours import NEUTRAL, region_colours
from han_retrieval.search import Part
from han_retrieval.serve.answers import PairAnswer, PartAnswer, PhotoFacts, PhraseOfWords, ShownRegion, Word
from han_retrieval.serve.catalogue import Catalogue, unchanged_file
from han_retrieval.serve.engine import Engine
from han_retrieval.serve.limits import Limits
from han_retrieval.serve.pictures import Pictures, Size
from han_retrieval.serve.turns import Turns

_JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}, "description": "the picture"}}


def photo_routes(engine: Engine, turns: Turns, limits: Limits) -> APIRouter:
    """The routes of single photos."""
    router = APIRouter(tags=["photos"])
    pictures = Pictures()
    at_once = CapacityLimiter(os.cpu_count() or 1)

    async def jpeg(request: Request, photo_id: str, size: Size) -> Response:
        _, facts = known_photo(engine.catalogue, photo_id)
        headers = {"Cache-Control": "private, max-age=604800", "ETag": f'"{photo_id}-{size.name.lower()}"'}
        path = await run_sync(_file_of, engine.catalogue, photo_id, facts)
        if headers["ETag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        content = await run_sync(pictures.jpeg, photo_id, path, size, limiter=at_once)
        return Response(content, media_type="image/jpeg", headers=headers)

    @router.get("/thumbnails/{photo_id}.jpg", response_class=Response, responses=_JPEG)
    async def thumbnail(request: Request, photo_id: str) -> Response:
        """The photo for a grid, at most 400 pixels high."""
        return await jpeg(request, photo_id, Size.THUMBNAIL)

    @router.get("/photos/{photo_id}.jpg", response_class=Response, responses=_JPEG)
    async def photo(request: Request, photo_id: str) -> Response:
        """The photo for a screen, at most 2048 pixels wide and high."""
        return await jpeg(request, photo_id, Size.SCREEN)

    @router.get("/api/photos/{photo_id}")
    async def facts(photo_id: str) -> PhotoFacts:
        """What is known of a photo."""
        row, facts = known_photo(engine.catalogue, photo_id)
        path, *copies = (str(Path(file.root, file.path)) for file in engine.catalogue.files(row))
        return PhotoFacts(**{**facts, "name": facts["path"], "path": path, "copies": copies})

    @router.get("/api/photos/{photo_id}/evidence")
    async def evidence(
        request: Request, photo_id: str, q: str = Query(max_length=limits.query, description="as of a search")
    ) -> PairAnswer:
        """For each word of a sentence, or of each part of a query, the regions of the photo that it looked at."""

        def work() -> PairAnswer:
            row, _ = known_photo(engine.catalogue, photo_id)
            return _told(photo_id, q, *engine.evidence(row, q))

        return await turns.take(request, work)

    return router


def known_photo(catalogue: Catalogue, photo_id: str) -> tuple[int, dict[str, Any]]:
    """A photo's row and what is known of it.

    Raises:
        HTTPException: The index has no such photo (404).
    """
    row = catalogue.row(photo_id)
    if row is None:
        raise HTTPException(404, f"the index has no photo {photo_id!r}")
    return row, catalogue.facts(row)


def _file_of(catalogue: Catalogue, photo_id: str, facts: dict[str, Any]) -> Path:
    row = catalogue.row(photo_id)
    assert row is not None
    path = unchanged_file(catalogue.files(row), facts["size"])
    if path is None:
        raise HTTPException(
            410, f"{facts['path']}: gone or changed since it was indexed; han index --out brings the index up to date"
        )
    return path


def _told(photo_id: str, query: str, pairs: list[tuple[Part, Evidence]], probability: float | None) -> PairAnswer:
    # Of all parts together, so that a colour is one region's.
    colours = region_colours(*(pair for _, pair in pairs))
    _, any_pair = pairs[0]
    return PairAnswer(
        id=photo_id,
        query=query,
        score=sum(part.weight * pair.score for part, pair in pairs),
        probability=probability,
        width=any_pair.width,
        height=any_pair.height,
        boxes=np.round(any_pair.boxes, 1).tolist(),
        shown=[ShownRegion(region=region, colour=colour) for region, colour in colours.items()],
        parts=[_part_told(part, pair, colours) for part, pair in pairs],
    )


def _part_told(part: Part, pair: Evidence, colours: dict[int, str]) -> PartAnswer:
    word_regions = pair.word_regions.tolist()
    return PartAnswer(
        text=part.text,
        weight=part.weight,
        score=pair.score,
        words=[
            Word(text=text, known=known, match=float(match), region=region, colour=colours.get(region, NEUTRAL))
            for text, known, match, region in zip(pair.words, pair.known, pair.match, word_regions, strict=True)
        ],
        phrases=[PhraseOfWords(start=each.start, end=each.end) for each in pair.phrases()],
        alignment=np.round(pair.alignment, 3).tolist(),
    )
