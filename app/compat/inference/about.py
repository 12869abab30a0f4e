"""What this server is and can do."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from app.api.state import Services, Use
from app.compat.inference.base import PREFIX, as_json
from app.compat.inference.errors import DOCUMENTED, READ_ONLY
from app.compat.inference.names import model_of, models, sets_of
from app.compat.inference.requests import MOST_RESULTS
from app.compat.inference.shapes import HealthResponse
from app.contract.live import MAX_LEN, LiveHealth
from app.errors import NotFound
from app.store.records import ModelRecord

router = APIRouter(prefix=PREFIX, tags=["inference"])


@router.get(
    "/health",
    summary="Tell whether the inference server is up",
    response_model=HealthResponse,
    responses={code: DOCUMENTED[code] for code in (400,)},
)
async def infer_health() -> dict[str, str]:
    """That the process is up, not that a model is loaded; `/readyz` says that. It needs no secret."""
    return {"status": "healthy"}


@router.get(
    "/v1/capabilities",
    summary="Tell what the inference server can do",
    responses=READ_ONLY,
)
async def infer_capabilities(
    services: Use,
    model: Annotated[
        str | None,
        Query(max_length=256, description="Model that is told about; the first one when left out."),
    ] = None,
) -> Response:
    """Limits, sets of SAEs and endpoints, under the names of Neuronpedia's server. That serves one
    model in a process and tells of it; here it is one of `models`, all of which are served."""
    health = await services.live.health()
    return await as_json(lambda: _capabilities(services, health, model))


def _capabilities(services: Services, health: LiveHealth, name: str | None) -> dict[str, Any]:
    there = models(services.shelf)
    if name is None and not there:
        raise NotFound("No model is registered yet; submit a load job (POST /v1/jobs).")
    model = model_of(services.shelf, name) if name is not None else _first(services, there)
    tokens = min(model.context_size, services.settings.max_request_tokens)
    return {
        "model": model.id,
        "models": [one.id for one in there],
        "backend": "saescope",
        "device": health.device,
        "max_concurrent_requests": health.rows,
        "max_tokens": min(model.context_size, MAX_LEN),
        "token_limit": tokens,
        "activation_token_limit": tokens,
        "max_new_tokens": services.settings.max_new_tokens,
        "max_num_results": MOST_RESULTS,
        "capture_points": sorted({_point(hook) for hook in model.hook_points}),
        "grad_support": "none",
        "hooks_available": True,
        "graph_replay": False,
        "static_points": [],
        "static_writes": [],
        "generation_only": False,
        "num_layers": model.n_layers,
        "sae_sets": list(sets_of(services.shelf, model)),
        "endpoints": {
            "tokenize": True,
            "activation_single": True,
            "activation_all": True,
            "activation_source": True,
            "activation_raw": True,
            "activation_topk_by_token": True,
            "activation_attention": False,
            "dfa": False,
            "steer_completion": True,
            "steer_completion_chat": True,
            "lens_logit": False,
            "lens_jacobian": False,
            "neurons": True,
        },
    }


def _first(services: Services, there: list[ModelRecord]) -> ModelRecord:
    """The first that the live worker is to load, else the first by id."""
    by_id = {one.id: one for one in there}
    first = (by_id[name] for name in services.settings.live_models if name in by_id)
    return next(first, there[0])


def _point(hook: str) -> str:
    """`resid_post` for `blocks.3.hook_resid_post`, `mlp_post` for `blocks.3.mlp.hook_post`."""
    return (
        hook.split(".", 2)[2]
        .replace("attn.hook_", "")
        .replace("mlp.hook_", "mlp_")
        .replace("hook_", "")
    )
