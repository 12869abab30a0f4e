"""Steering: the entry that a caller writes, and the intervention that the live worker applies.

With d the unit decoder row, c = strength x unit, a the activation here, h the vector at the site:
add h + c d; clamp h + (c - a) d; ablate: clamp to 0; orthogonal h + (strength - 1)(h.d) d;
cap h - max(0, h.d - c) d. Entries at one site apply in the order of the request.
"""

from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator

from app.contract.body import JsonBody
from app.contract.ids import INDEX_MAX, Id

Method = Literal["add", "clamp", "ablate", "orthogonal", "cap"]
Positions = Literal["all", "prompt", "generated"]
Unit = Literal["max_activation", "raw"]


class Condition(JsonBody):
    """Steer only at tokens where a feature is active enough, in front of all entries at the site that
    is steered: what one entry does there does not decide whether the next one acts."""

    sae: Id = Field(description="SAE of `feature`, or a layer's neurons.", examples=["2-res-topk"])
    feature: int = Field(ge=0, le=INDEX_MAX, description="Index of the feature in `sae`.")
    above: float = Field(
        default=0.0,
        description="Its activation at the token must be above this, counted in `unit`.",
    )
    unit: Unit = Field(
        default="max_activation",
        description="`max_activation`: times the feature's own stored maximum; `raw`: as it is.",
    )


class SteeringEntry(JsonBody):
    """One intervention: a feature of an SAE, or a vector at a hook point."""

    sae: Id | None = Field(
        default=None, description="SAE of `feature`, or a layer's neurons.", examples=["2-res-topk"]
    )
    feature: int | None = Field(
        default=None,
        ge=0,
        le=INDEX_MAX,
        description="Index of the feature in `sae`.",
        examples=[12],
    )
    hook: str | None = Field(
        default=None, description="Hook point of `vector`, a TransformerLens name."
    )
    vector: list[float] | None = Field(
        default=None,
        description="What to steer by at `hook`, as many numbers as the site is wide: d_model in the "
        "residual stream. `add` adds it as it is, times the strength; `orthogonal` and `cap` take its "
        "direction.",
    )
    strength: float = Field(default=1.0, description="How much, counted in `unit`.")
    unit: Unit = Field(
        default="max_activation",
        description="`max_activation`: times the feature's own stored maximum; `raw`: as it is.",
    )
    method: Method = Field(default="add", description="What is done to the vector at the site.")
    positions: Positions = Field(default="all", description="Tokens at which it is done.")
    skip_special_tokens: bool = Field(
        default=False, description="Leave BOS and other special tokens as they are."
    )
    when: Condition | None = Field(
        default=None,
        description="Only at tokens where this holds; its SAE must not read behind the site that is "
        "steered.",
    )

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        by_feature = self.sae is not None and self.feature is not None
        by_vector = self.hook is not None and self.vector is not None
        if by_feature == by_vector or (by_vector and (self.sae or self.feature is not None)):
            raise ValueError("give either `sae` and `feature`, or `hook` and `vector`")
        if by_vector and self.method in ("clamp", "ablate"):
            raise ValueError(
                f"`{self.method}` needs a feature; a vector can be added, orthogonal or capped"
            )
        return self


class Gate(BaseModel):
    """A condition with its threshold in folded units."""

    sae: str
    feature: int
    above: float


class Intervention(BaseModel):
    """What the live worker applies: the same entry with its strength in residual units.

    `amount` is c of the module's formulas; for `orthogonal` it is the bare strength.
    """

    sae: str | None = None
    feature: int | None = None
    hook: str | None = None
    vector: list[float] | None = None
    amount: float
    method: Method
    positions: Positions
    skip_special_tokens: bool = False
    when: Gate | None = None

    @property
    def saes(self) -> list[str]:
        """SAEs that it takes."""
        return [one.sae for one in (self, self.when) if one and one.sae]
