"""Everything of an SAE that is active on some texts."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response

from app.api.state import Use
from app.compat.inference.base import PREFIX, reshaped
from app.compat.inference.checks import check_batch, check_prompts, model_id
from app.compat.inference.errors import DOCUMENTED
from app.compat.inference.examples import SOURCE, shown
from app.compat.inference.requests import ActivationSourceRequest
from app.compat.inference.shapes import ActivationSourceResponse
from app.contract.reading import ActiveRequest

router = APIRouter(prefix=PREFIX, tags=["inference"])
DIGITS = 3


@router.post(
    "/v1/activation/source",
    summary="Get everything that fires on some texts",
    response_model=ActivationSourceResponse,
    responses=DOCUMENTED,
)
async def infer_source(
    request: Request,
    services: Use,
    body: Annotated[ActivationSourceRequest, Body(openapi_examples=shown({"Two texts": SOURCE}))],
) -> Response:
    """All features of an SAE that are active on at most four texts, and where: of each a list of
    [place, activation], rounded to three digits. What is active at the BOS in front is left out.

    More than SAESCOPE_MAX_VALUES activations are refused (413).
    """
    check_batch(body.prompts)
    check_prompts(services.settings, body.prompts)
    model = await model_id(services, body.model)
    ask = services.live.active(ActiveRequest(model=model, texts=body.prompts, sae=body.source))
    return await reshaped(
        request, ask, lambda told: {"results": [_active(one) for one in told["results"]]}
    )


def _active(told: dict[str, Any]) -> dict[str, Any]:
    """From an `ActiveText`; features by where they are first active, then by index."""
    features: dict[str, list[tuple[int, float]]] = {}
    begin = int(told["begins_with_bos"])
    for place, top in enumerate(told["top"][begin:], begin):
        for one in sorted(top, key=lambda one: one["feature"]):
            own = features.setdefault(str(one["feature"]), [])
            own.append((place, round(one["value"], DIGITS)))
    return {"tokens": told["tokens"], "activeFeatures": features}
