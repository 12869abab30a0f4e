"""Lists of features. They belong to the key that made them; whoever knows a list's id may read it."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Response
from pydantic import AliasChoices, Field

from app.api.state import Services, Use
from app.compat.neuronpedia.answer import json, packed
from app.compat.neuronpedia.errors import ASKS, CHANGES
from app.compat.neuronpedia.features import EXAMPLE
from app.compat.neuronpedia.keys import KEYED, Owner, shown
from app.compat.neuronpedia.names import BLANKS, Asked, FeatureName, Text, Title
from app.compat.neuronpedia.owned import item_row, list_row
from app.compat.neuronpedia.reading import Wanted, refuse_unknown, rows_of
from app.compat.neuronpedia.shapes import NpListItem, NpListRow, NpNeuron
from app.rows.found import Name
from app.rows.page import Row
from app.store import lists
from app.store.lists import MOST_ITEMS, FeatureList, ItemName

router = APIRouter(tags=["neuronpedia"])

ACTIVATIONS = 3
"""Of each feature in a list."""
MOST_ADDED = 100
"""Features of one request."""
ListId = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9]+$")]
Description = Annotated[Text, Field(max_length=2_000)]
TestText = Annotated[Text, Field(min_length=1, max_length=500)]


class NpNewList(NpListRow):
    """A list that was made."""

    url: None = Field(description="A list has no page here; `list/get` reads it.")


class NpListedFeature(NpListItem):
    """A feature in a list, as it is at this moment."""

    neuron: NpNeuron | None = Field(
        description="With its three strongest activations; null when its SAE is no longer here."
    )


class NpList(NpListRow):
    """A list with its features."""

    neurons: list[NpListedFeature] = Field(description="In the order in which they were added.")
    activations: list[Any] = Field(description="None: test texts are not run here.")
    user: dict[str, str]


class ListWanted(Asked):
    """A list."""

    listId: ListId


class NewList(Asked):
    """A list to make."""

    name: Title
    description: Description | None = ""
    testText: TestText | None = Field(default=None, description="Kept, not run.")


class ItemToAdd(FeatureName):
    """A feature for a list."""

    description: Description | None = ""


class NewListWithFeatures(NewList):
    """A list to make with what is in it."""

    features: list[ItemToAdd] = Field(max_length=MOST_ITEMS)


class ItemsToAdd(ListWanted):
    """Features for a list."""

    featuresToAdd: list[ItemToAdd] = Field(max_length=MOST_ADDED)


class ListChange(ListWanted):
    """What a list shall be called."""

    name: Title
    description: Description | None = ""
    defaultTestText: TestText | None = Field(
        default=None, validation_alias=AliasChoices("defaultTestText", "testText")
    )


class ItemWanted(FeatureName):
    """A feature in a list."""

    listId: ListId


class ItemChange(ItemWanted):
    """What shall be said of a feature in a list."""

    description: Description


_NEW = {"name": "Laughter", "description": "What fires on joy", "features": [EXAMPLE]}
_LIST = {"listId": "yourlist"}
_OTHER = {**EXAMPLE, "index": 12}


def _example(summary: str, **value: object) -> Any:
    return Body(openapi_examples={"yours": {"summary": summary, "value": {**_LIST, **value}}})


@router.post(
    "/api/list/new",
    summary="Make a list, as Neuronpedia's clients ask",
    response_model=NpNewList,
    responses=CHANGES,
    openapi_extra=KEYED,
)
def np_new_list(
    services: Use,
    owner: Owner,
    wanted: Annotated[
        NewList,
        Body(
            openapi_examples={
                "empty": {"summary": "An empty list", "value": {"name": "Laughter"}},
            }
        ),
    ],
) -> Response:
    """Make an empty list. It belongs to the key."""
    return json(_made(services, owner, wanted, {}))


@router.post(
    "/api/list/new-with-features",
    summary="Make a list with features, as Neuronpedia's clients ask",
    response_model=NpNewList,
    responses=CHANGES,
    openapi_extra=KEYED,
)
def np_new_list_with_features(
    services: Use,
    owner: Owner,
    wanted: Annotated[
        NewListWithFeatures,
        Body(openapi_examples={"one": {"summary": "A list with a feature", "value": _NEW}}),
    ],
) -> Response:
    """Make a list with at most 300 features, all of which must exist, or no list."""
    return json(_made(services, owner, wanted, _checked(services, wanted.features)))


def _made(services: Services, owner: str, wanted: NewList, items: dict[ItemName, str]) -> Row:
    made = lists.new(
        services.shelf,
        owner,
        wanted.name.strip(BLANKS),
        wanted.description or "",
        wanted.testText,
        items,
    )
    return {**list_row(made), "url": None}


def _checked(services: Services, items: list[ItemToAdd]) -> dict[ItemName, str]:
    """Descriptions by feature, of features that exist; of one that is named twice the last."""
    named: dict[Name, str] = {}
    for item in items:
        named[item.name] = item.description or named.get(item.name, "")
    refuse_unknown(services.shelf, named)
    return {**named}


@router.post(
    "/api/list/add-features",
    summary="Add features to a list, as Neuronpedia's clients ask",
    response_model=list[NpListItem],
    responses=CHANGES,
    openapi_extra=KEYED,
)
def np_add_to_list(
    services: Use,
    owner: Owner,
    wanted: Annotated[
        ItemsToAdd,
        _example(
            "A feature for a list of yours", featuresToAdd=[{**EXAMPLE, "description": "Joy"}]
        ),
    ],
) -> Response:
    """Add at most 100 features, all of which must exist, or none. A list has at most 300. One that is
    in it already stays where it is, with the new description if there is one.

    Answers with the items that were asked for. Features and vectors can be added.
    """
    items = _checked(services, wanted.featuresToAdd)
    added = lists.add(services.shelf, owner, wanted.listId, items)
    return json([item_row(item, owner) for item in added])


@router.post(
    "/api/list/get",
    summary="Read a list, as Neuronpedia's clients ask",
    response_model=NpList,
    responses=ASKS,
)
def np_get_list(
    services: Use, wanted: Annotated[ListWanted, _example("A list of yours")]
) -> Response:
    """A list with its features as they are at this moment. It needs no key."""
    found, items = lists.get(services.shelf, wanted.listId)
    names = [Wanted(Name(*item.name), ACTIVATIONS) for item in items]
    neurons = packed(services.settings, rows_of(services, names))
    return json(
        {
            **list_row(found),
            "neurons": [
                {**item_row(item, found.owner), "neuron": neuron}
                for item, neuron in zip(items, neurons, strict=True)
            ],
            "activations": [],
            "user": {"name": shown(found.owner)},
        }
    )


@router.post(
    "/api/list/list",
    summary="List one's lists, as Neuronpedia's clients ask",
    response_model=list[NpListRow],
    responses=CHANGES,
    openapi_extra=KEYED,
)
def np_list_lists(services: Use, owner: Owner) -> Response:
    """The key's lists, newest first. It takes no body."""
    return json([list_row(one) for one in lists.owned(services.shelf, owner)])


@router.post(
    "/api/list/update",
    summary="Rename a list, as Neuronpedia's clients ask",
    response_model=NpListRow,
    responses=CHANGES,
    openapi_extra=KEYED,
)
def np_update_list(
    services: Use,
    owner: Owner,
    wanted: Annotated[ListChange, _example("Another name", name="Joy", description="All of it")],
) -> Response:
    """Give a list a name, a description and a test text; what is left out is emptied."""
    changed: FeatureList = lists.change(
        services.shelf,
        owner,
        wanted.listId,
        name=wanted.name.strip(BLANKS),
        description=wanted.description or "",
        test_text=wanted.defaultTestText,
    )
    return json(list_row(changed))


@router.post(
    "/api/list/edit-feature",
    summary="Describe a feature in a list, as Neuronpedia's clients ask",
    response_model=NpListItem,
    responses=CHANGES,
    openapi_extra=KEYED,
)
def np_edit_list_item(
    services: Use,
    owner: Owner,
    wanted: Annotated[
        ItemChange, _example("Another description", **EXAMPLE, description="Claps, too")
    ],
) -> Response:
    """Give a feature in a list another description."""
    item = lists.describe(services.shelf, owner, wanted.listId, wanted.name, wanted.description)
    return json(item_row(item, owner))


@router.post(
    "/api/list/remove",
    summary="Take a feature out of a list, as Neuronpedia's clients ask",
    response_model=NpListItem,
    responses=CHANGES,
    openapi_extra=KEYED,
)
def np_remove_from_list(
    services: Use,
    owner: Owner,
    wanted: Annotated[ItemWanted, _example("Out of a list of yours", **_OTHER)],
) -> Response:
    """Take a feature out, and answer with what it was."""
    return json(item_row(lists.remove(services.shelf, owner, wanted.listId, wanted.name), owner))


@router.post(
    "/api/list/delete",
    summary="Delete a list, as Neuronpedia's clients ask",
    response_model=Literal[True],
    responses=CHANGES,
    openapi_extra=KEYED,
)
def np_delete_list(
    services: Use, owner: Owner, wanted: Annotated[ListWanted, _example("A list of yours")]
) -> Response:
    """Delete a list. There is no way back."""
    lists.delete_list(services.shelf, owner, wanted.listId)
    return json(True)
