"""Rows of what belongs to a key: lists, their items, vectors."""

from app.compat.neuronpedia.keys import shown
from app.rows.page import Row
from app.store.lists import FeatureList, ListItem
from app.store.vectors import Vector


def list_row(of: FeatureList) -> Row:
    """A list without its items."""
    return {
        "id": of.id,
        "name": of.name,
        "description": of.description,
        "defaultTestText": of.test_text,
        "userId": shown(of.owner),
        "createdAt": of.created_at,
        "updatedAt": of.updated_at,
    }


def item_row(item: ListItem, owner: str) -> Row:
    """An item of an owner's list."""
    return {
        "modelId": item.model_id,
        "layer": item.sae_id,
        "index": str(item.feature),
        "listId": item.list,
        "description": item.description,
        "addedAt": item.added_at,
        "userId": shown(owner),
    }


def new_vector_row(vector: Vector) -> Row:
    """A vector, as who made it is told."""
    return {
        "modelId": vector.model_id,
        "source": vector.source,
        "index": str(vector.number),
        "label": vector.label,
        "createdAt": vector.created_at,
        "defaultSteerStrength": vector.strength,
        "hookName": vector.hook_name,
        "values": vector.values,
    }


def vector_row(vector: Vector) -> Row:
    """A vector, as it is read."""
    return {
        "modelId": vector.model_id,
        "layer": vector.source,
        "index": str(vector.number),
        "vectorLabel": vector.label,
        "createdAt": vector.created_at,
        "creatorId": shown(vector.owner),
        "vectorDefaultSteerStrength": vector.strength,
        "hookName": vector.hook_name,
        "vector": vector.values,
    }
