"""The API process: routes, guards and services put together.

A request passes HEAD -> slashes of other services -> gzip -> ids, counts, logs and traces -> CORS ->
errors in the caller's shape -> the inference server's secret -> guards -> keys -> limits of bodies ->
its route. All of it is plain ASGI.
"""

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import uvicorn
from fastapi import APIRouter, FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from app import logs, traces
from app.api import (
    activations,
    calibrate,
    catalog,
    curve,
    docs,
    features,
    handlers,
    health,
    jobs,
    metrics,
    models,
    neurons,
    saes,
    search,
    steer,
    sweep,
)
from app.api.access import Access
from app.api.bodies import Bodies
from app.api.conditional import VERSION
from app.api.guards import Guards
from app.api.gzip import FROM_BYTES, Gzip
from app.api.head import HeadAsGet
from app.api.metrics import Metrics
from app.api.state import Services
from app.api.translate import Surface, Translate
from app.compat.inference import routes as inference
from app.compat.inference.errors import SURFACE as INFERENCE
from app.compat.inference.secret import Secret
from app.compat.neuronpedia import routes as neuronpedia
from app.compat.neuronpedia.errors import SURFACE as NEURONPEDIA
from app.compat.openai import routes as openai
from app.compat.openai.errors import SURFACE as OPENAI
from app.compat.slash import Slash
from app.impatient import Impatient
from app.live import Live
from app.observe import HEADER, Observe
from app.secret import shared_token
from app.settings import Settings
from app.store.engine import open_shelf
from app.store.use import using
from app.web import routes as web
from app.web.errors import SURFACE as PAGES

STOP_S = 5
"""Seconds that open requests have when the server stops."""
KEEP_ALIVE_S = 75
"""Seconds that an idle connection stays open: longer than clients and load balancers keep one, so
that none sends a request into a connection that is just being closed."""

ROUTERS: tuple[APIRouter, ...] = (
    models.router,
    saes.router,
    features.router,
    neurons.router,
    activations.router,
    search.router,
    steer.router,
    sweep.router,
    calibrate.router,
    openai.router,
    *neuronpedia.ROUTERS,
    *inference.ROUTERS,
    catalog.router,
    jobs.router,
    curve.router,
    health.router,
    metrics.router,
    docs.router,
    *web.ROUTERS,
)
UNTOLD: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "auto_configure": False,
}
"""FastAPI's own OpenTelemetry would send queries and messages of exceptions, in which texts are."""
SURFACES: tuple[Surface, ...] = (OPENAI, NEURONPEDIA, INFERENCE, PAGES)
"""Requests whose errors have another shape."""


def create_app(settings: Settings) -> FastAPI:
    """The application. The shelf must have been migrated before the first request."""
    live = Live(settings.live_url, shared_token(settings), settings.live_timeout_s)
    shelf = open_shelf(settings.shelf_url, "saescope serve", settings.database_pool)
    services = Services(settings, shelf, live)
    observed = Metrics()
    app = FastAPI(
        title=docs.TITLE,
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        generate_unique_id_function=docs.operation_id,
        telemetry=UNTOLD,
        lifespan=_lifespan,
        middleware=_middleware(services, observed),
    )
    app.state.services, app.state.metrics = services, observed
    app.router.routes += [features.lookup, neuronpedia.LOOKUP]
    for router in ROUTERS:
        app.include_router(router)
    handlers.install(app, ROUTERS)
    docs.describe(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await app.state.services.close()
    await asyncio.to_thread(traces.close)


def _middleware(services: Services, observed: Metrics) -> list[Middleware]:
    """Outermost first."""
    settings = services.settings
    cors = Middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        expose_headers=["ETag", "Location", "Retry-After", HEADER],
        max_age=600,
    )
    secret = settings.inference_secret
    return [
        Middleware(HeadAsGet),
        Middleware(Slash),
        Middleware(Gzip, minimum_size=FROM_BYTES),
        Middleware(Observe, count=observed.count, logs=settings.log_requests),
        *([cors] if settings.cors_origins else []),
        Middleware(Translate, surfaces=SURFACES),
        *([Middleware(Secret, secret=secret.get_secret_value())] if secret else []),
        Middleware(Guards, settings=settings),
        Middleware(Access, keyring=services.keyring, is_loopback=settings.is_loopback),
        Middleware(Bodies, settings=settings),
    ]


def serve(settings: Settings) -> None:
    """Answer HTTP until a signal comes. Open event streams end when the server stops."""
    logs.set_up("api", settings)
    traces.set_up("api")
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    app = create_app(settings)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_S,
            headers=[("X-Content-Type-Options", "nosniff")],
            http=partial(Impatient, patience_s=settings.read_timeout_s),  # pyright: ignore[reportArgumentType]
            ws="none",
        )
    )
    app.state.services.streams.stopping = lambda: server.should_exit
    with using(settings.data_dir):
        server.run()
