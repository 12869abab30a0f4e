"""Features found by a text, by what sets texts apart, or by a direction."""

from typing import Annotated

from fastapi import APIRouter, Body, Request, Response
from fastapi.openapi.models import Example

from app.api.disconnect import unless_disconnected
from app.api.limits import at_most, check_text
from app.api.problems import documented
from app.api.state import Use
from app.contract.bundled import BUNDLED_AXIS, BUNDLED_MODEL
from app.contract.search import SearchAnswer, SearchRequest
from app.settings import Settings

router = APIRouter(tags=["live"])

EXAMPLES: dict[str, Example] = {
    "a text": {
        "summary": "What this text is about",
        "value": {
            "model": BUNDLED_MODEL,
            "text": "Ivy was angry because the seal had eaten her lunch.",
            "limit": 5,
        },
    },
    "a contrast": {
        "summary": "What recipes have and stories have not",
        "value": {
            "model": BUNDLED_MODEL,
            "contrast": {
                "positive": [
                    "Recipe for spicy bread. You need butter, pepper, eggs and apples.",
                    "Mix three cups of rice with the milk, then add some water.",
                    "Do not let the salt burn. Cut the nuts and put them into the pie.",
                ],
                "negative": [
                    "There was a clever librarian named Adam, who had nineteen rabbits.",
                    "She felt annoyed that day, for somebody had stolen the bucket.",
                    "Long ago, a pirate called Ivy had a silver net.",
                ],
            },
            "limit": 5,
        },
    },
    "a vector": {
        "summary": "What writes along an axis of the residual stream",
        "value": {
            "model": BUNDLED_MODEL,
            "vector": BUNDLED_AXIS,
            "density_max": 0.1,
            "limit": 5,
        },
    },
}


@router.post(
    "/v1/features/search",
    summary="Find features by a text, a contrast or a vector",
    response_model=SearchAnswer,
    responses=documented(403, 404, 410, 413, 415, 422, 503),
)
async def search_features(
    request: Request,
    services: Use,
    body: Annotated[SearchRequest, Body(openapi_examples=EXAMPLES)],
) -> Response:
    """Find the features that a `text` is about, that a `contrast` of texts turns on, or that point
    where a `vector` points, in several SAEs at once.

    | by | score |
    |---|---|
    | `text` | min(1, strongest activation on it / `max_activation`) × log2(1 / `density`): how close to its own best the feature comes, times the bits of surprise that it is active at all, as tf-idf weighs words |
    | `contrast` | AUROC: the chance that the feature is more active at a positive sample than at a negative one (1 is always, chance 0.5 and less is left out); equal ones by effect size |
    | `vector` | cosine with the feature's direction: what it writes (`decoder`) or reads (`encoder`) |

    Special tokens such as BOS count for nothing in a text or a contrast, and negative activations
    of signed sources (neurons) count as 0. Equal scores are in the order of SAE ids, then indices.
    """
    check_limits(services.settings, body)
    answer = await unless_disconnected(request, services.live.search(body))
    return Response(answer, media_type="application/json")


def check_limits(settings: Settings, body: SearchRequest) -> None:
    """Refuse what the settings do not allow."""
    texts = {"body.text": body.text or ""}
    if body.contrast:
        sides = {"positive": body.contrast.positive, "negative": body.contrast.negative}
        texts = {
            f"body.contrast.{side}.{place}": text
            for side, own in sides.items()
            for place, text in enumerate(own)
        }
    at_most("body.contrast", len(texts), "texts", settings.max_texts, "SAESCOPE_MAX_TEXTS")
    for where, text in texts.items():
        check_text(settings, where, text)
