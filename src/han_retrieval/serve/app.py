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
from han_retrieval.rounding import rounded
from han_retrieval.search.opened import Unreadable
from han_retrieval.serve.access import AccessControl
from han_retrieval.serve.context import Context
from han_retrieval.serve.limits import Limits
from han_retrieval.serve.metrics import Metrics
from han_retrieval.serve.page_routes import page_routes
from han_retrieval.serve.photo_routes import photo_routes
from han_retrieval.serve.pixels import PixelBudget
from han_retrieval.serve.request_queue import RequestQueue
from han_retrieval.serve.schemas import ErrorResponse, StatusResponse
from han_retrieval.serve.search_routes import search_routes
from han_retrieval.serve.service import NotReady, SearchService
from han_retrieval.version import __version__

_log = logging.getLogger(__name__)


class Answer(JSONResponse):
    """JSON with its numbers rounded as on the command line."""

    def render(self, content: Any) -> bytes:
        """The body of the response."""
        return super().render(rounded(content))


def create_app(
    service: SearchService, *, token: str | None = None, loopback_only: bool = True, limits: Limits | None = None
) -> ASGIApp:
    """The page and the HTTP API of an index, as an ASGI application that closes the service when it stops.

    Args:
        service: The index with its model.
        token: The token that every request but ``/health`` must send; None if requests need none.
        loopback_only: Refuse requests whose Host is not this machine.
        limits: Upper limits of a request.
    """
    limits = limits or Limits()
    metrics = Metrics()
    queue = RequestQueue(service, metrics, waiting=limits.waiting, seconds=limits.seconds)
    context = Context(service, queue, metrics, limits, PixelBudget())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        context.queue.close()
        service.close()

    errors: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorResponse}, 503: {"model": ErrorResponse}}
    app = FastAPI(
        title="han-retrieval",
        description="Search your own photos with sentences, with evidence for each match.",
        version=__version__,
        lifespan=lifespan,
        responses=errors,
        default_response_class=Answer,
        docs_url=None,  # these pages load scripts from other hosts
        redoc_url=None,
    )
    app.include_router(search_routes(context))
    app.include_router(photo_routes(context))
    app.include_router(page_routes())
    _add_status(app, context)
    _add_errors(app)
    metrics.time_requests(app)
    return AccessControl(app, token=token, loopback_only=loopback_only, limits=limits)


def _add_status(app: FastAPI, context: Context) -> None:
    @app.get("/health")
    async def health() -> StatusResponse:
        """Whether the process is running; needs no token."""
        return StatusResponse(status="ok")

    @app.get("/ready")
    async def ready(request: Request) -> StatusResponse:
        """Whether the index can be searched in its newest state; 503 with the reason if not."""
        await context.queue.run(request, context.service.check)
        return StatusResponse(status="ready", photos=len(context.service.catalogue))

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Metrics for Prometheus."""
        return Response(context.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_errors(app: FastAPI) -> None:
    """Turn every exception into an ``ErrorResponse`` of one line."""

    def respond(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"error": " ".join(message.split())}, status, headers)

    @app.exception_handler(HANError)
    async def han_error(_: Request, error: HANError) -> JSONResponse:
        if isinstance(error, NotReady | Unreadable):
            return respond(503, str(error), {"Retry-After": "2"})
        return respond(422, str(error))

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> JSONResponse:
        return respond(error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        field = ".".join(str(place) for place in first["loc"][1:])
        return respond(422, f"{field}: {first['msg'].removeprefix('Input ')}" if field else first["msg"])

    @app.exception_handler(Exception)
    async def unexpected(_: Request, __: Exception) -> JSONResponse:
        return respond(500, "internal error; the server's log has the details")
