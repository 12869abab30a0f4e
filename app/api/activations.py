"""Which features fire on new text."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response
from fastapi.openapi.models import Example
from pydantic import BeforeValidator, Field

from app.api.disconnect import unless_disconnected
from app.api.limits import at_most, check_text
from app.api.problems import documented
from app.api.state import Use
from app.contract import live as wire
from app.contract.body import JsonBody, whole
from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from app.contract.ids import INDEX_MAX, Id

router = APIRouter(tags=["live"])

EXAMPLES: dict[str, Example] = {
    "strongest features": {
        "summary": "The strongest features at every token",
        "value": {
            "model": BUNDLED_MODEL,
            "saes": [BUNDLED_SAES[0]],
            "texts": ["The old sailor was happy to see the lighthouse."],
            "top_k": 3,
        },
    },
    "chosen features": {
        "summary": "Two features at every token of two texts",
        "value": {
            "model": BUNDLED_MODEL,
            "saes": [BUNDLED_SAES[0]],
            "texts": ["Two cups of flour and one egg.", "The storm came at night."],
            "features": {BUNDLED_SAES[0]: [12, 40]},
        },
    },
}
Indices = Annotated[
    list[Annotated[int, Field(ge=0, le=INDEX_MAX), BeforeValidator(whole)]],
    Field(min_length=1, max_length=1_000),
]


def _by_id(schema: dict[str, Any]) -> None:
    # pydantic tells what names of the pattern have, and lets other names have anything.
    ((pattern, values),) = schema.pop("patternProperties").items()
    schema["propertyNames"]["pattern"] = pattern
    schema["additionalProperties"] = values


class ActivationsRequest(JsonBody):
    """Texts, and the SAEs to read them with."""

    model: Id
    saes: list[Id] = Field(min_length=1, max_length=32, description="SAEs of the model.")
    texts: list[str] = Field(
        min_length=1,
        description="At most SAESCOPE_MAX_TEXTS texts (64) of SAESCOPE_MAX_TEXT_CHARS characters "
        "(50,000), together SAESCOPE_MAX_REQUEST_TOKENS tokens (16,384). Tokens times features "
        "asked for, or `top_k`, of all SAEs together may be SAESCOPE_MAX_VALUES (4,194,304).",
    )
    features: dict[Id, Indices] = Field(
        default_factory=dict,
        description="By SAE, the features wanted at every token; such an SAE is not ranked.",
        json_schema_extra=_by_id,
    )
    top_k: int = Field(
        default=8, ge=1, le=256, description="Strongest features per token of the other SAEs."
    )


@router.post(
    "/v1/activations",
    summary="See which features fire on a text",
    response_model=wire.ActivationsAnswer,
    responses=documented(403, 404, 413, 415, 422, 503),
)
async def get_activations(
    request: Request,
    services: Use,
    body: Annotated[ActivationsRequest, Body(openapi_examples=EXAMPLES)],
) -> Response:
    """Run texts through the model and answer, for every SAE asked for, either the `top_k`
    strongest features at each token, or the activation of chosen `features` at each token.

    Values are in the units of the stored evidence: the length of the feature's contribution to
    the reconstruction. `tokens` are display strings, special tokens such as BOS included.
    """
    settings = services.settings
    at_most("body.texts", len(body.texts), "texts", settings.max_texts, "SAESCOPE_MAX_TEXTS")
    for place, text in enumerate(body.texts):
        check_text(settings, f"body.texts.{place}", text)
    wanted = wire.ActivationsRequest(**body.model_dump())
    answer = await unless_disconnected(request, services.live.activations(wanted))
    return Response(answer, media_type="application/json")
