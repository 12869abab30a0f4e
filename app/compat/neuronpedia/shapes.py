"""Answers about features as the OpenAPI document tells them. Rows have more columns than these: those
of Neuronpedia's tables, and of imported features what their source brought."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

_ROW = ConfigDict(extra="allow")
_NUMBERS = Field(description="One value a token.")


class NpActivation(BaseModel):
    """One example of a feature."""

    model_config = _ROW

    id: str | None
    modelId: str
    layer: str
    source: str = Field(description="The same as `layer`, which Neuronpedia's client asks for.")
    index: str
    tokens: list[str] = Field(description="Display strings.")
    values: list[float] = _NUMBERS
    maxValue: float
    maxValueTokenIndex: int
    minValue: float
    binMin: float | None = Field(description="Where the example's band begins.")
    binMax: float | None
    binContains: float | None = Field(
        description="The band's share of the active texts; null for the strongest examples, of which "
        "`binMin` is -1."
    )


class NpExplanation(BaseModel):
    """A label."""

    model_config = _ROW

    id: str = Field(description="What GET /api/explanation takes.")
    modelId: str
    layer: str
    source: str
    index: str
    description: str | None
    typeName: str | None = Field(description="Null for labels that were made here.")
    explanationModelName: str | None
    authorId: str | None
    scores: list[Any]
    triggeredByUser: None


class NpNeuron(BaseModel):
    """A feature, or a vector."""

    model_config = _ROW

    modelId: str
    layer: str = Field(description="Id of the SAE.")
    index: str
    sourceSetName: str | None
    creatorId: str | None
    createdAt: datetime | None
    hookName: str | None
    maxActApprox: float = Field(description="0 of a dead feature.")
    frac_nonzero: float = Field(description="Share of the corpus' tokens on which it is active.")
    freq_hist_data_bar_heights: list[float]
    freq_hist_data_bar_values: list[float] = Field(description="Middles of the bars.")
    logits_hist_data_bar_heights: list[float]
    logits_hist_data_bar_values: list[float]
    pos_str: list[str] = Field(description="Tokens that it promotes, most first.")
    pos_values: list[float]
    neg_str: list[str] = Field(description="Tokens that it suppresses, most first.")
    neg_values: list[float]
    topkCosSimIndices: list[int] = Field(description="Features that write in a like direction.")
    topkCosSimValues: list[float]
    hasVector: bool = Field(description="Whether `vector` is there: of vectors.")
    vector: list[float]
    vectorLabel: str | None
    vectorDefaultSteerStrength: float | None
    activations: list[NpActivation] = Field(description="Strongest first.")
    explanations: list[NpExplanation]


class NpListRow(BaseModel):
    """A list without its features."""

    id: str
    name: str
    description: str
    defaultTestText: str | None = Field(description="Kept, not run.")
    userId: str = Field(description="Its key's: the beginning of its hash.")
    createdAt: datetime
    updatedAt: datetime


class NpListItem(BaseModel):
    """A feature in a list."""

    modelId: str
    layer: str
    index: str
    listId: str
    description: str
    addedAt: datetime
    userId: str


class NpInList(NpListItem):
    """A list that a feature is in."""

    list: NpListRow


class NpWholeNeuron(NpNeuron):
    """The same with what is around it."""

    model: dict[str, Any] | None = Field(description="Null where a vector's model was deleted.")
    source: dict[str, Any]
    sourceSet: dict[str, Any]
    creator: None
    comments: list[Any] = Field(description="None here.")
    lists: list[NpInList] = Field(description="Lists of the key that asks.")
