"""What is asked about steering: Neuronpedia's fields, required where they are."""

from typing import Annotated, Literal, get_args

from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr

from app.compat.inference.base import WHOLE, Camel, Index, ModelName, Source, Vector
from app.contract.live import MOST_MESSAGES, Message

SteerMethod = Literal["SIMPLE_ADDITIVE", "ORTHOGONAL_DECOMP", "PROJECTION_CAP"]
SteerType = Literal["STEERED", "DEFAULT"]
_LARGEST_SEED = 2.0**63
ROLES = {"model": "assistant", "developer": "system"} | {
    role: role for role in get_args(Message.model_fields["role"].annotation)
}
"""What the live worker calls them."""


class NPSteerFeature(Camel):
    """A feature to steer by."""

    model: ModelName
    source: Source
    index: Index
    strength: StrictFloat = Field(description="Times `strengthMultiplier`.")
    steering_vector: Vector | None = Field(
        default=None, description="Taken in place of the feature's own direction."
    )


class NPSteerVector(Camel):
    """A vector to steer by."""

    steering_vector: Vector
    strength: StrictFloat = Field(description="Times `strengthMultiplier`.")
    hook: Annotated[StrictStr, Field(max_length=128)] = Field(
        description="Hook point, a TransformerLens name."
    )


class NPSteerChatMessage(Camel):
    """A message of a conversation."""

    content: StrictStr
    role: StrictStr = Field(
        description="`model` is the assistant, `developer` the system.",
        json_schema_extra={"enum": [*ROLES]},
    )


class _Steer(Camel):
    """What completions and chats have in common."""

    model: ModelName
    steer_method: SteerMethod = Field(
        description="With c = strength × strengthMultiplier, d the feature's unit decoder row or the "
        "vector's direction, h the state: SIMPLE_ADDITIVE h + c d (a vector as it is, h + c v), "
        "ORTHOGONAL_DECOMP h + (c − 1)(h·d) d, PROJECTION_CAP h − max(0, h·d − c) d."
    )
    normalize_steering: StrictBool = Field(description="Take vectors at length 1.")
    types: list[SteerType] = Field(
        min_length=1, max_length=2, description="Steered text, unsteered text, or both."
    )
    features: list[NPSteerFeature] | None = Field(
        default=None, description="Features, or `vectors`: exactly one of the two."
    )
    vectors: list[NPSteerVector] | None = None
    n_completion_tokens: Annotated[StrictInt, Field(ge=1), WHOLE] = Field(
        description="At most SAESCOPE_MAX_NEW_TOKENS (1,024); fewer where the model has less room."
    )
    temperature: Annotated[StrictFloat, Field(ge=0)] = Field(description="0 is greedy.")
    strength_multiplier: StrictFloat
    freq_penalty: StrictFloat = Field(
        description="Taken from the logit of a token once for each time that the text has it."
    )
    seed: Annotated[StrictFloat, Field(ge=-_LARGEST_SEED, lt=_LARGEST_SEED)] = Field(
        description="Same seed, same text; its whole part counts."
    )
    stream: StrictBool | None = Field(default=False, description="Answer with server-sent events.")
    stream_format: Literal["cumulative", "delta"] = Field(
        default="cumulative",
        description="Not of Neuronpedia's: `cumulative` events have all of the text so far, `delta` "
        "ones what is new.",
    )
    n_logprobs: Annotated[StrictInt, Field(ge=0, le=10), WHOLE] | None = Field(
        default=0, description="Most probable tokens to tell beside every one; 0 tells nothing."
    )


class SteerCompletionRequest(_Steer):
    """A text to go on with."""

    prompt: StrictStr


class SteerCompletionChatRequest(_Steer):
    """A conversation to go on with."""

    prompt: list[NPSteerChatMessage] = Field(min_length=1, max_length=MOST_MESSAGES)
    is_assistant_axis: StrictBool | None = Field(
        default=False,
        description="Not served: leave it out.",
        json_schema_extra={"enum": [False, None]},
    )
    steer_special_tokens: StrictBool = Field(
        description="Whether BOS and other special tokens are steered too."
    )
