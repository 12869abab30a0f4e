"""Answers of the lookups: models, SAEs, features. Field order is the order on the wire."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.api.calibration import Calibration
from app.contract.evaluation import ConceptScore, Evaluation


class Model(BaseModel):
    """A registered language model. `object`, `created` and `owned_by` are OpenAI's fields."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Unix time of registration.")
    owned_by: str
    source: str = Field(description="Where it came from: a folder, a hub id, `bundled:...`.")
    license: str | None = Field(description="Null where unknown.")
    n_layers: int
    d_model: int
    d_mlp: int
    vocab_size: int
    context_size: int = Field(description="Tokens of the longest text.")
    prepend_bos: bool = Field(description="Whether a BOS token is put in front of every text.")
    has_chat_template: bool = Field(description="Whether `messages` can be steered.")
    created_at: datetime


class ModelDetail(Model):
    """A model with the points at which it can be read and steered."""

    fingerprint: str = Field(description="sha256 over weights, configuration and tokenizer.")
    hook_points: dict[str, int] = Field(
        description="Hook points (TransformerLens names) with the width of the vector there."
    )


class ModelList(BaseModel):
    """Models by id. `object` and `data` make it OpenAI's list too; `data` repeats `items`."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    object: Literal["list"] = "list"
    data: list[Model]
    items: list[Model]
    next_cursor: str | None


class Sae(BaseModel):
    """A sparse autoencoder, or a layer's neurons served in the same way."""

    id: str
    model: str
    hook_name: str = Field(description="Where it reads, a TransformerLens name.")
    layer: int
    architecture: str
    d_in: int
    d_sae: int = Field(description="Number of features.")
    status: Literal["registered", "ready"] = Field(
        description="`ready` once the evidence of every feature is served."
    )
    steerable: bool
    steerable_reason: str | None = Field(description="Why it cannot be steered.")
    evaluation: Evaluation
    provenance: dict[str, Any] = Field(
        description="Fingerprints of model, SAE and corpus, settings, the run that is served."
    )
    created_at: datetime


class SaeDetail(Sae):
    """An SAE with how well it tells each concept, where those are known."""

    concepts: list[ConceptScore] = Field(
        description="Empty where no evaluation on text with known concepts was made."
    )


class SaeList(BaseModel):
    """SAEs by id."""

    items: list[Sae]
    next_cursor: str | None


class FeatureRow(BaseModel):
    """One feature in a list."""

    index: int
    label: str
    density: float = Field(
        description="Share of the corpus' tokens on which it is active (> 0); special tokens do not count."
    )
    max_activation: float = Field(description="Its strongest activation; 0 when it never fired.")


class FeatureList(BaseModel):
    """A page of features."""

    items: list[FeatureRow]
    next_cursor: str | None


class Histogram(BaseModel):
    """Counts in bins of equal width."""

    edges: list[float] = Field(description="One more than `counts`.")
    counts: list[int]


class TokenWeight(BaseModel):
    """A token, and the feature's direct effect on its logit."""

    token: str
    value: float = Field(
        description="The feature's direction through the final norm's gain (and centring) and the "
        "unembedding. What the norm divides by depends on the text and is left out, so values compare "
        "with each other and are no logit differences of any text."
    )


class Logits(BaseModel):
    """What the feature writes towards, through the unembedding."""

    top: list[TokenWeight] = Field(description="Most promoted first.")
    bottom: list[TokenWeight] = Field(description="Most suppressed first.")
    histogram: Histogram = Field(description="All tokens of the vocabulary by their logit.")


class Example(BaseModel):
    """A stretch of the corpus on which the feature fires."""

    tokens: list[str] = Field(description="Display strings.")
    values: list[float] = Field(description="Activation at each token.")
    peak: int = Field(description="Position of the maximum in `tokens`.")
    max: float
    sequence: int = Field(description="Sequence of the corpus.")
    offset: int = Field(description="Position of the first token in its sequence.")
    text: str = Field(description="The exact text of the tokens.")


class Band(BaseModel):
    """Examples of a similar rank."""

    name: str = Field(
        description="`top`: the strongest sequences; `q5` to `q1`: from the strongest fifth of "
        "the active sequences to the weakest."
    )
    examples: list[Example]


class Neighbor(BaseModel):
    """A feature of the same SAE that writes in a similar direction."""

    index: int
    cosine: float = Field(description="Cosine of the decoder rows.")


class NeuronWeight(BaseModel):
    """A neuron that the feature is like."""

    layer: int
    index: int
    weight: float = Field(
        description="Of an SAE on `mlp.hook_post` the entry of the decoder row; of one that writes to "
        "the residual stream the cosine with the neuron's output weights."
    )


class Coactive(BaseModel):
    """A feature of the same SAE that is often active on the same tokens."""

    index: int
    count: int = Field(
        description="Tokens on which both are active, of the sample of `coactive_tokens` tokens "
        "that the SAE's provenance names under `statistics`."
    )


class Feature(BaseModel):
    """All evidence of one feature."""

    index: int
    label: str = Field(description="What it fires on and what it promotes; made without a model.")
    label_kind: Literal["neither", "input", "output", "both"] = Field(
        description="Which part of the label tells where the feature is active: the tokens that it "
        "fires on (input), those that it promotes, as the next token (output), both or neither. It "
        "must do so on the text that it was made from and on the tenth that was held out."
    )
    label_score: float | None = Field(
        description="How well the better part does so on a tenth of the corpus held out when the "
        "label was made: balanced accuracy. Chance is 0.5, right everywhere is 1; null where that "
        "says nothing, as the feature is active on no token or on every one, there or in the rest."
    )
    density: float = Field(
        description="Share of the corpus' tokens on which it is active (> 0); special tokens do not count."
    )
    max_activation: float = Field(description="Its strongest activation; 0 when it never fired.")
    mean_activation: float = Field(description="Mean over the tokens on which it is active.")
    min_activation: float = Field(description="Most negative value of a signed source, else 0.")
    histogram: Histogram = Field(description="Active tokens by activation.")
    logits: Logits
    bands: list[Band] = Field(description="`top` first, then from strong to weak.")
    neighbors: list[Neighbor] = Field(description="Nearest first.")
    neurons: list[NeuronWeight] = Field(description="Largest weight first.")
    coactive: list[Coactive] = Field(
        description="Most often first; empty for neurons, which are active half of the time. With a "
        "few thousand active features a token the sample is small, and the lists are noise."
    )
    calibration: Calibration | None = Field(
        description="How strongly it can be steered; null until POST /v1/steer/calibrate."
    )
