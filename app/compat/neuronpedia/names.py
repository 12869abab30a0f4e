"""Fields that several groups of routes take. Fields that Neuronpedia's scripts send besides are left
alone, as Neuronpedia does."""

from typing import Annotated

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field

from app.compat.neuronpedia.digits import DIGITS
from app.contract.ids import INDEX_MAX, Id
from app.rows.found import Name

BLANKS = "".join(map(chr, range(0x21)))
"""Spaces, line ends and the like: no name is made of them alone."""


def _storable(value: str) -> str:
    if "\0" in value:
        raise ValueError("a NUL cannot be kept in a text")
    return value


def _named(value: str) -> str:
    if not value.strip(BLANKS):
        raise ValueError("give more than blanks")
    return value


Index = Annotated[
    int, Field(ge=0, le=INDEX_MAX), DIGITS, Field(description="A number, or its digits.")
]
Text = Annotated[
    str, AfterValidator(_storable), Field(json_schema_extra={"pattern": r"^[^\x00]*$"})
]
"""Text that is kept."""
Title = Annotated[
    Text,
    Field(max_length=200, json_schema_extra={"pattern": r"^[^\x00]*[^\x00-\x20][^\x00]*$"}),
    AfterValidator(_named),
]
"""What something is called."""


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
