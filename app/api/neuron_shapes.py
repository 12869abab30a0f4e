"""Answers about neurons. Field order is the order on the wire."""

from pydantic import BaseModel, Field

from app.api.shapes import Example, Feature, FeatureRow

_POLYSEMANTICITY = (
    "Effective number of features that it is made of: exp of the entropy of the positive shares, "
    "normalised to 1. It is 1 where one feature is all of it, and m where m features are equal."
)
_UNEXPLAINED = (
    "Variance of what the SAE leaves unexplained over the neuron's own, at the peaks of its "
    "examples; null where it does not vary."
)


class NeuronRow(FeatureRow):
    """One neuron in a list."""

    polysemanticity: float = Field(description=_POLYSEMANTICITY)
    unexplained_variance: float | None = Field(description=_UNEXPLAINED)


class NeuronList(BaseModel):
    """A page of the neurons of one layer."""

    layer: int
    sae: str = Field(description="The SAE that they are split by.")
    items: list[NeuronRow]
    next_cursor: str | None


class SplitFeature(BaseModel):
    """A feature that a neuron is made of."""

    index: int = Field(description="Of the feature in the SAE.")
    label: str
    share: float = Field(
        description="What it adds to the neuron at the peaks of the neuron's examples, over what the "
        "neuron is there: sum of contributions over sum of activations. Negative where it takes away."
    )
    weight: float = Field(
        description="What one unit of its activation adds: the neuron's entry of its decoder row."
    )


class SplitOthers(BaseModel):
    """All other features that are active at the peaks, together."""

    count: int
    share: float


class ExplainedExample(Example):
    """One of the neuron's examples. A text that is both a top example and in a band is here once."""

    band: str
    contribution: float = Field(
        description="What the feature of the group adds at the peak; 0 where none adds anything. "
        "Ablating the feature takes this much from `max`."
    )


class SplitGroup(BaseModel):
    """The examples at whose peaks one feature adds more than any other."""

    feature: SplitFeature | None = Field(description="Null where no feature adds anything.")
    examples: list[ExplainedExample] = Field(description="Strongest bands first.")


class Split(BaseModel):
    """What a neuron is made of. The shares of `features`, `others`, `bias` and `rest` add up to 1."""

    sae: str = Field(description="The SAE whose features these are.")
    polysemanticity: float = Field(description=_POLYSEMANTICITY)
    unexplained_variance: float | None = Field(description=_UNEXPLAINED)
    features: list[SplitFeature] = Field(
        description="Those with the largest shares by magnitude, from the most positive on."
    )
    others: SplitOthers
    bias: float = Field(description="Share of what the SAE adds to every reconstruction.")
    rest: float = Field(description="Share that the SAE leaves unexplained.")
    groups: list[SplitGroup] = Field(description="Those with the most examples first.")


class Neuron(Feature):
    """All evidence of one neuron, and the features that it is made of."""

    layer: int
    split: Split
