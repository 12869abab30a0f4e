"""Answers as the OpenAPI document tells them; OpenAI's fields."""

from typing import Literal

from pydantic import BaseModel, Field

FinishReason = Literal["stop", "length"]


class TokenUsage(BaseModel):
    """Tokens; a prompt counts once, however many choices it has."""

    prompt_tokens: int
    completion_tokens: int = Field(
        description="Every token that was drawn, those of a stop string and a final EOS included."
    )
    total_tokens: int


class _Answer(BaseModel):
    """What both kinds of answer have."""

    id: str
    created: int = Field(description="Unix time.")
    model: str
    system_fingerprint: str = Field(description="Of the model's files.")
    usage: TokenUsage


class TextLogprobs(BaseModel):
    """Of every token that was drawn, those of a stop string and a final EOS included."""

    tokens: list[str]
    token_logprobs: list[float] = Field(
        description="Under the model as it is steered, at temperature 1, without penalties."
    )
    top_logprobs: list[dict[str, float]] = Field(
        description="The most probable tokens, the drawn one always among them."
    )
    text_offset: list[int] = Field(
        description="Where each token begins in the answer, in characters."
    )


class TextChoice(BaseModel):
    """A text without its prompt and without the stop string."""

    index: int = Field(description="Place of the prompt times `n`, plus that of the choice.")
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason


class CompletionAnswer(_Answer):
    """Texts that go on with the prompts."""

    object: Literal["text_completion"]
    choices: list[TextChoice]


class TopLogprob(BaseModel):
    """A token that could have been drawn."""

    token: str
    logprob: float = Field(
        description="Under the model as it is steered, at temperature 1, without penalties."
    )
    bytes: list[int] | None = Field(description="UTF-8 of the token; null for special ones.")


class TokenLogprob(TopLogprob):
    """A token that was drawn."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    """Of every token that was drawn, those of a stop string and a final EOS included."""

    content: list[TokenLogprob]
    refusal: None


class AnsweredMessage(BaseModel):
    """What the model says."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(BaseModel):
    """A message that goes on with the conversation."""

    index: int
    message: AnsweredMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatAnswer(_Answer):
    """Messages that go on with the conversation."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]
