"""The server as an ASGI application."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from han_retrieval.errors import HANError
from han_retrieval.search.index import Unreadable
from han_retrieval.serve.answers import Error, Status
from han_retrieval.serve.engine import Engine, NotReady
from han_retrieval.serve.guard import Guard
from han_retrieval.serve.limits import Limits
from han_retrieval.serve.metrics import Metrics, Timed
from han_retrieval.serve.page_routes import page_routes
from han_retrieval.serve.photo_routes import photo_routes
from han_retrieval.serve.search_routes import search_routes
from han_retrieval.serve.similar_routes import similar_routes
from han_retrieval.serve.turns import Turns
from han_retrieval.version import __version__

_log = logging.getLogger(__name__)


def create_app(
    engine: Engine, *, token: str | None = None, loopback_only: bool = True, limits: Limits | None = None
) -> ASGIApp:
    """The server; it closes the engine when it stops.

    Args:
        engine: What answers.
        token: What every request but ``/health`` must show; None where none is asked for.
        loopback_only: Refuse requests that name another host than this machine.
        limits: What one request may ask for.
    """
    limits = limits or Limits()
    metrics = Metrics()
    turns = Turns(engine, metrics, waiting=limits.waiting)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        turns.close()
        engine.close()

    wrong: dict[int | str, dict[str, Any]] = {"4XX": {"model": Error}, 503: {"model": Error}}
    app = FastAPI(
        title="han-retrieval", description="Photos of one's own by sentences, with the evidence for each match.",
        version=__version__, lifespan=lifespan, responses=wrong,
        docs_url=None, redoc_url=None,  # their pages load scripts from other hosts
    )  # fmt: skip
    app.include_router(search_routes(engine, turns, metrics, limits))
    app.include_router(similar_routes(engine, turns, metrics, limits))
    app.include_router(photo_routes(engine, turns, limits))
    app.include_router(page_routes())
    _add_status(app, engine, turns, metrics)
    _add_errors(app)
    return Guard(Timed(app, metrics), token=token, loopback_only=loopback_only, upload_bytes=limits.upload_bytes)


def _add_status(app: FastAPI, engine: Engine, turns: Turns, metrics: Metrics) -> None:
    @app.get("/health")
    async def health() -> Status:
        """Whether the process lives; asked without a token."""
        return Status(status="ok")

    @app.get("/ready")
    async def ready(request: Request) -> Status:
        """Whether it can answer; 503 with the reason where it cannot, or only of an older state of the index."""
        photos = await turns.take(request, lambda: len(engine.catalogue))
        if engine.trouble is not None:
            raise HTTPException(503, engine.trouble)
        return Status(status="ready", photos=photos)

    @app.get("/metrics", response_class=Response)
    async def figures() -> Response:
        """Counts and times for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_errors(app: FastAPI) -> None:
    """Whatever is wrong is told as ``Error``, in one line."""

    def told(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"error": " ".join(message.split())}, status, headers)

    @app.exception_handler(HANError)
    async def ours(_: Request, error: HANError) -> JSONResponse:
        return told(503 if isinstance(error, NotReady | Unreadable) else 422, str(error))

    @app.exception_handler(HTTPException)
    async def of_http(_: Request, error: HTTPException) -> JSONResponse:
        return told(error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def of_fields(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        field = ".".join(str(place) for place in first["loc"][1:])
        return told(422, f"{field}: {first['msg'].removeprefix('Input ')}" if field else first["msg"])

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, __: Exception) -> JSONResponse:
        return told(500, "something went wrong here; the server's log says what")
