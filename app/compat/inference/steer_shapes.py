"""Answers about steering as the OpenAPI document tells them; Neuronpedia's fields."""

from pydantic import Field

from app.compat.inference.base import Camel
from app.compat.inference.steer_requests import NPSteerChatMessage, SteerType


class NPLogprobTop(Camel):
    """A token that could have been drawn."""

    token: str
    logprob: float = Field(description="Under the model as it is steered, at temperature 1.")


class NPLogprob(NPLogprobTop):
    """A token that was drawn."""

    top_logprobs: list[NPLogprobTop]


class NPSteerCompletionOutput(Camel):
    """A text without its prompt; in `delta` events what is new of it."""

    type: SteerType
    output: str
    logprobs: list[NPLogprob] | None = Field(
        default=None, description="Left out with `nLogprobs` 0."
    )


class SteerCompletionResponse(Camel):
    """One for each of `types`, in their order."""

    outputs: list[NPSteerCompletionOutput]


class NPSteerChatInput(Camel):
    """The conversation that was asked about."""

    chat_template: list[NPSteerChatMessage]
    raw: str = Field(description="In the form of the model's chat template.")


class NPSteerChatResult(NPSteerChatInput):
    """The conversation with the answer."""

    type: SteerType
    logprobs: list[NPLogprob] | None = Field(
        default=None, description="Left out with `nLogprobs` 0."
    )


class SteerCompletionChatResponse(Camel):
    """One for each of `types`, in their order."""

    outputs: list[NPSteerChatResult]
    input: NPSteerChatInput
