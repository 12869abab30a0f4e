"""/docs: Swagger UI from our own files, so that it works offline and under a strict policy; and the
OpenAPI document that it shows."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.responses import FileResponse, HTMLResponse, Response

from app.api.problems import ProblemBody
from app.errors import NotFound

router = APIRouter(include_in_schema=False)

TITLE = "saescope"
SUMMARY = "Gets neurons out of superposition and serves what it finds."
DESCRIPTION = """
A language model's neurons each do several things at once. A sparse autoencoder (SAE) takes its
activations apart into *features* that mean one thing each. saescope trains or loads SAEs,
precomputes the evidence for every feature, and serves

* **lookups**: what a feature fires on, how often, what it promotes (`features`);
* **neurons**: which features a neuron is made of (`neurons`);
* **activations**: which features fire on a text of yours (`live`);
* **search**: the features that a text, a contrast of texts or a direction finds (`live`);
* **steering**: what the model writes when a feature is turned up, down or out (`live`);
* **OpenAI's clients**: completions and chats, with steering (`openai`);
* **Neuronpedia's clients**: features, explanations, lists, vectors (`neuronpedia`);
* **Neuronpedia's web app**: what it asks its inference servers (`inference`);
* **jobs**: load a model or an SAE, train or evaluate an SAE, compute and verify evidence (`jobs`).

The examples below run on the model that comes with the project, as they are: open one and press
*Execute*.

**Conventions.** Lists come in pages: `limit`, and `cursor` from the last answer's `next_cursor`.
Lookups carry an `ETag`; ask again with `If-None-Match` and get 304 when nothing has changed. Times
are UTC. Activations are lengths of a feature's contribution to the reconstruction. Every error is
a problem (RFC 9457, `application/problem+json`) whose `detail` says in a sentence what was wrong
and what to do.
"""
LICENSE = {"name": "MIT", "identifier": "MIT"}
SERVERS = [{"url": "/", "description": "This service."}]
TAGS = [
    {"name": "models", "description": "Registered language models."},
    {"name": "saes", "description": "Sparse autoencoders of a model, and its neurons."},
    {"name": "features", "description": "Stored evidence, feature by feature."},
    {"name": "neurons", "description": "Neurons, split into the features that they are made of."},
    {"name": "live", "description": "The model at work: activations of new text, steering."},
    {"name": "openai", "description": "The model at work for OpenAI's clients, steered or not."},
    {
        "name": "neuronpedia",
        "description": "Neuronpedia's public API. What belongs to somebody belongs to a key of their "
        "own choice, in `x-api-key`.",
    },
    {"name": "inference", "description": "The model at work for a Neuronpedia web app."},
    {"name": "jobs", "description": "Durable work: load, train, precompute, evaluate, verify."},
    {"name": "service", "description": "Health and metrics."},
]

KEY = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "saescope_{id}_{secret}",
    "description": "A key that `saescope keys create` made. Without any key a service on loopback asks "
    "nobody for one.",
}

_ASSETS = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{TITLE}</title>
<link rel="icon" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
});
"""
_BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
_INT64_MAX = 2**63 - 1
_KEPT = {"Cache-Control": "public, max-age=86400"}


@router.get("/docs")
async def docs() -> Response:
    """Swagger UI."""
    headers = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}
    return HTMLResponse(_PAGE, headers=headers)


@router.get("/docs/start.js")
async def start() -> Response:
    """The script that starts it."""
    return Response(_START, headers=_KEPT, media_type="text/javascript")


@router.get("/docs/{name}")
async def asset(name: str) -> Response:
    """Swagger UI's own files."""
    if name not in _ASSETS:
        raise NotFound(f"/docs has no file {name}.")
    path = Path(str(files("fastapi_swagger.resources") / name))
    return FileResponse(path, headers=_KEPT, media_type=_ASSETS[name])


def operation_id(route: APIRoute) -> str:
    """Handlers' names are the names in generated clients."""
    return route.name


def describe(app: FastAPI) -> None:
    """Make `app.openapi` the document of this API."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        summary=SUMMARY,
        description=DESCRIPTION,
        tags=TAGS,
        routes=app.routes,
        license_info=LICENSE,
        servers=SERVERS,
    )
    document["security"] = [{}, {"key": []}]
    document["components"]["securitySchemes"] = {"key": KEY}
    schemas = document["components"]["schemas"]
    template = "#/components/schemas/{model}"
    problem = ProblemBody.model_json_schema(ref_template=template)
    schemas |= problem.pop("$defs") | {"Problem": problem}
    _make_bounds_whole(document)
    _forget_validation_errors(document)
    return document


def _forget_validation_errors(document: dict[str, Any]) -> None:
    """What FastAPI itself would answer with, and says of every route that does not say it of itself:
    here handlers answer, and on other services' routes with 400."""
    for operation in (one for methods in document["paths"].values() for one in methods.values()):
        content = operation["responses"].get("422", {}).get("content", {})
        if "HTTPValidationError" in str(content.get("application/json")):
            del operation["responses"]["422"]
    for unused in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(unused, None)


def _make_bounds_whole(node: object) -> None:
    """Bounds of integers as integers. FastAPI makes floats of them: 100.0, and 2**63 - 1 becomes a
    larger number."""
    if isinstance(node, list):
        for inner in node:
            _make_bounds_whole(inner)
    if not isinstance(node, dict):
        return
    for inner in node.values():
        _make_bounds_whole(inner)
    if node.get("type") == "integer":
        for name in _BOUNDS & node.keys():
            node[name] = min(int(node[name]), _INT64_MAX)
