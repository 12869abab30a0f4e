"""Numbers that may come as text, as Neuronpedia takes them."""

import re
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True)
class OrText:
    """Of a number: text is taken for the number that it writes."""

    pattern: str
    """Of the whole text."""
    says: str = "give a number, or its digits"
    """Of other text, and of true and false."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [handler(schema), {"type": "string", "pattern": f"^({self.pattern})$"}]}

    def _checked(self, value: object) -> object:
        # pydantic takes more for a number: true, spaces around digits, underscores between them.
        if type(value) is bool or (
            isinstance(value, str) and not re.fullmatch(self.pattern, value)
        ):
            raise ValueError(self.says)
        return value


DIGITS = OrText("[0-9]{1,9}", "give a number, or its digits, 9 at most")
DECIMAL = OrText(r"-?[0-9]{1,9}(\.[0-9]{1,20})?")
