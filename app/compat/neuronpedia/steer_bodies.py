"""What is asked of steered text. Defaults and limits are Neuronpedia's; numbers may come as
digits."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StrictBool

from app.compat.neuronpedia.digits import DECIMAL, DIGITS
from app.compat.neuronpedia.names import Asked, FeatureName
from app.contract.ids import Id
from app.contract.steering import Method

MOST_PROMPT = 2_048
"""Characters of a prompt, or of all messages of a conversation."""
MOST_TOKENS = 256
METHODS: dict[str, Method] = {
    "SIMPLE_ADDITIVE": "add",
    "ORTHOGONAL_DECOMP": "orthogonal",
    "PROJECTION_CAP": "cap",
}


class SteerFeature(FeatureName):
    """A feature or a vector, and by how much."""

    strength: Annotated[float, DECIMAL] = Field(
        description="Times `strength_multiplier`; activations are counted raw."
    )


class SteerAsked(Asked):
    """How to steer, and how to draw."""

    modelId: Id
    features: list[SteerFeature] = Field(
        description="Features, or vectors, not both; with none the answer is the default one only."
    )
    temperature: Annotated[float, Field(ge=0, le=2), DECIMAL]
    n_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS), DIGITS] = Field(description="New tokens.")
    freq_penalty: Annotated[float, Field(ge=-2, le=2), DECIMAL] = Field(
        default=1.0, description="Taken from a token's logit for each time it was drawn."
    )
    seed: Annotated[float, Field(ge=-1e8, le=1e8), DECIMAL]
    strength_multiplier: Annotated[float, Field(ge=0, le=10), DECIMAL]
    stream: StrictBool = False
    steer_method: Literal["SIMPLE_ADDITIVE", "ORTHOGONAL_DECOMP", "PROJECTION_CAP"] = (
        "SIMPLE_ADDITIVE"
    )


class SteerBody(SteerAsked):
    """A text to go on with."""

    prompt: str = Field(min_length=1, max_length=MOST_PROMPT)


class NpChatMessage(BaseModel):
    """A message of a conversation."""

    role: Literal["user", "assistant", "system", "model", "developer"]
    content: str


Messages = Annotated[list[NpChatMessage], Field(min_length=1, max_length=256)]


class SteerChatBody(SteerAsked):
    """Two conversations to go on with, most often the same."""

    defaultChatMessages: Messages
    steeredChatMessages: Messages
    steer_special_tokens: StrictBool = Field(
        description="Steer at special tokens too, such as those around the messages."
    )
    isAssistantAxis: StrictBool = Field(
        default=False, description="Only false is served.", json_schema_extra={"const": False}
    )


class NpTopLogprob(BaseModel):
    """A token that could have been drawn."""

    token: str
    logprob: float


class NpLogprob(NpTopLogprob):
    """A token that was drawn."""

    topLogprobs: list[NpTopLogprob]


class NpSteered(BaseModel):
    """Both answers, without the prompt. In a stream, both so far."""

    STEERED: str | None
    DEFAULT: str | None
    steeredLogProbs: list[NpLogprob] | None
    defaultLogProbs: list[NpLogprob] | None
    id: None = Field(description="Answers are not kept: the same seed gives the same text.")
    shareUrl: None
    limit: None


class NpConversation(BaseModel):
    """A conversation with its answer."""

    raw: str = Field(description="In the form of the model's chat template.")
    chatTemplate: list[NpChatMessage]
    logprobs: list[NpLogprob] | None


class NpSteeredChat(BaseModel):
    """Both conversations with their answers. In a stream, both so far."""

    STEERED: NpConversation | None
    DEFAULT: NpConversation | None
    id: None
    shareUrl: None
    limit: None
    settings: dict[str, float | int | bool | str]
