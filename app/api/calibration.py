"""What a calibration says; kept with its feature, and part of its lookup."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from app.contract.steering import Positions


class CalibrationRow(BaseModel):
    """One strength, over all prompts."""

    strength: float
    perplexity: float = Field(
        description="Of the steered answers under the unsteered model, all their tokens together."
    )
    ratio: float = Field(description="`perplexity` over `unsteered_perplexity`.")
    kl: float = Field(
        description="KL(steered || unsteered) of the next token's distribution in nats, mean over "
        "the tokens of the answers."
    )
    activation: float = Field(
        description="Of the feature behind the steering, mean over the tokens of the answers."
    )
    text: str = Field(description="The answer to the first prompt.")


class Calibration(BaseModel):
    """How strongly a feature can be steered before the text falls apart."""

    strength: float | None = Field(
        description="The last of `rows` up to which every one keeps `ratio` within "
        "`perplexity_budget`; null when the first does not. In units of the feature's "
        "`max_activation`."
    )
    method: Literal["add", "clamp"]
    positions: Positions
    skip_special_tokens: bool
    perplexity_budget: float
    unsteered_perplexity: float = Field(
        description="Of unsteered answers to the same prompts with the same seeds."
    )
    rows: list[CalibrationRow] = Field(description="In the order of `strengths`.")
    prompts: list[str] = Field(description="Beginnings of texts of the SAE's corpus.")
    max_new_tokens: int
    created_at: datetime
