"""The state of the steer page, which is its query:
`?model=storyworld&steer=2-res-topk:266:1.5:add&prompt=Once upon a time&seeds=2`.

`steer` and `prompt` can be there several times. app/web/static/steer.js writes the same query.
"""

from typing import Annotated
from urllib.parse import urlencode

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from starlette.datastructures import QueryParams

from app.api.limits import at_most
from app.api.sweep import MOST_STRENGTHS
from app.api.validation import explain
from app.contract.ids import INDEX_MAX, Id
from app.contract.steering import Method
from app.settings import Settings
from app.web.numbers import plain

PROMPT = "Once upon a time"
MOST_PROMPTS, MOST_SEEDS = 8, 8
LONGEST = 4_000
"""Characters of a prompt."""
LONGEST_ADDRESS = 60_000
"""Characters of the query: the server's parser refuses addresses from 65,536 on."""
_FORM = "write SAE:FEATURE:STRENGTH:METHOD, such as 2-res-topk:266:1.5:add"


class Chosen(BaseModel):
    """A feature, and what is done with it."""

    model_config = ConfigDict(allow_inf_nan=False)

    sae: Id
    feature: int = Field(ge=0, le=INDEX_MAX)
    strength: float = 1.0
    method: Method = "add"

    @model_validator(mode="before")
    @classmethod
    def _parts(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        parts = given.split(":")
        if not 2 <= len(parts) <= len(cls.model_fields):
            raise ValueError(_FORM)
        return dict(zip(cls.model_fields, parts, strict=False))

    def __str__(self) -> str:
        return f"{self.sae}:{self.feature}:{plain(self.strength)}:{self.method}"


def _numbers(given: object) -> object:
    return given.split(",") if isinstance(given, str) else given


class SteerQuery(BaseModel):
    """What the page shows."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: Id | None = None
    """None is the first that can be steered."""
    steer: list[Chosen] = []
    prompt: Annotated[
        list[Annotated[str, Field(max_length=LONGEST)]],
        Field(min_length=1, max_length=MOST_PROMPTS),
    ] = [PROMPT]
    seeds: int = Field(default=2, ge=1, le=MOST_SEEDS)
    """Answers to each prompt, where they are drawn."""
    temperature: float = Field(default=0.7, ge=0, le=10)
    tokens: int = Field(default=40, ge=1)
    """New ones of an answer."""
    sweep: int = Field(default=0, ge=0)
    """Place in `steer` of the feature whose strength is swept."""
    strengths: Annotated[
        list[float],
        BeforeValidator(_numbers),
        Field(min_length=1, max_length=MOST_STRENGTHS),
    ] = [-2, -1, 0, 0.5, 1, 1.5, 2, 3]


def asked(params: QueryParams, settings: Settings) -> SteerQuery:
    """What a query asks for. Invalid when it cannot be read, or is more than the settings allow."""
    lists = ("steer", "prompt")
    given = {name: params.getlist(name) if name in lists else params[name] for name in params}
    try:
        query = SteerQuery.model_validate(given)
    except ValidationError as error:
        first = {**error.errors()[0]}
        first["loc"] = ("query", *first["loc"])
        raise explain([first], {"query": SteerQuery}) from None
    limit = settings.max_steering
    at_most("query.steer", len(query.steer), "features", limit, "SAESCOPE_MAX_STEERING")
    limit = settings.max_new_tokens
    if "tokens" not in query.model_fields_set:
        return query.model_copy(update={"tokens": min(query.tokens, limit)})
    at_most("query.tokens", query.tokens, "tokens", limit, "SAESCOPE_MAX_NEW_TOKENS")
    return query


def address(model: str, sae: str, feature: int) -> str:
    """The page with one feature chosen."""
    chosen = Chosen(sae=sae, feature=feature)
    return "/steer?" + urlencode({"model": model, "steer": str(chosen)}, safe=":")
