"""Neurons as they are served: their evidence, and the features that they are made of."""

from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, Select, literal, select, tuple_

from app.contract.ids import neuron_source
from app.errors import Gone, NotFound
from app.store import find, lookup, pages, splits
from app.store import tables as t
from app.store.engine import Shelf
from app.store.pages import Page
from app.store.read import Order
from app.store.records import Feature
from app.store.split_records import NeuronSplit

NeuronSort = Literal["index", "density", "max_activation", "polysemanticity"]


@dataclass(frozen=True)
class Neuron:
    """A neuron and what it is made of."""

    layer: int
    sae: str
    """The SAE whose features it is made of."""
    sae_run_id: str
    evidence: Feature
    split: NeuronSplit
    labels: dict[int, str]
    """Of the features that the split names."""


@dataclass(frozen=True)
class NeuronSummary:
    """One row of a list of neurons."""

    index: int
    label: str
    density: float
    max_activation: float
    polysemanticity: float
    unexplained_variance: float | None


@dataclass(frozen=True)
class NeuronList:
    """A page of the neurons of one layer, as one SAE splits them."""

    layer: int
    sae: str
    page: Page[NeuronSummary]


def neuron(
    shelf: Shelf, model_id: str, layer: int, index: int, sae_id: str | None = None
) -> Neuron:
    """A neuron, split by an SAE, by default the one that leaves the least unexplained.

    Raises:
        NotFound: there is no such neuron, or nothing has split it, with what to do about that.
        Gone: its evidence was computed anew while it was read.
    """
    with shelf.snapshot() as connection:
        chosen = _choose(connection, model_id, layer, sae_id)
        if not 0 <= index < chosen.d_mlp:
            raise NotFound(
                f"There is no neuron {index} in layer {layer} of model '{model_id}'; they are 0 to "
                f"{chosen.d_mlp - 1}."
            )
        id = t.packed_id(chosen.number, index)
        row = connection.execute(select(t.neuron_splits).where(t.neuron_splits.c.id == id)).one()
        split = splits.unpack(row)
        labels = _labels(connection, chosen.sae_run, split)
    evidence = lookup.feature(shelf, model_id, neuron_source(layer), index)
    if evidence.run_id != chosen.neurons_run_id:
        raise Gone("This evidence was computed anew meanwhile; ask again.")
    return Neuron(layer, chosen.sae_id, chosen.sae_run_id, evidence, split, labels)


def _labels(connection: Connection, run: int, split: NeuronSplit) -> dict[int, str]:
    parts = [*split.features, *(group.part for group in split.groups if group.part)]
    ids = {t.packed_id(run, part.feature) for part in parts}
    query = select(t.features.c.id, t.features.c.label).where(t.features.c.id.in_(ids))
    return {id & t.ROW_MASK: label for id, label in connection.execute(query)}


def neurons(
    shelf: Shelf,
    model_id: str,
    layer: int | None = None,
    sae_id: str | None = None,
    *,
    sort: NeuronSort = "index",
    order: Order = "asc",
    limit: int = 50,
    cursor: str | None = None,
) -> NeuronList:
    """A page of a layer's neurons, by default of the first layer that is split."""
    pages.check_limit(limit)
    key = ["neurons", model_id, layer, sae_id, sort, order]
    with shelf.snapshot() as connection:
        chosen = _choose(connection, model_id, layer, sae_id)
        runs = f"{chosen.neurons_run_id} {chosen.sae_run_id}"
        types = (int,) if sort == "index" else (float, int)
        place = None if cursor is None else pages.decode(cursor, key, types, runs)
        rows = connection.execute(_listed(chosen, sort, order, place).limit(limit + 1)).all()
    items = [NeuronSummary(row.id & t.ROW_MASK, *row[1:]) for row in rows[:limit]]
    more = None
    if len(rows) > limit:
        last = items[-1]
        position = [last.index] if sort == "index" else [getattr(last, sort), last.index]
        more = pages.encode(key, position, runs)
    return NeuronList(chosen.layer, chosen.sae_id, Page(items, more))


def _listed(chosen: Row, sort: NeuronSort, order: Order, place: list[Any] | None) -> Select:
    """Neurons in an order, after `place`: an index, or a value and an index."""
    f, s = t.features.c, t.neuron_splits.c
    apart = t.packed_id(chosen.number, 0) - t.packed_id(chosen.neurons_run, 0)
    # By columns of the table whose index has the order, so that no page sorts or scans the rest.
    split_first = sort == "polysemanticity"
    id, run = (s.id, chosen.number) if split_first else (f.id, chosen.neurons_run)
    joined = f.id == s.id - apart if split_first else s.id == f.id + apart
    by = [id] if sort == "index" else [s.polysemanticity if split_first else f[sort], id]
    query = (
        select(
            f.id, f.label, f.density, f.max_activation, s.polysemanticity, s.unexplained_variance
        )
        .join_from(t.features, t.neuron_splits, joined)
        .where(f.run == chosen.neurons_run, s.split == chosen.number)
        .order_by(*(column.asc() if order == "asc" else column.desc() for column in by))
    )
    if place is None:
        return query
    last = [*place[:-1], t.packed_id(run, place[-1] & t.ROW_MASK)]
    here, there = tuple_(*by), tuple_(*map(literal, last))
    return query.where(here > there if order == "asc" else here < there)


def split_layers(shelf: Shelf, model_id: str) -> set[int]:
    """Layers whose neurons are split by some SAE."""
    own, other = t.saes.alias(), t.saes.alias()
    query = (
        select(own.c.layer)
        .join_from(t.splits, own, own.c.run == t.splits.c.neurons_run)
        .join(other, other.c.run == t.splits.c.sae_run)
        .where(own.c.model_id == model_id, t.splits.c.complete)
    )
    with shelf.read() as connection:
        return set(connection.execute(query).scalars())


def _choose(connection: Connection, model_id: str, layer: int | None, sae_id: str | None) -> Row:
    """The split that is asked for, or else the one of the lowest layer with the least unexplained
    variance. NotFound when there is none."""
    own, other = t.saes.alias(), t.saes.alias()
    own_run, other_run = t.runs.alias(), t.runs.alias()
    unexplained = t.splits.c.unexplained_variance
    query = (
        select(
            t.splits.c.number,
            own.c.layer,
            own.c.d_sae.label("d_mlp"),
            other.c.id.label("sae_id"),
            own.c.run.label("neurons_run"),
            other.c.run.label("sae_run"),
            own_run.c.id.label("neurons_run_id"),
            other_run.c.id.label("sae_run_id"),
        )
        .join_from(t.splits, own, own.c.run == t.splits.c.neurons_run)
        .join(other, other.c.run == t.splits.c.sae_run)
        .join(own_run, own_run.c.number == own.c.run)
        .join(other_run, other_run.c.number == other.c.run)
        .where(own.c.model_id == model_id, t.splits.c.complete)
        .order_by(own.c.layer, unexplained.asc().nulls_last(), other.c.id)
    )
    if layer is not None:
        query = query.where(own.c.layer == layer)
    if sae_id is not None:
        query = query.where(other.c.id == sae_id)
    found = connection.execute(query.limit(1)).first()
    if found is None:
        raise _missing(connection, model_id, layer, sae_id)
    return found


def _missing(
    connection: Connection, model_id: str, layer: int | None, sae_id: str | None
) -> NotFound:
    """Why no split is there, and what to do."""
    model = find.model(connection, model_id)
    hooks = {n: f"blocks.{n}.mlp.hook_post" for n in range(model.n_layers)}
    layers = [n for n, hook in hooks.items() if hook in model.hook_points]
    if not layers:
        return NotFound(
            f"The neurons of model '{model_id}' cannot be read, so nothing splits them."
        )
    if layer is not None and layer not in layers:
        return NotFound(
            f"Model '{model_id}' has no neurons in layer {layer}; it has layers "
            f"{', '.join(map(str, layers))}."
        )
    if sae_id is not None:
        return _not_by(connection, model_id, sae_id, hooks, layer)
    there = {n: _on(connection, model_id, hooks[n]) for n in (layers if layer is None else [layer])}
    for n, saes in there.items():
        if saes:
            return _to_precompute(model_id, n, saes[0])
    return _to_train(model_id, min(there))


def _not_by(
    connection: Connection, model_id: str, sae_id: str, hooks: dict[int, str], layer: int | None
) -> NotFound:
    """Why an SAE splits no neurons, or not those of a layer."""
    sae = find.sae(connection, model_id, sae_id)
    of = [n for n, hook in hooks.items() if sae_id in _on(connection, model_id, hook)]
    if of and layer in (None, of[0]):
        return _to_precompute(model_id, of[0], sae_id)
    wanted = hooks[layer] if layer is not None else "an mlp.hook_post"
    return NotFound(
        f"SAE '{sae_id}' reads at {sae.hook_name}, so it does not split these neurons; name an SAE "
        f"on {wanted}, or leave `sae` out."
    )


def _to_train(model_id: str, layer: int) -> NotFound:
    hook = f"blocks.{layer}.mlp.hook_post"
    return NotFound(
        f"No SAE of model '{model_id}' is on {hook}, so its neurons are not split into features; "
        f"train one (`saescope train {model_id} {layer}-new --hook-name {hook}`) and precompute both "
        f"on one corpus (`saescope precompute {model_id} {neuron_source(layer)} {layer}-new`)."
    )


def _to_precompute(model_id: str, layer: int, sae_id: str) -> NotFound:
    return NotFound(
        f"The neurons of layer {layer} of model '{model_id}' are not split by '{sae_id}' yet; "
        f"precompute both on one corpus: `saescope precompute {model_id} {neuron_source(layer)} "
        f"{sae_id}`."
    )


def _on(connection: Connection, model_id: str, hook_name: str) -> list[str]:
    """Ids of the SAEs that read and write at a hook point."""
    query = (
        select(t.saes.c.id, t.saes.c.architecture)
        .where(t.saes.c.model_id == model_id, t.saes.c.hook_name == hook_name)
        .order_by(t.saes.c.id)
    )
    return [id for id, kind in connection.execute(query) if splits.can_split(kind)]
