"""What is asked, with OpenAI's names and defaults. null is the same as left out."""

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from app.compat.openai.fields import MOST_STOPS, PROMPT_FORMS, Content, Prompt, Stop
from app.compat.openai.unserved import describe_unserved
from app.contract.body import JsonBody
from app.contract.live import MOST_MESSAGES
from app.contract.steering import SteeringEntry

MOST_CHOICES = 64
"""Choices of one request, of all its prompts."""
DEFAULT_TOKENS = 16
"""Of a completion that does not say how many it wants, as of OpenAI's."""
MOST_TOP = 20


class StreamOptions(JsonBody):
    """What a stream has besides the text."""

    model_config = ConfigDict(extra="ignore")

    include_usage: bool | None = Field(
        default=False, description="Send one more chunk in front of the end, with the usage."
    )


class Asked(JsonBody):
    """What both routes take. Fields of OpenAI's that change no answer are taken and left alone,
    others are refused."""

    model_config = ConfigDict(extra="allow", json_schema_extra=describe_unserved)

    model: str = Field(description="Id of a registered model.")
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = Field(
        default=1,
        description="Choices for a prompt. The first draws by `seed`, the others by seeds that are "
        f"made from it. At most {MOST_CHOICES} for all prompts together.",
    )
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        default=1.0, description="0 is greedy."
    )
    top_p: Annotated[float, Field(gt=0, le=1)] | None = Field(default=1.0)
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = Field(
        default=0.0, description="Taken from the logit of a token that the answer has already."
    )
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = Field(
        default=0.0, description="The same, once for each time."
    )
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = Field(
        default=None, description="Same seed, same text; a new one each time when left out."
    )
    stop: Stop = Field(
        default_factory=list,
        description=f"The text ends before any of these: a string, or at most {MOST_STOPS}.",
    )
    stream: bool | None = Field(
        default=False, description="Answer with server-sent events, `data: [DONE]` last."
    )
    stream_options: StreamOptions | None = Field(default=None)
    steering: list[SteeringEntry] | None = Field(
        default=None,
        description="What to change in the model, as on `/v1/steer`; `extra_body` in OpenAI's own "
        "client.",
    )


class CompletionRequest(Asked):
    """Texts to go on with."""

    prompt: Prompt = Field(
        description=f"What to go on with: {PROMPT_FORMS}. Texts get a BOS where the model wants one, token "
        "ids are taken as they are.",
    )
    max_tokens: Annotated[int, Field(ge=1)] | None = Field(
        default=DEFAULT_TOKENS, description="At most SAESCOPE_MAX_NEW_TOKENS (1,024)."
    )
    logprobs: Annotated[int, Field(ge=0, le=MOST_TOP)] | None = Field(
        default=None,
        description="Tell the log probability of every drawn token, and of so many of the most "
        "probable ones.",
    )

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """As a list of prompts."""
        given: Any = self.prompt
        several = isinstance(given, list) and not isinstance(given[0], int)
        return given if several else [given]


class ChatMessage(JsonBody):
    """One message: text only."""

    model_config = ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant"] = Field(
        description="`developer` is the same as `system`."
    )
    content: Content = Field(description="A text, or parts of one.")


class ChatRequest(Asked):
    """A conversation to go on with."""

    messages: list[ChatMessage] = Field(
        min_length=1,
        max_length=MOST_MESSAGES,
        description="Rendered by the model's own chat template.",
    )
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="At most SAESCOPE_MAX_NEW_TOKENS (1,024); as many as the model has room for when "
        "left out.",
    )
    max_tokens: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="The older name of `max_completion_tokens`."
    )
    logprobs: bool | None = Field(
        default=False, description="Tell the log probability of every drawn token."
    )
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_TOP)] | None = Field(
        default=None, description="And of so many of the most probable ones."
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        given = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(given) > 1:
            raise ValueError("`max_tokens` is the older name of `max_completion_tokens`; give one")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("`top_logprobs` needs `logprobs: true`")
        return self
