"""Answers as the OpenAPI document tells them; Neuronpedia's fields."""

from typing import Literal

from pydantic import Field

from app.compat.inference.base import Camel
from app.compat.inference.requests import NPFeature


class HealthResponse(Camel):
    """That the process is up."""

    status: Literal["healthy"]


class ActivationValues(Camel):
    """Activation of a feature at every token of `tokens`."""

    values: list[float] = Field(description="0 at BOS, for a feature.")
    max_value: float
    max_value_index: int = Field(description="Its place in `values`, the first of equal ones.")
    dfa_values: None = Field(default=None, description="Always null: not computed here.")
    dfa_max_value: None = None
    dfa_target_index: None = None


class ActivationSingleResponse(Camel):
    """Without the BOS in front, for a feature; for a vector as the tokenizer reads the text."""

    activation: ActivationValues
    tokens: list[str]
    tokens_is_special: list[bool]


class ActivationSingleBatchResponse(Camel):
    """One for each text."""

    results: list[ActivationSingleResponse]


class ActivationAllFeature(Camel):
    """A feature that is active on the text."""

    source: str
    index: int
    values: list[float] = Field(
        description="At every token of `tokens`; 0 at BOS with `ignoreBos`."
    )
    sum_values: float = Field(description="Over `sortByTokenIndexes`; 0 without.")
    max_value: float
    max_value_index: int
    dfa_values: None = Field(default=None, description="Always null: not computed here.")
    dfa_target_index: None = None
    dfa_max_value: None = None


class ActivationAllResponse(Camel):
    """The most active features, strongest first; only those that are active."""

    activations: list[ActivationAllFeature]
    tokens: list[str] = Field(description="BOS included.")
    counts: None = None


class ActivationAllBatchResponse(Camel):
    """One for each text."""

    results: list[ActivationAllResponse]


class ActivationTopkByTokenFeature(Camel):
    """A feature that is active at a token."""

    feature_index: int
    activation_value: float


class ActivationTopkByTokenResult(Camel):
    """What is most active at a token, strongest first; only what is active."""

    token_position: int = Field(description="Place in the text, BOS counted.")
    token: str
    is_special: bool
    top_features: list[ActivationTopkByTokenFeature]


class ActivationTopkByTokenResponse(Camel):
    """One for each token, without BOS with `ignoreBos`."""

    results: list[ActivationTopkByTokenResult]
    tokens: list[str]


class ActivationTopkByTokenBatchResponse(Camel):
    """One for each text."""

    results: list[ActivationTopkByTokenResponse]


class ActivationSourceResult(Camel):
    """What is active on a text."""

    tokens: list[str] = Field(description="BOS included.")
    active_features: dict[str, list[tuple[int, float]]] = Field(
        description="By feature, [place in `tokens`, activation rounded to 3 digits]; not at BOS."
    )


class ActivationSourceResponse(Camel):
    """One for each text."""

    results: list[ActivationSourceResult]


class ActivationRawLayer(Camel):
    """The residual stream behind a layer."""

    layer: int
    token_indices: list[int] = Field(description="The last token's place.")
    values: list[list[float]]


class ActivationRawPromptResult(Camel):
    """A text with its layers."""

    token_strings: list[str]
    token_ids: list[int]
    activations: list[ActivationRawLayer]


class ActivationRawResponse(Camel):
    """One for each text."""

    hook_point: str
    type: str
    dtype: str
    device: str
    results: list[ActivationRawPromptResult]


class UtilSaeVectorResponse(Camel):
    """What a feature reads, in the units of activations."""

    vector: list[float]
    hook_name: str


class UtilSaeTopkByDecoderCossimFeature(Camel):
    """A feature and how alike it is."""

    feature: NPFeature
    cosine_similarity: float


class UtilSaeTopkByDecoderCossimResponse(Camel):
    """The most alike first, the feature itself among its own SAE's."""

    feature: NPFeature | None
    topk_decoder_cossim_features: list[UtilSaeTopkByDecoderCossimFeature]


class TokenizeResponse(Camel):
    """The tokens of a text."""

    tokens: list[int]
    token_strings: list[str]
    prepend_bos: bool = Field(description="Whether BOS was put in front.")


class TokenSpan(Camel):
    """A token of a conversation."""

    position: int
    token_id: int
    token_str: str
    message_index: int | None = Field(description="Null for what introduces the next answer.")
    role: str | None
    channel: str | None
    section: Literal["header", "content", "footer"]


class ApplyChatTemplateResponse(Camel):
    """The conversation as the model reads it."""

    prompt: str
    tokens: list[int]
    spans: list[TokenSpan]
