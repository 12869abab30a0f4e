"""Numbers and switches of bodies: what a field's schema says is taken, and nothing else."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ValidationError

from app.compat.neuronpedia.activations import FeatureTested
from app.compat.neuronpedia.directions import TokensWanted
from app.compat.neuronpedia.explanations import Search
from app.compat.neuronpedia.features import FeatureWanted, PageWanted
from app.compat.neuronpedia.names import SourceName
from app.compat.neuronpedia.searches import TextSearched, TokensSearched
from app.compat.neuronpedia.steer_bodies import SteerBody, SteerChatBody, SteerFeature
from app.compat.neuronpedia.vectors import NewVector

FIELDS: list[tuple[type[BaseModel], str]] = [
    (SourceName, "index"),
    (FeatureWanted, "maxActsToReturn"),
    (PageWanted, "offset"),
    (Search, "offset"),
    (TextSearched, "sortIndexes"),
    (TextSearched, "numResults"),
    (TextSearched, "ignoreBos"),
    (TokensSearched, "numResults"),
    (TokensSearched, "densityThreshold"),
    (TokensSearched, "ignoreBos"),
    (FeatureTested, "ignoreBos"),
    (TokensWanted, "prependBos"),
    (NewVector, "layerNumber"),
    (NewVector, "vector"),
    (NewVector, "vectorDefaultSteerStrength"),
    (SteerFeature, "strength"),
    (SteerBody, "temperature"),
    (SteerBody, "n_tokens"),
    (SteerBody, "freq_penalty"),
    (SteerBody, "seed"),
    (SteerBody, "strength_multiplier"),
    (SteerBody, "stream"),
    (SteerChatBody, "steer_special_tokens"),
]
# As text no number that is out of bounds: a pattern does not count.
VALUES: list[Any] = [
    0, 1, 1.0, 0.5, 1.5, -1, -0.5, 400, 1e12, True, False, None,
    "1", "01", "0.25", "1.0", "-1.5.", "", " 1", "1 ", "1_0", "+1", "1e0", "0x1", "x", "nan", "inf", "true",
    "١", "1" * 10, "1." + "0" * 21, [], [1], ["1"], [True], [0.5], {},
]  # fmt: skip


@pytest.mark.parametrize(("model", "name"), FIELDS)
def test_what_the_schema_says_is_taken(model: type[BaseModel], name: str) -> None:
    schema = Draft202012Validator(model.model_json_schema()["properties"][name])
    said = [value for value in VALUES if schema.is_valid(value)]
    assert repr([value for value in VALUES if is_taken(model, name, value)]) == repr(said)
    assert 0 < len(said) < len(VALUES)


def is_taken(model: type[BaseModel], name: str, value: object) -> bool:
    """Whether a body may have that value."""
    body = model.model_construct()
    try:
        model.__pydantic_validator__.validate_assignment(body, name, value)
    except ValidationError as error:
        return all(name not in one["loc"] for one in error.errors())
    return True


@pytest.mark.parametrize(("text", "number"), [("7", 7), ("007", 7), ("123456789", 123456789)])
def test_digits_are_the_number(text: str, number: int) -> None:
    assert SourceName(modelId="m", source="s", index=text).index == number  # type: ignore[arg-type]
