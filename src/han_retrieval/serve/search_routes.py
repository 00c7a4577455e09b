"""What finds photos: by a query, by date and folder alone; and what there is to choose from."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from fastapi import APIRouter, Depends, Query, Request

from han_retrieval.serve.answers import Facets, Folder, Found, Results
from han_retrieval.serve.catalogue import Catalogue
from han_retrieval.serve.engine import Engine, Piece
from han_retrieval.serve.filters import condition
from han_retrieval.serve.limits import Limits
from han_retrieval.serve.metrics import Metrics
from han_retrieval.serve.turns import Turns

A_PAGE = 60


def search_routes(engine: Engine, turns: Turns, metrics: Metrics, limits: Limits) -> APIRouter:
    """The routes of answers that are lists of photos."""
    router = APIRouter(prefix="/api", tags=["search"])
    chosen = filters(limits)

    @router.get("/search")
    async def search(
        request: Request,
        q: str = Query(max_length=limits.query, description='a sentence, or parts: \'"a dog" - "a leash"\''),
        k: int = Query(A_PAGE, ge=1, le=limits.results, description="how many photos"),
        first: int = Query(0, ge=0, le=limits.depth, description="from this place on"),
        where: str | None = Depends(chosen),
    ) -> Results:
        """The photos that fit a sentence best, ordered by the model's own scores."""

        def work() -> Results:
            piece = engine.search(q, first=first, count=k, where=where)
            metrics.stages(piece.seconds)
            return told(piece, engine.catalogue, first=first)

        return await turns.take(request, work)

    @router.get("/photos")
    async def photos(
        request: Request,
        k: int = Query(A_PAGE, ge=1, le=limits.results, description="how many photos"),
        first: int = Query(0, ge=0, description="from this place on"),
        where: str | None = Depends(chosen),
    ) -> Results:
        """All photos, newest first, those without a date at the end."""

        def work() -> Results:
            rows, total = engine.newest(first=first, count=k, where=where)
            hits = [_found(engine.catalogue, row) for row in rows]
            return Results(hits=hits, first=first, total=total, photos=len(engine.catalogue))

        return await turns.take(request, work)

    @router.get("/facets")
    async def facets(request: Request) -> Facets:
        """The folders and months that photos can be filtered by."""

        def work() -> Facets:
            catalogue = engine.catalogue
            folders = [Folder(root=each.root, folder=each.folder, photos=each.photos) for each in catalogue.folders]
            return Facets(photos=len(catalogue), folders=folders, months=catalogue.months)

        return await turns.take(request, work)

    return router


def told(piece: Piece, catalogue: Catalogue, *, first: int) -> Results:
    """A piece of a ranking as it is told."""
    return Results(
        hits=[_found(catalogue, hit.row, score=hit.score, probability=hit.probability) for hit in piece.hits],
        first=first, total=piece.total, nothing=piece.nothing, threshold=piece.threshold, unknown=list(piece.unknown),
        photos=len(catalogue), seconds=piece.seconds,
    )  # fmt: skip


def filters(limits: Limits) -> Callable[..., str | None]:
    """What reads the filters of a request, as one condition."""

    def chosen(
        where: str | None = Query(None, max_length=limits.query, description="SQL on the columns of docs/search.md"),
        root: str | None = Query(None, max_length=limits.query, description="only photos of this indexed folder"),
        folder: str | None = Query(None, max_length=limits.query, description="only in or below it: 'trips/2024/'"),
        since: date | None = Query(None, description="taken on this day or later"),
        until: date | None = Query(None, description="taken on this day or before"),
    ) -> str | None:
        return condition(where=where, root=root, folder=folder, since=since, until=until)

    return chosen


def _found(catalogue: Catalogue, row: int, *, score: float | None = None, probability: float | None = None) -> Found:
    facts = catalogue.facts(row)
    return Found(**{**facts, "name": facts["path"], "score": score, "probability": probability})
