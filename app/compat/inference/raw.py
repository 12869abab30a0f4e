"""The residual stream at the last token."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response

from app.api.state import Services, Use
from app.compat.inference.base import PREFIX, reshaped
from app.compat.inference.checks import check_batch, check_prompts
from app.compat.inference.errors import DOCUMENTED
from app.compat.inference.examples import RAW, shown
from app.compat.inference.names import model_of
from app.compat.inference.requests import HOOK_POINT, MOST_RAW, RAW_TYPE, ActivationRawRequest
from app.compat.inference.shapes import ActivationRawResponse
from app.contract.reading import StatesRequest
from app.errors import Invalid
from app.store.records import ModelRecord

router = APIRouter(prefix=PREFIX, tags=["inference"])
_DIGITS = 4
_SHORT = frozenset({"bfloat16", "float16"})
"""Number formats whose values have no more digits to tell."""


@router.post(
    "/v1/activation/raw",
    summary="Get the residual stream at the last token",
    response_model=ActivationRawResponse,
    responses=DOCUMENTED,
)
async def infer_raw(
    request: Request,
    services: Use,
    body: Annotated[ActivationRawRequest, Body(openapi_examples=shown({"Two layers": RAW}))],
) -> Response:
    """The residual stream behind some layers, or all, at the last token of at most 16 texts."""
    layers, wanted = await asyncio.to_thread(_wanted, services, body)
    ask = services.live.states(wanted)
    return await reshaped(request, ask, lambda told: _raw(told, layers, body))


def _wanted(services: Services, body: ActivationRawRequest) -> tuple[list[int], StatesRequest]:
    for name, given, served in (
        ("hook_point", body.hook_point, HOOK_POINT),
        ("type", body.type, RAW_TYPE),
    ):
        if given != served:
            raise Invalid(f"Unsupported {name} {given[:64]!r}. Only {served!r} is supported.")
    check_batch(body.prompts, MOST_RAW)
    check_prompts(services.settings, body.prompts)
    model = model_of(services.shelf, body.model)
    layers = _layers(body.layers, model)
    hooks = [f"blocks.{layer}.hook_resid_post" for layer in layers]
    return layers, StatesRequest(model=model.id, texts=body.prompts, hooks=hooks)


def _layers(asked: list[int] | None, model: ModelRecord) -> list[int]:
    """Ascending, each once; all when none is asked for."""
    n = model.n_layers
    outside = sorted({layer for layer in asked or () if not 0 <= layer < n})
    if outside:
        raise Invalid(
            f"Layers {outside[:20]} are out of range; this model has {n} layers (0-{n - 1})."
        )
    return sorted(set(asked or range(n)))


def _raw(told: dict[str, Any], layers: list[int], body: ActivationRawRequest) -> dict[str, Any]:
    """From a `StatesAnswer`."""
    digits = _DIGITS if told["dtype"] in _SHORT else None
    results = [
        {
            "tokenStrings": text["tokens"],
            "tokenIds": text["ids"],
            "activations": [
                {
                    "layer": layer,
                    "tokenIndices": [len(text["ids"]) - 1],
                    "values": [_rounded(one["state"], digits)],
                }
                for layer, one in zip(layers, text["states"], strict=True)
            ],
        }
        for text in told["results"]
    ]
    return {
        "hookPoint": body.hook_point,
        "type": body.type,
        "dtype": told["dtype"],
        "device": told["device"],
        "results": results,
    }


def _rounded(values: list[float], digits: int | None) -> list[float]:
    return values if digits is None else [round(value, digits) for value in values]
