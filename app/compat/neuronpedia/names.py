"""Fields that several groups of routes take. Fields that Neuronpedia's scripts send besides are left
alone, as Neuronpedia does."""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
)
from pydantic_core import CoreSchema, core_schema

from app.contract.ids import INDEX_MAX, Id
from app.rows.found import Name


@dataclass(frozen=True)
class OrText:
    """Of a number: text is taken for the number that it writes, as Neuronpedia does."""

    pattern: str
    """Of the whole text."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [handler(schema), {"type": "string", "pattern": f"^{self.pattern}$"}]}

    def _checked(self, value: object) -> object:
        # pydantic would take more for a number: true, spaces around digits, digits with underscores.
        is_text = isinstance(value, str)
        if type(value) is bool or (is_text and not re.fullmatch(self.pattern, value)):
            raise ValueError("give a number, or its digits")
        return value


DIGITS = OrText("[0-9]{1,9}")
DECIMAL = OrText(r"-?[0-9]{1,9}(\.[0-9]{1,9})?")
BLANKS = "".join(map(chr, range(0x21)))


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
