"""Fields that several groups of routes take. Fields that Neuronpedia's scripts send besides are left
alone, as Neuronpedia does."""

from typing import Annotated

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from app.contract.ids import INDEX_MAX, Id
from app.rows.found import Name


def _no_truth(value: object) -> object:
    if type(value) is bool:
        raise ValueError("give a number, or its digits")
    return value


def _storable(value: str) -> str:
    if "\0" in value:
        raise ValueError("a NUL cannot be kept in a text")
    return value


_Whole = Annotated[int, Field(ge=0, le=INDEX_MAX)]
_Digits = Annotated[str, Field(pattern="^[0-9]+$", max_length=10)]
Index = Annotated[
    _Whole,
    BeforeValidator(_no_truth, json_schema_input_type=_Whole | _Digits),
    Field(description="A number, or its digits."),
]
Text = Annotated[str, AfterValidator(_storable)]
"""Text that is kept."""


class Asked(BaseModel):
    """A body."""

    model_config = ConfigDict(allow_inf_nan=False)


class FeatureName(Asked):
    """A feature; `source` is taken for `layer`."""

    modelId: Id = Field(description="Id of a model.")
    layer: Id = Field(
        validation_alias=AliasChoices("layer", "source"),
        description="Id of one of its SAEs, `{layer}-{set}`.",
    )
    index: Index

    @property
    def name(self) -> Name:
        """The same for the shelf."""
        return Name(self.modelId, self.layer, self.index)


class SourceName(Asked):
    """A feature or a vector; `layer` is taken for `source`."""

    modelId: Id = Field(description="Id of a model.")
    source: Id = Field(
        validation_alias=AliasChoices("source", "layer"),
        description="Id of one of its SAEs, or of vectors.",
    )
    index: Index

    @property
    def name(self) -> Name:
        """The same for the shelf."""
        return Name(self.modelId, self.source, self.index)
