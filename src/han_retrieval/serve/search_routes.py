"""Routes that return lists of photos: by a query, by a photo, by date; and sentences for a photo."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from fastapi import APIRouter, Depends, File, Form, HTTPException, Query, Request, UploadFile

from han_retrieval.search.conditions import check_condition, literal
from han_retrieval.serve.context import Context
from han_retrieval.serve.limits import Limits
from han_retrieval.serve.photo_routes import known_photo
from han_retrieval.serve.ranking import PageRequest
from han_retrieval.serve.schemas import (
    CaptionsResponse,
    FacetsResponse,
    LikenessResponse,
    RankedSentence,
    SearchResponse,
)
from han_retrieval.serve.uploads import Upload, read_upload
from han_retrieval.text import tokenize

_PAGE_SIZE = 60
_QUERY = 'a sentence, or parts: \'"a dog" - "a leash"\'; a photo of the index is photo:ID, or photo:"its path"'


def search_routes(context: Context) -> APIRouter:
    """The routes of /api that search."""
    router = APIRouter(prefix="/api")
    service, queue, limits = context.service, context.queue, context.limits
    ranked_page = _page_parameters(limits, depth=limits.depth)
    dated_page = _page_parameters(limits)

    async def respond(request: Request, search: Callable[[], SearchResponse]) -> SearchResponse:
        found = await queue.run(request, search)
        context.metrics.stages(found.seconds)
        return found

    def read(photo: str | UploadFile) -> int | Upload:
        """The row of a photo's id, or the upload, which is decoded in its turn where its regions are not known."""
        return row(photo) if isinstance(photo, str) else read_upload(photo, limits)

    def row(photo_id: str) -> int:
        return known_photo(service.catalogue, photo_id)[0]

    @router.get("/search", tags=["search"])
    async def search(
        request: Request,
        q: str = Query(max_length=limits.query, description=_QUERY),
        like: str | None = Query(None, description="the id of a photo of the index, as one more part of the query"),
        page: PageRequest = Depends(ranked_page),
    ) -> SearchResponse:
        """The photos that match a query best, by the model's exact scores."""
        return await respond(request, lambda: service.search(q, page, None if like is None else read(like)))

    @router.post("/search", tags=["by a photo"])
    async def search_with_upload(
        request: Request,
        q: str = Form(max_length=limits.query, description=_QUERY),
        photo: UploadFile = File(description="an image file: `photo:upload` in the query, or one more part of it"),
        page: PageRequest = Depends(ranked_page),
    ) -> SearchResponse:
        """The photos that match a query and an uploaded photo best."""
        try:
            return await respond(request, lambda: service.search(q, page, read(photo)))
        finally:
            context.pixels.give_memory_back_soon()

    @router.get("/photos", tags=["search"])
    async def photos(request: Request, page: PageRequest = Depends(dated_page)) -> SearchResponse:
        """All photos, newest first; photos without a date come last."""
        return await respond(request, lambda: service.newest(page))

    @router.get("/photos/{photo_id}/similar", tags=["by a photo"])
    async def similar(request: Request, photo_id: str, page: PageRequest = Depends(ranked_page)) -> SearchResponse:
        """The photos that are most similar to one of the index, compared region by region."""
        return await respond(request, lambda: service.similar(read(photo_id), page))

    @router.post("/similar", tags=["by a photo"])
    async def similar_to_upload(
        request: Request,
        photo: UploadFile = File(description="an image file"),
        page: PageRequest = Depends(ranked_page),
    ) -> SearchResponse:
        """The photos that are most similar to an uploaded one."""
        try:
            return await respond(request, lambda: service.similar(read(photo), page))
        finally:
            context.pixels.give_memory_back_soon()

    @router.get("/photos/{photo_id}/similar/{other_id}", tags=["by a photo"])
    async def likeness(request: Request, photo_id: str, other_id: str) -> LikenessResponse:
        """How similar another photo of the index is to one, and the pairs of regions that are most alike."""
        return await queue.run(request, lambda: service.likeness(read(photo_id), row(other_id)))

    @router.post("/similar/{other_id}", tags=["by a photo"])
    async def likeness_to_upload(
        request: Request, other_id: str, photo: UploadFile = File(description="an image file")
    ) -> LikenessResponse:
        """How similar a photo of the index is to an uploaded one, and the pairs of regions that are most alike."""
        try:
            return await queue.run(request, lambda: service.likeness(read(photo), row(other_id)))
        finally:
            context.pixels.give_memory_back_soon()

    @router.post("/captions", tags=["by a photo"])
    async def captions(
        request: Request,
        sentences: str = Form("", description="one sentence on each line"),
        photo: UploadFile | None = File(None, description="an image file"),
        id: str | None = Form(None, description="the id of a photo of the index, instead of a file"),
    ) -> CaptionsResponse:
        """Sentences ranked by how well they match a photo."""
        lines = _lines(sentences, limits)
        if (photo is None) == (id is None):
            raise HTTPException(422, "send one photo: a file as 'photo', or the 'id' of a photo of the index")

        def work() -> CaptionsResponse:
            ranked = service.captions(read(photo or id or ""), lines)
            scored = {each.caption for each in ranked}
            return CaptionsResponse(
                captions=[RankedSentence(sentence=each.caption, score=each.score, match=each.match) for each in ranked],
                left_out=[line for line in lines if line not in scored],
            )

        try:
            return await queue.run(request, work)
        finally:
            context.pixels.give_memory_back_soon()

    @router.get("/facets", tags=["search"])
    async def facets(request: Request) -> FacetsResponse:
        """The folders and months that photos can be filtered by, and examples of queries."""

        def work() -> FacetsResponse:
            catalogue = service.catalogue
            return FacetsResponse(
                photos=len(catalogue),
                folders=catalogue.folders,
                months=catalogue.months,
                examples=catalogue.examples,
            )

        return await queue.run(request, work)

    return router


def _page_parameters(limits: Limits, *, depth: int | None = None) -> Callable[..., PageRequest]:
    """A dependency that reads the page and the filters of a request; ``first`` is at most ``depth``."""

    def parameters(
        k: int = Query(_PAGE_SIZE, ge=1, le=limits.results, description="how many photos"),
        first: int = Query(0, ge=0, le=depth, description="position of the first photo, from 0"),
        where: str | None = Query(None, max_length=limits.query, description="SQL condition on the index's columns"),
        root: str | None = Query(None, max_length=limits.query, description="only photos of this indexed folder"),
        folder: str | None = Query(None, max_length=limits.query, description="only in or below it: 'trips/2024/'"),
        since: date | None = Query(None, description="taken on this day or later"),
        until: date | None = Query(None, description="taken on this day or earlier"),
    ) -> PageRequest:
        conditions = [f"({check_condition(where)})"] if where else []
        if root:
            conditions.append(f"root = {literal(root)}")
        if folder:
            conditions.append(f"starts_with(folder, {literal(folder.rstrip('/') + '/')})")
        if since:
            conditions.append(f"date >= '{since.isoformat()}'")
        if until:
            conditions.append(f"date <= '{until.isoformat()} 23:59:59'")
        return PageRequest(first, k, " and ".join(conditions) or None)

    return parameters


def _lines(sentences: str, limits: Limits) -> list[str]:
    lines = list(dict.fromkeys(line.strip() for line in sentences.splitlines() if line.strip()))
    if not lines:
        raise HTTPException(422, "sentences: none was sent; send one on each line")
    if len(lines) > limits.sentences or any(len(line) > limits.query for line in lines):
        raise HTTPException(422, f"sentences: at most {limits.sentences}, each of at most {limits.query} characters")
    if sum(len(tokenize(line)) for line in lines) > limits.words:
        raise HTTPException(422, f"sentences: at most {limits.words:,} words together")
    return lines
