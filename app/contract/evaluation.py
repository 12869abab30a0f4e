"""What an evaluation finds, as a worker writes it, an SAE's folder tells it and the API serves it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Told(BaseModel):
    model_config = ConfigDict(
        strict=True, allow_inf_nan=False, json_schema_serialization_defaults_required=True
    )


class MeasuredOn(_Told):
    """The text of an evaluation."""

    source: str = Field(description="Where it came from: a file, `bundled:...`.")
    tokens: int = Field(description="Tokens that were measured; special ones are not.")


class DensityHistogram(_Told):
    """Features by their density, the share of tokens on which they are active."""

    edges: list[float] = Field(
        description="Densities, evenly spaced on a log scale; one more than `counts`."
    )
    counts: list[int] = Field(
        description="Features in each bin; the first has what is rarer, too. Dead features, whose "
        "density is 0, are in none."
    )


class MeanScore(_Told):
    """Mean over concepts of the F1 that the best of each kind reaches."""

    feature: float
    neuron: float = Field(description="The best neuron (`mlp.hook_post`) of all layers.")
    random: float = Field(
        description="The best of as many random directions at the SAE's hook as it has features."
    )
    token: float = Field(description="The best set of token ids: what the token alone tells.")


class ConceptScore(_Told):
    """How well one concept is told. Every rule was chosen on one half of the documents; its F1 is
    that on the other half."""

    concept: str
    contextual: bool = Field(description="Whether the token alone leaves it undecided.")
    feature: int = Field(description="The SAE's best feature.")
    sign: Literal[1, -1] = Field(
        description="1: the concept is called where the feature's activation is at least `threshold`; "
        "-1: where it is at most that."
    )
    threshold: float
    f1: float = Field(description="Of that rule.")
    neuron_f1: float
    random_f1: float
    token_f1: float


class ConceptRecovery(_Told):
    """How well the best feature tells each concept that the text's generator knows, against what a
    neuron, a random direction and the token itself tell, by the same procedure."""

    contextual: MeanScore | None = Field(
        description="Over concepts that the token alone leaves undecided."
    )
    all: MeanScore = Field(description="Over all concepts that occur in the text.")


class Evaluation(_Told):
    """How good an SAE is; null where it was not measured."""

    l0: float | None = Field(default=None, description="Active features a token, mean.")
    explained_variance: float | None = Field(
        default=None, description="Share of the variance at the hook that is reconstructed."
    )
    ce_loss_score: float | None = Field(
        default=None,
        description="Share of the model's loss advantage over ablating the hook that is kept when "
        "the reconstruction takes its place.",
    )
    kl_div_score: float | None = Field(
        default=None,
        description="The same share of the distance between the next token's distributions "
        "(Kullback-Leibler).",
    )
    dead_features: float | None = Field(
        default=None, description="Features that never fired on this text."
    )
    measured_on: MeasuredOn | None = None
    density_histogram: DensityHistogram | None = None
    concept_recovery: ConceptRecovery | None = Field(
        default=None,
        description="Of SAEs of the bundled model, on text of its generator; the SAE's `concepts` "
        "have the table.",
    )


class FullEvaluation(Evaluation):
    """An evaluation with its table of concepts."""

    concepts: list[ConceptScore] = []
