"""The FastAPI application of a service: the API, health, figures and documentation, behind the guards."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response

from selfalign import __version__
from selfalign.chat.server.api import Api
from selfalign.chat.server.documents import add_schemas
from selfalign.chat.server.errors import Refused, error_response
from selfalign.chat.server.guards import Body, Key, Rate
from selfalign.chat.server.logs import Observe
from selfalign.chat.server.service import Service
from selfalign.chat.server.settings import Settings
from selfalign.chat.server.streams import ClientGone
from selfalign.errors import EngineFailed, UserError

if TYPE_CHECKING:
    from fastapi import FastAPI

logger = logging.getLogger(__name__)

GONE = 499
"""The status that nginx logs where the client closed the connection before the answer."""


def create_app(service: Service, settings: Settings | None = None) -> FastAPI:
    """The application, which starts the service and closes it. The page is mounted by who wants one."""
    from fastapi_offline import FastAPIOffline

    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.close()

    # FastAPI's own /docs has the reader's browser fetch its scripts from another host.
    app: FastAPI = FastAPIOffline(title="selfalign", version=__version__, lifespan=lifespan, redoc_url=None)
    Api(service, settings).mount(app)
    mount_health(app, service)
    mount_nothing(app)
    tell_faults(app)
    add_schemas(app)
    put_guards(app, service, settings)
    return app


def mount_health(app: FastAPI, service: Service) -> None:
    """/healthz, /readyz and /metrics."""

    async def healthz() -> JSONResponse:
        """The process answers."""
        return JSONResponse({"status": "ok"})

    async def readyz() -> JSONResponse:
        """200 where a request would be worked on, else 503."""
        ready = service.ready()
        return JSONResponse({"status": "ready" if ready else "not ready"}, 200 if ready else 503)

    async def metrics() -> Response:
        """Figures for Prometheus."""
        return PlainTextResponse(service.metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    for endpoint in (healthz, readyz, metrics):
        app.add_api_route(f"/{endpoint.__name__}", endpoint, methods=["GET"], summary=endpoint.__doc__)


def mount_nothing(app: FastAPI) -> None:
    """What else stands under /v1 is an error in OpenAI's form, and no page."""

    async def nothing(request: HttpRequest, rest: str) -> Response:
        raise Refused(f"there is no {request.method} /v1/{rest[:100]}", "see /docs", 404)

    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    app.add_api_route("/v1/{rest:path}", nothing, methods=methods, include_in_schema=False)


def tell_faults(app: FastAPI) -> None:
    """Every fault in OpenAI's form; one of ours keeps its traceback in the log."""
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException

    async def told(request: HttpRequest, fault: Exception) -> Response:
        match fault:
            case UserError():
                return error_response(fault)
            case HTTPException():
                return error_response(Refused(str(fault.detail), "see /docs", fault.status_code))
            case RequestValidationError():
                return error_response(Refused(str(fault.errors()[0]["msg"]), "see /docs"))
            case ClientGone():
                return Response(status_code=GONE)
        logger.error("a request failed", exc_info=fault)
        return error_response(EngineFailed("the server failed; its log says why"))

    for kind in (UserError, HTTPException, RequestValidationError, ClientGone, Exception):
        app.add_exception_handler(kind, told)


def put_guards(app: FastAPI, service: Service, settings: Settings) -> None:
    """The last one added is asked first."""
    from starlette.middleware.cors import CORSMiddleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app.add_middleware(Body, most=settings.max_body, seconds=settings.body_seconds)
    if settings.rate or settings.total_rate:
        app.add_middleware(Rate, rate=settings.rate, total=settings.total_rate)
    if settings.api_key:
        app.add_middleware(Key, key=settings.api_key)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(settings.origins), allow_methods=["*"], allow_headers=["*"]
        )
    if settings.hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(settings.hosts), www_redirect=False)
    app.add_middleware(Observe, metrics=service.metrics)
