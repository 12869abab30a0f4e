"""What requests for steered text have in common: the prompt, the entries, how tokens are drawn."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from app.api.limits import at_most, check_text
from app.contract.body import JsonBody
from app.contract.ids import Id
from app.contract.live import MOST_MESSAGES, Message
from app.contract.steering import SteeringEntry
from app.settings import Settings


class Prompted(JsonBody):
    """A prompt, what to change in the model while it goes on with it, and how tokens are drawn."""

    model: Id
    prompt: str | None = Field(default=None, description="Text to go on with.")
    messages: list[Message] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_MESSAGES,
        description="A conversation instead of `prompt`, for models with a chat template.",
    )
    steering: list[SteeringEntry] = Field(
        default_factory=list,
        description="Applied in this order, each on the result of the one before; at most "
        "SAESCOPE_MAX_STEERING entries (32).",
    )
    max_new_tokens: int = Field(
        default=64, ge=1, description="At most SAESCOPE_MAX_NEW_TOKENS (1,024)."
    )
    temperature: float = Field(
        default=0.0, ge=0, le=10, allow_inf_nan=False, description="0 is greedy."
    )
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=1, le=1_000_000)
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="Same seed, same text.")
    stop: list[Annotated[str, Field(min_length=1, max_length=256)]] = Field(
        default_factory=list, max_length=16, description="The text ends before any of these."
    )

    @model_validator(mode="after")
    def _one_text(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either `prompt` or `messages`")
        return self


def check_limits(settings: Settings, body: Prompted) -> None:
    """Refuse what the settings do not allow."""
    limit = settings.max_new_tokens
    at_most("body.max_new_tokens", body.max_new_tokens, "tokens", limit, "SAESCOPE_MAX_NEW_TOKENS")
    limit = settings.max_steering
    at_most("body.steering", len(body.steering), "entries", limit, "SAESCOPE_MAX_STEERING")
    where = "body.prompt" if body.prompt is not None else "body.messages"
    text = body.prompt or "".join(message.content for message in body.messages or [])
    check_text(settings, where, text)
