"""What Neuronpedia's server has and this one has not: a sentence that says why."""

from fastapi import APIRouter

from app.compat.inference.base import PREFIX
from app.errors import NotFound

router = APIRouter(prefix=PREFIX, include_in_schema=False)

UNSERVED = {
    ("POST", "/v1/activation/attention"): "Attention patterns are not served here; features of any "
    "site are, by /v1/activation/all.",
    (
        "POST",
        "/v1/util/similarity-matrix-pred",
    ): "Similarity matrices are of temporal SAEs, which are not served here.",
    (
        "POST",
        "/v1/lens/prompt",
    ): "Lenses are not served here; a feature's logits are in its evidence, "
    "GET /v1/models/{model}/saes/{sae}/features/{index}.",
    ("POST", "/initialize"): "Models are not loaded by this route here: a load job registers one, "
    "POST /v1/jobs, and the first request for it loads it.",
    ("GET", "/v1/steer/health"): "How busy the live worker is, GET /metrics tells.",
}


def _serve(method: str, path: str, reason: str) -> None:
    async def refuse() -> None:
        raise NotFound(reason)

    router.add_api_route(path, refuse, methods=[method])


for (_method, _path), _reason in UNSERVED.items():
    _serve(_method, _path, _reason)
