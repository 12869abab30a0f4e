"""Finding features by a text, by what sets texts apart, or by a direction.

The request goes from the caller through the API to the live worker as it is, and the answer back.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from app.contract.body import JsonBody
from app.contract.ids import Id

Side = Literal["decoder", "encoder"]
Over = Literal["tokens", "texts"]

MOST_SAES = 32
"""SAEs that one request searches."""


class Contrast(JsonBody):
    """Texts that have something, and texts that do not."""

    positive: list[str] = Field(min_length=1, description="Texts that have it.")
    negative: list[str] = Field(min_length=1, description="Texts that do not.")
    over: Over = Field(
        default="tokens",
        description="What is compared: all `tokens` of either side, or `texts`, each by its "
        "strongest token, for what shows in one place of a text.",
    )


class SearchRequest(JsonBody):
    """What to look for, and where: exactly one of `text`, `contrast` and `vector`."""

    model: Id
    saes: list[Id] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_SAES,
        description="SAEs, or layers of neurons, that have evidence. By default all SAEs of the "
        "model that have, without neurons; for a `vector` those that it fits.",
    )
    text: str | None = Field(
        default=None, description="Finds what fires on it, more than usual and rarely elsewhere."
    )
    contrast: Contrast | None = Field(
        default=None,
        description="Finds what fires on one set of texts and not on the other. At most "
        "SAESCOPE_MAX_TEXTS texts (64), both sides together.",
    )
    vector: list[float] | None = Field(
        default=None,
        min_length=1,
        description="Finds what points the same way; as wide as the SAE's hook point.",
    )
    side: Side | None = Field(
        default=None,
        description="With `vector`: whether it is compared with what a feature writes (`decoder`, "
        "the default) or with what it reads (`encoder`).",
    )
    density_min: float | None = Field(
        default=None, ge=0, description="Leaves out what fires on a smaller share of the corpus."
    )
    density_max: float | None = Field(
        default=None, ge=0, description="Leaves out what fires on a larger share of the corpus."
    )
    limit: int = Field(default=20, ge=1, le=100, description="Features in the answer.")

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if sum(one is not None for one in (self.text, self.contrast, self.vector)) != 1:
            raise ValueError("give exactly one of `text`, `contrast` and `vector`")
        if self.side is not None and self.vector is None:
            raise ValueError("`side` goes with `vector`")
        return self


class StrongestToken(BaseModel):
    """Where a feature is most active in some texts."""

    text: int = Field(description="Place of the text in `tokens`.")
    position: int = Field(description="Place of the token in its text.")
    token: str
    value: float


class TextReason(BaseModel):
    """Why a text finds a feature: score = (value / max_activation) x log2(1 / density)."""

    kind: Literal["text"]
    value: float = Field(description="Its strongest activation; special tokens do not count.")
    position: int = Field(description="Where that is, in `tokens`.")
    token: str
    values: list[float] = Field(description="Activation at every token; negative ones as 0.")


class ContrastReason(BaseModel):
    """Why a contrast finds a feature: score = auroc."""

    kind: Literal["contrast"]
    auroc: float = Field(
        description="Chance that it is more active at a positive sample than at a negative one, "
        "equal ones counted half."
    )
    effect_size: float = Field(
        description="(mean_positive - mean_negative) / (s + s0): s is its standard deviation within "
        "the sides, s0 the median of s over the features that are active in these texts."
    )
    mean_positive: float = Field(description="Over all samples of the side, inactive ones as 0.")
    mean_negative: float
    active_positive: float = Field(description="Share of the side's samples on which it is active.")
    active_negative: float
    strongest_positive: StrongestToken
    strongest_negative: StrongestToken | None = Field(
        default=None, description="Null where it is nowhere active."
    )


class VectorReason(BaseModel):
    """Why a vector finds a feature: score = cosine."""

    kind: Literal["vector"]
    side: Side
    cosine: float = Field(description="Of the vector and the feature's direction on that side.")


class FoundFeature(BaseModel):
    """One feature that was found."""

    sae: str
    index: int
    label: str
    density: float = Field(description="Share of the corpus' tokens on which it is active (> 0).")
    max_activation: float = Field(description="Its strongest activation on the corpus.")
    score: float = Field(description="What the features are ranked by; `why` says what it is.")
    why: Annotated[TextReason | ContrastReason | VectorReason, Field(discriminator="kind")]


class SearchAnswer(BaseModel):
    """The features that fit best, best first."""

    tokens: list[list[str]] = Field(
        description="Display strings of each text, special tokens included: the text; or the "
        "positive texts, then the negative ones; empty for a vector."
    )
    features: list[FoundFeature]
