"""Requests and answers between the API and a live worker (HTTP on loopback, JSON by orjson).

Every request carries `Authorization: Bearer <token>`. Problems cross as `Problem.body`.

| method, path | request | answer |
|---|---|---|
| GET /health | | LiveHealth |
| POST /activations | ActivationsRequest | ActivationsAnswer |
| POST /steer | SteerRequest | SteerAnswer, or with `stream` newline-delimited SteerEvent lines |
| POST /sweep | SweepRequest | SweepAnswer |
| POST /complete | CompleteRequest | CompleteAnswer, or CompleteEvent lines (`app.contract.complete`) |
| POST /tokenize | TokenizeRequest | TokenizeAnswer |
| POST /search | SearchRequest | SearchAnswer (`app.contract.search`) |
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.contract.steering import Intervention


class Wire(BaseModel):
    """What crosses: the lines under its fields are their descriptions in the API's document."""

    model_config = ConfigDict(use_attribute_docstrings=True)


MODEL_HEADER = "serve-multiplexed-model-id"
"""Header with the model that a request is for: by it Ray Serve finds a replica that has the model."""
MAX_LEN = 8192
"""Tokens of prompt and answer together that a row may have, where the model reads as many."""

MOST_MESSAGES = 256
"""Of a conversation: the template writes something around each, also where it is empty."""

FinishReason = Literal["stop", "length", "cancelled"]


class LiveHealth(Wire):
    """Models in memory, by id, and how busy they are."""

    models: list[str]
    device: str
    running: int = 0
    """Rows that generate now: one an answer, so a request with its baseline takes two; and requests
    whose reports are being made."""
    waiting: int = 0
    """Rows that wait for a place in a batch."""
    rows: int = 0
    """Rows that can generate at once, each model's batch counted."""
    generated: int = 0
    """Tokens generated since the models were loaded."""
    requests: int = 0
    """Requests that it has taken on."""
    tokens: int = 0
    """Tokens of these, read and still to be written."""


class TokenizeRequest(Wire):
    model: str
    text: str
    prepend_bos: bool | None = None
    """None takes the model's own setting."""


class TokenizeAnswer(Wire):
    ids: list[int]
    tokens: list[str]
    begins_with_bos: bool


class ActivationsRequest(Wire):
    model: str
    saes: list[str]
    texts: list[str]
    features: dict[str, list[int]] = Field(default_factory=dict)
    """Features wanted whole, by SAE id; an SAE listed here is not ranked."""
    top_k: int = 8
    """Strongest features per token of every SAE that is not in `features`."""


class TokenFeature(Wire):
    feature: int
    value: float
    """Activation in folded units."""


class SaeActivations(Wire):
    top: list[list[TokenFeature]] | None = None
    """Per token, the strongest active features, strongest first, ties by index."""
    features: dict[int, list[float]] | None = None
    """Per feature asked for, its activation at every token."""


class TextActivations(Wire):
    tokens: list[str]
    saes: dict[str, SaeActivations]


class ActivationsAnswer(Wire):
    results: list[TextActivations]


class Message(Wire):
    model_config = ConfigDict(strict=True)

    role: Literal["system", "user", "assistant"]
    content: str


class Drawn(Wire):
    """A model that goes on with something, and how the next token is drawn."""

    model: str
    messages: list[Message] | None = None
    """A conversation, rendered by the model's chat template."""
    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int | None = None
    seed: int = 0
    stop: list[str] = Field(default_factory=list)


class Prompted(Drawn):
    """One text to go on with: exactly one of `prompt` and `messages`."""

    prompt: str | None = None


class SteerRequest(Prompted):
    interventions: list[Intervention]
    stream: bool = False
    baseline: bool = True
    exact: bool = False
    report: bool = False


class Usage(Wire):
    prompt_tokens: int
    completion_tokens: int


class Timings(Wire):
    """Seconds."""

    queued: float
    first_token: float
    total: float


class SiteReport(Wire):
    """What happened at one hook point, by token of `Report.tokens`."""

    hook: str
    norm_before: list[float]
    """Length of the vector in front of the entries at this site."""
    norm_after: list[float]
    angle: list[float]
    """Between the vector in front and behind, in degrees."""


class FeatureReport(Wire):
    """What a steered feature read, by token of `Report.tokens`."""

    entry: int
    """Place of the entry in `steering`."""
    sae: str
    feature: int
    before: list[float]
    """Activation in front of the entries at its site; folded units."""
    after: list[float]


class Report(Wire):
    """What steering did to a text."""

    tokens: list[str]
    """Of prompt and answer."""
    perplexity: float
    """Of the answer under the steered model, at temperature 1."""
    unsteered_perplexity: float
    """Of the same answer under the unsteered model."""
    kl: list[float]
    """By token of the answer: KL(steered || unsteered) of the distributions that it was drawn from,
    in nats, at temperature 1."""
    sites: list[SiteReport]
    features: list[FeatureReport]


class Completion(Wire):
    text: str
    """The generated text, without the prompt and without the stop string."""
    tokens: list[str]
    """Every token that was sampled, those of a stop string and a final EOS included."""
    finish_reason: FinishReason
    report: Report | None = None
    """Of the steered answer, where it was asked for."""


class SteerAnswer(Wire):
    steered: Completion
    baseline: Completion | None
    usage: Usage
    timings: Timings


class SweepRequest(Prompted):
    interventions: list[Intervention]
    strengths: list[float]
    """An answer for each: every amount times this."""


class FeatureResponse(Wire):
    """What a steered feature read, on average over the tokens of the answer."""

    entry: int = Field(description="Place of the entry in `steering`.")
    sae: str
    feature: int
    before: float = Field(
        description="Activation in front of the entries at its site, in the units of the evidence; "
        "at the tokens of the answer, while `kl` is where each of them was drawn."
    )
    after: float


class SweepRow(Wire):
    """One strength, and what it did."""

    strength: float
    text: str
    tokens: list[str]
    finish_reason: FinishReason
    kl: float = Field(
        description="KL(steered || unsteered) of the next token's distribution in nats, mean over "
        "the tokens of the answer, at temperature 1."
    )
    perplexity: float = Field(
        description="Of the answer under the steered model, at temperature 1."
    )
    unsteered_perplexity: float = Field(
        description="Of the same answer under the unsteered model: how far from its own text it is."
    )
    features: list[FeatureResponse]


class SweepAnswer(Wire):
    """The responses, in the order of `strengths`."""

    rows: list[SweepRow]
    usage: Usage
    timings: Timings


class SteerEvent(Wire):
    """One line of a stream: deltas while it runs, then one `done` with the whole answer."""

    event: Literal["delta", "done", "error"]
    answer: Literal["steered", "baseline"] | None = None
    text: str = ""
    tokens: list[str] = Field(default_factory=list)
    done: SteerAnswer | None = None
    problem: dict | None = None
