"""POST /complete of a live worker: several choices for several prompts, as OpenAI's clients ask.

Choice p x n + i is the i-th for prompt p. All run as rows of one request, so its caller waits for
its turns like any other, and one that leaves ends them all.
"""

from typing import Literal

from pydantic import Field

from app.contract.live import Drawn, FinishReason, Usage, Wire
from app.contract.steering import Intervention


class CompleteRequest(Drawn):
    prompts: list[str] | list[list[int]] | None = None
    """Texts, or token ids that are taken as they are; exactly one of `prompts` and `messages`."""
    seeds: list[int]
    """One for each choice of a prompt."""
    fit: bool = False
    """Where there is no room for `max_new_tokens`, go on as far as there is."""
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logprobs: int | None = None
    """Tell the log probability of every token, and of so many of the most probable ones beside."""
    interventions: list[Intervention] = Field(default_factory=list)
    unsteered: list[int] = Field(default_factory=list)
    """Places of prompts that the interventions leave alone."""
    stream: bool = False


class LikelyToken(Wire):
    token: str
    """Display string."""
    bytes: list[int]
    """What it stands for; none for special tokens."""
    logprob: float
    """Under the steered model at temperature 1, without penalties."""


class ChosenToken(LikelyToken):
    top: list[LikelyToken]
    """The most probable ones, most probable first."""


class Choice(Wire):
    text: str
    finish_reason: FinishReason
    logprobs: list[ChosenToken] | None = None
    """Of every token that was sampled, those of a stop string and a final EOS included."""


class CompleteAnswer(Wire):
    choices: list[Choice]
    usage: Usage


class CompleteEvent(Wire):
    """One line of a stream: deltas while it runs, then one `done`."""

    event: Literal["delta", "done", "error"]
    choice: int = 0
    text: str = ""
    logprobs: list[ChosenToken] | None = None
    finish_reason: FinishReason | None = None
    """In the last delta of a choice."""
    usage: Usage | None = None
    problem: dict | None = None
