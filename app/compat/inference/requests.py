"""What is asked about activations, weights and tokens: Neuronpedia's fields, required where they are."""

from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr

from app.compat.inference.base import WHOLE, Camel, Index, ModelName, Prompts, Source, Vector
from app.contract.ids import INDEX_MAX
from app.contract.live import MOST_MESSAGES

MOST_RESULTS = 1000
MOST_COSINES = 128
MOST_SOURCES = 128
MOST_RAW = 16
HOOK_POINT, RAW_TYPE = "residual_stream", "final_output_token"
MOST_VARIABLES = 2**16
"""Bytes of a chat template's variables."""
_SORTED = "Tokens to add up and sort by, places in `tokens`; empty sorts by the strongest token."
_IGNORE = "Count what is active at BOS as 0."


class _OneFeature(Camel):
    """A feature, or a vector at a hook point."""

    model: ModelName
    source: Source | None = Field(default=None, description="SAE, or neurons; with `index`.")
    index: Annotated[StrictStr, Field(pattern="^[0-9]{1,10}$")] | None = Field(
        default=None, description="Index of the feature, a string; with `source`."
    )
    vector: Vector | None = Field(
        default=None, description="What to take dot products with; with `hook`."
    )
    hook: Annotated[StrictStr, Field(max_length=128)] | None = Field(
        default=None, description="Hook point of `vector`, a TransformerLens name."
    )


class ActivationSingleRequest(_OneFeature):
    """One feature (`source`, `index`) or vector (`vector`, `hook`) on a text."""

    prompt: StrictStr


class ActivationSingleBatchRequest(_OneFeature):
    """The same on several texts."""

    prompts: Prompts


class _Everything(Camel):
    """The features of several SAEs that are most active."""

    model: ModelName
    source_set: StrictStr = Field(
        description="What the SAEs are called behind their layer: `res-topk` for `2-res-topk`."
    )
    selected_sources: list[Source] = Field(
        max_length=MOST_SOURCES, description="SAEs; empty takes all of the set."
    )
    sort_by_token_indexes: list[Annotated[StrictInt, Field(ge=-(2**31), le=INDEX_MAX), WHOLE]] = (
        Field(max_length=2**14, description=_SORTED)
    )
    ignore_bos: StrictBool = Field(description=_IGNORE)
    num_results: Annotated[StrictInt, Field(ge=1), WHOLE] | None = Field(
        default=25, description=f"Features in the answer, {MOST_RESULTS} at most."
    )

    @property
    def limit(self) -> int:
        """Features in the answer."""
        return min(25 if self.num_results is None else self.num_results, MOST_RESULTS)


class ActivationAllRequest(_Everything):
    """What fires on a text, in all SAEs of a set or in some."""

    prompt: StrictStr


class ActivationAllBatchRequest(_Everything):
    """The same for several texts."""

    prompts: Prompts


class _Topk(Camel):
    """The features of an SAE that are most active at each token."""

    model: ModelName
    source: Source
    top_k: Annotated[StrictInt, Field(le=MOST_RESULTS), WHOLE] | None = Field(
        default=None, description="Features at each token; 5 when left out."
    )
    ignore_bos: StrictBool = Field(description="Leave the BOS in front out.")

    @property
    def count(self) -> int:
        """Features at each token."""
        return 5 if self.top_k is None else max(1, self.top_k)


class ActivationTopkByTokenRequest(_Topk):
    """What fires strongest at each token of a text."""

    prompt: StrictStr


class ActivationTopkByTokenBatchRequest(_Topk):
    """The same for several texts."""

    prompts: Prompts


class ActivationSourceRequest(Camel):
    """Everything that fires on some texts, of one SAE."""

    prompts: Prompts
    model: ModelName
    source: Source


class ActivationRawRequest(Camel):
    """The residual stream behind some layers, at the last token of each text."""

    prompts: list[str] = Field(
        description=f"1 to {MOST_RAW} texts.",
        json_schema_extra={"minItems": 1, "maxItems": MOST_RAW},
    )
    layers: list[Annotated[StrictInt, WHOLE]] | None = Field(
        default=None, max_length=1_000, description="All layers when left out or empty."
    )
    model: ModelName | None = Field(
        default=None, description="The only registered model when left out."
    )
    hook_point: str = Field(
        default=HOOK_POINT,
        description="Nothing else is served.",
        json_schema_extra={"const": HOOK_POINT},
    )
    type: str = Field(
        default=RAW_TYPE,
        description="Nothing else is served.",
        json_schema_extra={"const": RAW_TYPE},
    )


class NPFeature(Camel):
    """A feature by its model, SAE and index."""

    model: ModelName
    source: Source
    index: Index


class UtilSaeVectorRequest(NPFeature):
    """The feature whose encoder column is wanted."""


class UtilSaeTopkByDecoderCossimRequest(Camel):
    """Features of `source` that point the way of a feature or of a vector."""

    feature: NPFeature | None = Field(default=None, description="Of the same model.")
    vector: Vector | None = None
    model: ModelName
    source: Source
    num_results: Annotated[StrictInt, WHOLE] = Field(
        description=f"1 to {MOST_COSINES}; others are moved there."
    )

    @property
    def limit(self) -> int:
        """Features in the answer."""
        return max(1, min(self.num_results, MOST_COSINES))


class TokenizeRequest(Camel):
    """A text to cut into tokens."""

    model: ModelName
    text: StrictStr
    prepend_bos: StrictBool | None = Field(
        default=None,
        description="Whether BOS stands in front; as the model wants it when left out.",
    )


class TemplateMessage(Camel):
    """A message for a chat template."""

    role: Annotated[str, Field(max_length=128)]
    content: str
    channel: Annotated[str, Field(max_length=128)] | None = None


def _small(value: dict[str, Any]) -> dict[str, Any]:
    """Raises ValueError for what is too large, or cannot be passed on."""
    try:
        size = len(orjson.dumps(value))
    except orjson.JSONEncodeError as error:
        raise ValueError(f"this cannot be passed on: {error}") from None
    if size > MOST_VARIABLES:
        raise ValueError(f"give at most {MOST_VARIABLES:,} bytes of variables")
    return value


class ApplyChatTemplateRequest(Camel):
    """A conversation to put into the form of a chat template."""

    messages: list[TemplateMessage] = Field(min_length=1, max_length=MOST_MESSAGES)
    model: ModelName | None = Field(
        default=None, description="Not of Neuronpedia's: the only registered model when left out."
    )
    add_generation_prompt: StrictBool = Field(
        default=True, description="Whether what introduces the next answer stands at the end."
    )
    chat_template_kwargs: Annotated[dict[str, Any], AfterValidator(_small)] = Field(
        default_factory=dict,
        description="More variables of the template, such as `enable_thinking`.",
    )
