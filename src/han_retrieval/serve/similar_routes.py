"""What goes from a photo, of the index or uploaded, to photos like it and to sentences for it."""

from __future__ import annotations

from fastapi import APIRouter, Depends, File, Form, HTTPException, Query, Request, UploadFile

from han_retrieval.serve.answers import Caption, Captions, Results
from han_retrieval.serve.engine import Engine, Upload
from han_retrieval.serve.limits import Limits
from han_retrieval.serve.metrics import Metrics
from han_retrieval.serve.photo_routes import known_photo
from han_retrieval.serve.search_routes import A_PAGE, filters, told
from han_retrieval.serve.turns import Turns
from han_retrieval.serve.uploads import read_upload


def similar_routes(engine: Engine, turns: Turns, metrics: Metrics, limits: Limits) -> APIRouter:
    """The routes of what is asked with a photo."""
    router = APIRouter(prefix="/api", tags=["by a photo"])
    chosen = filters(limits)

    def read(photo: str | UploadFile) -> int | Upload:
        """The row of an id, or the photo that was sent: decoded in its turn, so that one at a time is in memory."""
        if isinstance(photo, str):
            return known_photo(engine.catalogue, photo)[0]
        return read_upload(photo, max_pixels=limits.upload_pixels)

    def answer(photo: str | UploadFile, first: int, k: int, where: str | None) -> Results:
        like = read(photo)
        piece = engine.similar(like, first=first, count=k, where=where)
        metrics.stages(piece.seconds)
        return told(piece, engine.catalogue, first=first)

    @router.get("/photos/{photo_id}/similar")
    async def similar(
        request: Request,
        photo_id: str,
        k: int = Query(A_PAGE, ge=1, le=limits.results, description="how many photos"),
        first: int = Query(0, ge=0, le=limits.depth, description="from this place on"),
        where: str | None = Depends(chosen),
    ) -> Results:
        """The photos that are most like one of the index, region by region."""
        return await turns.take(request, lambda: answer(photo_id, first, k, where))

    @router.post("/similar")
    async def similar_to_upload(
        request: Request,
        photo: UploadFile = File(description="an image file"),
        k: int = Query(A_PAGE, ge=1, le=limits.results, description="how many photos"),
        first: int = Query(0, ge=0, le=limits.depth, description="from this place on"),
        where: str | None = Depends(chosen),
    ) -> Results:
        """The photos that are most like one that is sent."""
        return await turns.take(request, lambda: answer(photo, first, k, where))

    @router.post("/captions")
    async def captions(
        request: Request,
        sentences: str = Form(description="a sentence a line"),
        photo: UploadFile | None = File(None, description="an image file"),
        id: str | None = Form(None, description="of a photo of the index, in place of a file"),
    ) -> Captions:
        """Which sentences fit a photo best."""
        lines = list(dict.fromkeys(line.strip() for line in sentences.splitlines() if line.strip()))
        if not lines:
            raise HTTPException(422, "sentences: there is none; send one a line")
        if len(lines) > limits.sentences or any(len(line) > limits.query for line in lines):
            raise HTTPException(
                422, f"sentences: at most {limits.sentences}, each of at most {limits.query} characters"
            )
        if (photo is None) == (id is None):
            raise HTTPException(422, "send one photo: a file as 'photo', or the 'id' of one of the index")

        def work() -> Captions:
            ranked = engine.captions(read(photo or id or ""), lines)
            said = {each.caption for each in ranked}
            return Captions(
                captions=[
                    Caption(sentence=each.caption, score=each.score, probability=each.probability) for each in ranked
                ],
                left_out=[line for line in lines if line not in said],
            )

        return await turns.take(request, work)

    return router
