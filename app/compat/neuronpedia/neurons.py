"""Rows of features as Neuronpedia answers with them: all columns of its tables, and a superset where
its own client reads more than it sends (`source` of an activation, names of an explanation)."""

from collections.abc import Sequence

import numpy as np

from app.compat.neuronpedia.keys import shown
from app.compat.neuronpedia.owned import item_row, list_row
from app.rows.found import Found
from app.rows.page import Row
from app.rows.render import Written, set_name
from app.store.lists import FeatureList, ListItem
from app.store.vectors import Vector

_NUMBER = (int, float)
InLists = Sequence[tuple[ListItem, FeatureList]]
"""Lists that something is in."""
_LISTS = (
    "vector", "topkCosSimIndices", "topkCosSimValues", "neuron_alignment_indices",
    "neuron_alignment_values", "neuron_alignment_l1", "correlated_neurons_indices",
    "correlated_neurons_pearson", "correlated_neurons_l1", "correlated_features_indices",
    "correlated_features_pearson", "correlated_features_l1", "neg_str", "neg_values", "pos_str",
    "pos_values", "freq_hist_data_bar_heights", "freq_hist_data_bar_values",
    "logits_hist_data_bar_heights", "logits_hist_data_bar_values", "decoder_weights_dist",
)  # fmt: skip
_NEURON: Row = {
    "createdAt": None,
    "maxActApprox": 0,
    "frac_nonzero": 0,
    "hasVector": False,
    "vectorLabel": None,
    "vectorDefaultSteerStrength": None,
    "umap_x": None,
    "umap_y": None,
    "umap_cluster": None,
    "umap_log_feature_sparsity": None,
    **{name: [] for name in _LISTS},
}
_FORGOTTEN: Row = {name: [] for name in _LISTS if name.startswith("correlated_features")}
"""Neuronpedia empties these in every answer."""
_ACTIVATION: Row = {
    "createdAt": None,
    "dataIndex": None,
    "dataSource": None,
    "dfaValues": [],
    "dfaTargetIndex": None,
    "dfaMaxValue": None,
    "zQIndices": [],
    "zKIndices": [],
    "zValues": [],
    "lossValues": [],
    "logitContributions": None,
    "binMin": None,
    "binMax": None,
    "binContains": None,
    "qualifyingTokenIndex": None,
}


def neuron_row(found: Found, most: int | None = None) -> Row:
    """A feature with its strongest activations, at most so many, and its explanations."""
    written = found.written()
    of = _of(found)
    return {
        **_NEURON,
        **_without_broken(written.neuron),
        **_FORGOTTEN,
        **of,
        "activations": _activations(written, of, most),
        "explanations": [_explanation(n, row, of) for n, row in enumerate(written.explanations)],
    }


def _without_broken(row: Row) -> Row:
    """A row without columns that should be lists and are not: anybody may have written what was
    imported."""
    return {
        name: value
        for name, value in row.items()
        if name not in _LISTS or isinstance(value, list | np.ndarray)
    }


def whole_row(found: Found, lists: InLists) -> Row:
    """The same with all around it."""
    about = found.source.about
    return {
        **neuron_row(found),
        "model": about["model"],
        "source": about["source"],
        "sourceSet": about["sourceset"],
        **_around(lists),
    }


def whole_row_of_vector(vector: Vector, model: Row | None, lists: InLists) -> Row:
    """A vector with all around it; `model` is its model's row, None where that was deleted."""
    name = set_name(vector.source)
    return {
        **row_of_vector(vector),
        "model": model,
        "source": {"id": vector.source, "modelId": vector.model_id, "setName": name},
        "sourceSet": {"modelId": vector.model_id, "name": name},
        **_around(lists),
    }


def _around(lists: InLists) -> Row:
    within = [{**item_row(item, of.owner), "list": list_row(of)} for item, of in lists]
    return {"creator": None, "comments": [], "lists": within}


def activation_rows(found: Found) -> list[Row]:
    """A feature's activations, strongest first."""
    return _activations(found.written(), _of(found), None)


def row_of_vector(vector: Vector) -> Row:
    """A vector as a feature that fires on nothing that is known."""
    return {
        **_NEURON,
        "modelId": vector.model_id,
        "layer": vector.source,
        "index": str(vector.number),
        "sourceSetName": set_name(vector.source),
        "creatorId": shown(vector.owner),
        "createdAt": vector.created_at,
        "hasVector": True,
        "vector": vector.values,
        "vectorLabel": vector.label,
        "vectorDefaultSteerStrength": vector.strength,
        "hookName": vector.hook_name,
        "activations": [],
        "explanations": [],
    }


def _of(found: Found) -> Row:
    names = found.source.names
    return {"modelId": names.model, "layer": names.sae, "index": str(found.feature.index)}


def _activations(written: Written, of: Row, most: int | None) -> list[Row]:
    source = of["layer"]
    return [
        {
            **_ACTIVATION,
            **row,
            **of,
            "source": source,
            "binContains": _share(row.get("binContains")),
        }
        for row in written.activations[:most]
    ]


def _share(told: object) -> float | None:
    """A band's share, None for the strongest examples: their -1 is no share, and Neuronpedia's own
    client refuses it."""
    return told if isinstance(told, _NUMBER) and 0 <= told <= 1 else None


def _explanation(number: int, row: Row, of: Row) -> Row:
    """An explanation under an id by which it is found here."""
    id = f"{of['modelId']}.{of['layer']}.{of['index']}"
    return {
        "id": f"{id}:{number}" if number else id,
        **of,
        "source": of["layer"],
        "description": row.get("description"),
        "typeName": row.get("typeName"),
        "explanationModelName": row.get("explanationModelName"),
        "authorId": row.get("authorId"),
        "scores": [],
        "triggeredByUser": None,
    }
