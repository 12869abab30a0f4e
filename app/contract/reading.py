"""What other services' clients ask a live worker to read from texts and weights.

| method, path | request | answer |
|---|---|---|
| POST /values | ValuesRequest | ValuesAnswer |
| POST /active | ActiveRequest | ActiveAnswer |
| POST /rank | RankRequest | RankAnswer |
| POST /states | StatesRequest | StatesAnswer |
| POST /direction | DirectionRequest | DirectionAnswer |
| POST /cosines | CosinesRequest | CosinesAnswer |
| POST /render | RenderRequest | RenderAnswer |
"""

from typing import Any, Literal

from pydantic import Field

from app.contract.live import TokenFeature, Wire
from app.contract.search import Side


class Texts(Wire):
    """Texts for one model. BOS is put in front as the SAEs were trained, or as the model says.

    A text that is longer than the model reads, or texts that are too long together, are a problem
    with the fields `tokens` and `limit`.
    """

    model: str
    texts: list[str]


class ReadText(Wire):
    """One text as the model reads it."""

    tokens: list[str]
    """Display strings, BOS included."""
    special: list[bool]
    """Per token, whether it is BOS or another special token."""
    begins_with_bos: bool


class ValuesRequest(Texts):
    """One feature, or one vector at a hook point: exactly one of the two.

    For a vector the texts begin with BOS only where the model's tokenizer itself puts one.
    """

    sae: str | None = None
    feature: int | None = None
    hook: str | None = None
    vector: list[float] | None = None


class TextValues(ReadText):
    values: list[float]
    """Per token: of a feature its activation in folded units, 0 at BOS; of a vector its dot product
    with the state."""


class ValuesAnswer(Wire):
    results: list[TextValues]


class ActiveRequest(Texts):
    sae: str
    top_k: int | None = None
    """Strongest features per token; None for all that are active, which may be more than an answer
    can have: a problem with the fields `values` and `limit`."""


class ActiveText(ReadText):
    top: list[list[TokenFeature]]
    """Per token, what is active there, strongest first, ties by index."""


class ActiveAnswer(Wire):
    results: list[ActiveText]


class RankRequest(Texts):
    """Features of several SAEs by how active they are on each text: at their strongest token, or
    added up over some tokens. Negative activations of signed sources (neurons) count as 0."""

    saes: list[str]
    at: list[int] = Field(default_factory=list)
    """Tokens to add up, places in `ReadText.tokens`, one that is there twice counts twice; empty ranks
    by the strongest token."""
    skip_bos: bool
    """Count what is active at BOS as 0."""
    density_max: float | None = None
    """Leave out features that fire on a larger share of their corpus, and those without evidence."""
    limit: int


class RankedFeature(Wire):
    sae: str
    feature: int
    score: float
    values: list[float]
    """Activation at every token; 0 at BOS with `skip_bos`."""


class RankedText(ReadText):
    features: list[RankedFeature]
    """Highest score first, only scores above 0; ties by the order of `saes`, then by index."""


class RankAnswer(Wire):
    results: list[RankedText]


class StatesRequest(Texts):
    hooks: list[str]
    """Hook points to read."""


class HookState(Wire):
    hook: str
    state: list[float]
    """At the text's last token."""


class TextStates(Wire):
    ids: list[int]
    tokens: list[str]
    states: list[HookState]


class StatesAnswer(Wire):
    dtype: str
    device: str
    results: list[TextStates]


class DirectionRequest(Wire):
    model: str
    sae: str
    feature: int
    side: Side


class DirectionAnswer(Wire):
    hook: str
    """Where the feature reads (encoder) or writes (decoder)."""
    vector: list[float]
    """Decoder: the row at length 1. Encoder: what the activation, in folded units, grows by for each
    unit of the SAE's input along the hook point's axes."""


class CosinesRequest(Wire):
    """Features of `sae` that write in the direction of a feature of another SAE, or of a vector:
    exactly one of `feature` and `vector`."""

    model: str
    sae: str
    of: str | None = None
    """SAE of `feature`."""
    feature: int | None = None
    vector: list[float] | None = None
    limit: int


class Cosine(Wire):
    feature: int
    cosine: float


class CosinesAnswer(Wire):
    features: list[Cosine]
    """Most alike first, ties by index; the feature that was asked about is among its own SAE's."""


class RenderedMessage(Wire):
    """A message as a chat template takes it: which roles there are, the template says."""

    role: str
    content: str
    channel: str | None = None


class RenderRequest(Wire):
    model: str
    messages: list[RenderedMessage]
    generate: bool = True
    """Whether what introduces the next answer stands at the end."""
    options: dict[str, Any] = Field(default_factory=dict)
    """More variables of the template, such as `enable_thinking`."""
    places: bool = False
    """Tell for every token where in the conversation it stands."""


class TokenPlace(Wire):
    """Where a token stands."""

    message: int | None
    """Place of its message; None for what introduces the next answer."""
    section: Literal["header", "content", "footer"]
    """Whether it is of the message itself, or of what the template puts around it."""


class RenderAnswer(Wire):
    text: str
    """The conversation in the form of the model's chat template."""
    ids: list[int]
    tokens: list[str]
    places: list[TokenPlace] | None = None
    """Per token, where they are asked for."""
