"""Features of an SAE: list, one.

One feature is the hot path of the service. Its answer is JSON bytes made from the stored evidence;
`Feature` documents them, and a test holds the two together.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated, Any

import numpy as np
import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import Field
from starlette.convertors import Convertor, register_url_convertor
from starlette.routing import Match, Route
from starlette.types import Scope

from app.api.conditional import LOOKUP, tagged_body, tagged_by_size
from app.api.params import FeatureIndex, ModelId, PageQuery, SaeId
from app.api.problems import documented
from app.api.shapes import Feature, FeatureList
from app.api.state import Use
from app.store import read
from app.store.records import Feature as StoredFeature
from app.store.records import Vocabulary, Windows

router = APIRouter(tags=["features"])


class FeatureQuery(PageQuery):
    """Which features, in which order."""

    sort: read.Sort = Field(default="index", description="What the list is ordered by.")
    order: read.Order = Field(default="asc", description="`desc` is the exact reverse of `asc`.")
    density_min: float | None = Field(default=None, description="Bounds include their ends.")
    density_max: float | None = None
    max_activation_min: float | None = None
    max_activation_max: float | None = None
    q: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="Words, or beginnings of words: finds features that have all of them in their "
        "label or among the tokens that they promote or fire on most.",
    )


@router.get(
    "/v1/models/{model}/saes/{sae}/features",
    summary="List an SAE's features",
    response_model=FeatureList,
    responses=LOOKUP | documented(404, 410, 422, 503),
)
def list_features(
    request: Request,
    services: Use,
    model: ModelId,
    sae: SaeId,
    query: Annotated[FeatureQuery, Query()],
) -> Response:
    """Features in pages: sorted by index, density or strongest activation, within bounds, or found
    by words.

    A cursor belongs to one list of one run. When the evidence was computed anew meanwhile, it is
    answered with 410, and the list is to be started again.
    """
    wanted = query.model_dump()
    ranges = read.Ranges(**{field.name: wanted.pop(field.name) for field in fields(read.Ranges)})
    page = read.features(services.shelf, model, sae, ranges=ranges, **wanted)
    return tagged_body(
        request, orjson.dumps({"items": page.items, "next_cursor": page.next_cursor})
    )


@router.get(
    "/v1/models/{model}/saes/{sae}/features/{index}",
    summary="Look a feature up",
    response_model=Feature,
    responses=LOOKUP | documented(404, 410, 422, 503),
)
async def get_feature(
    request: Request, services: Use, model: ModelId, sae: SaeId, index: FeatureIndex
) -> Response:
    """Everything about one feature: on what it fires (examples by rank), how often (density) and
    how strongly (histogram), which tokens it promotes and suppresses (logits), which features
    write in a similar direction (neighbors), which are active together with it (coactive) and which
    neurons it is like.

    Dead features have an empty history: no examples, a maximum of 0.
    """
    stored, vocabulary = await services.lookups(model, sae, index)
    identity = f"{stored.run_id} {stored.calibration}"
    values = stored.windows.values.size
    return await tagged_by_size(request, identity, lambda: _json(stored, vocabulary), values)


class _Id(Convertor[str]):
    """An id in a path."""

    regex = "[A-Za-z0-9._-]{1,128}"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _Index(Convertor[int]):
    """The index of a feature in a path."""

    regex = "[0-9]{1,9}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("id", _Id())
register_url_convertor("index", _Index())


async def _lookup(request: Request) -> Response:
    return await get_feature(request, request.app.state.services, **request.path_params)


class Named(Route):
    """A route that the metrics know by its path, as they know FastAPI's."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = super().matches(scope)
        return match, {**found, "route": self}


lookup = Named("/v1/models/{model:id}/saes/{sae:id}/features/{index:index}", _lookup)
"""Answers every well-formed lookup in less than half the time that FastAPI takes to come to
`get_feature`, which is what is documented, and which refuses all others."""


def _json(feature: StoredFeature, vocabulary: Vocabulary) -> bytes:
    return orjson.dumps(body_of(feature, vocabulary), option=orjson.OPT_SERIALIZE_NUMPY)


def body_of(feature: StoredFeature, vocabulary: Vocabulary) -> dict[str, Any]:
    """What is answered about a feature."""
    display = vocabulary.display
    return {
        "index": feature.index,
        "label": feature.label,
        "label_kind": feature.label_kind,
        "label_score": feature.label_score,
        "density": feature.density,
        "max_activation": feature.max_activation,
        "mean_activation": feature.mean_activation,
        "min_activation": feature.min_activation,
        "histogram": {
            "edges": _short(feature.histogram_edges),
            "counts": feature.histogram_counts,
        },
        "logits": {
            "top": [{"token": display[t], "value": v} for t, v in feature.top_logits],
            "bottom": [{"token": display[t], "value": v} for t, v in feature.bottom_logits],
            "histogram": {
                "edges": _short(feature.logit_edges),
                "counts": feature.logit_counts,
            },
        },
        "bands": _bands(feature.windows, vocabulary),
        "neighbors": [{"index": i, "cosine": c} for i, c in feature.neighbors],
        "neurons": [{"layer": n, "index": i, "weight": w} for n, i, w in feature.neurons],
        "coactive": [{"index": i, "count": n} for i, n in feature.coactive],
        "calibration": feature.calibration and orjson.Fragment(feature.calibration),
    }


def _short(values: Sequence[float]) -> np.ndarray:
    """Numbers that are float32, to be written with no more digits than they have."""
    return np.array(values, np.float32)


def _bands(windows: Windows, vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """Examples by band. What all windows need is done for all of their tokens at once."""
    bands: dict[str, list[dict[str, Any]]] = {}
    if not len(windows):
        return []
    tokens = windows.cut(vocabulary.shown[windows.token_ids].tolist())
    values = windows.cut(list(windows.values))
    exact: list[bool] = np.all(vocabulary.is_exact[windows.token_ids], axis=1).tolist()
    texts = [
        "".join(tokens[e]) if is_exact else _text(windows, e, vocabulary)
        for e, is_exact in enumerate(exact)
    ]
    columns = zip(
        windows.band, tokens, values, windows.peak, windows.sequence, windows.offset, texts,
        strict=True,
    )  # fmt: skip
    for band, its_tokens, its_values, peak, sequence, offset, text in columns:
        bands.setdefault(band, []).append(
            {
                "tokens": its_tokens,
                "values": its_values,
                "peak": peak,
                "max": its_values[peak],
                "sequence": sequence,
                "offset": offset,
                "text": text,
            }
        )
    return [{"name": name, "examples": examples} for name, examples in bands.items()]


def _text(windows: Windows, e: int, vocabulary: Vocabulary) -> str:
    """Text in which a special token stands, or that begins or ends within a character."""
    token_ids = windows.token_ids[e, : windows.length[e]].tolist()
    return b"".join([vocabulary.raw[token] for token in token_ids]).decode(errors="replace")
