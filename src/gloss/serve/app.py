"""The application: Neuronpedia's paths at the root, Gloss's own below /v1, health and metrics,
behind the guard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from gloss import __version__
from gloss.serve.access import Access
from gloss.serve.bodies import Bodies
from gloss.serve.guard import Guard
from gloss.serve.interop import interop_router
from gloss.serve.limits import json_bounds
from gloss.serve.reference import reference_routes
from gloss.serve.replies import handle_errors
from gloss.serve.service import Service
from gloss.serve.telemetry import CONTENT_TYPE
from gloss.serve.v1 import v1_router

HEALTH_PATHS = ("/healthz", "/readyz")
FILE_PATHS = frozenset({"/v1/vectors"})
_OPTIONS: Any = {
    "version": __version__,
    "docs_url": None,
    "redoc_url": None,
    "telemetry": {"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
}


def create_app(service: Service, access: Access) -> FastAPI:
    """The application over a service, which starts and is closed with it, behind the guard."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service.scheduler.start(asyncio.get_running_loop())
        try:
            yield
        finally:
            await asyncio.to_thread(service.scheduler.close)

    app = FastAPI(
        title="NLA Inference Server",
        description=(
            "Natural Language Autoencoder — activation vector <-> text. Gloss's own paths:"
            " /v1/openapi.json."
        ),
        lifespan=lifespan,
        **_OPTIONS,
    )
    own = FastAPI(
        title="Gloss",
        description="Read, check and steer with natural language autoencoders.",
        **_OPTIONS,
    )
    app.include_router(interop_router(service))
    own.include_router(v1_router(service))
    own.router.routes.extend(reference_routes(own))
    for one in (app, own):
        handle_errors(one, service.telemetry)
    _add_health(app, service)
    app.mount("/v1", own)
    widest = max(one.nla.sidecar.d_model for one in service.questions.values())
    app.add_middleware(
        Bodies,
        limits=service.limits,
        json_bounds=json_bounds(widest),
        files=FILE_PATHS,
    )
    app.add_middleware(
        Guard,
        secret=access.secret,
        hosts=access.hosts,
        open_paths={*HEALTH_PATHS, *access.open_paths},
        labels=_labels(app, own),
        telemetry=service.telemetry,
    )
    return app


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> Any:
        return {"status": "ok"}

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> Any:
        ready = service.scheduler.is_ready
        return JSONResponse({"ready": ready}, status_code=200 if ready else 503)

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Any:
        return Response(service.telemetry.text(), media_type=CONTENT_TYPE)


def _labels(app: FastAPI, own: FastAPI) -> dict[str, str]:
    """Paths that metrics distinguish; what is below a path with a parameter counts as that
    path."""
    own_paths = [f"/v1{path}" for path in own.openapi()["paths"]]
    paths = [*app.openapi()["paths"], *HEALTH_PATHS, "/metrics", *own_paths]
    return {path.split("{")[0]: path for path in paths}
