"""Batches of files → spool, one batch at a time."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from app.rows.page import Names
from app.store.imports import MAX_FEATURES
from worker.neuronpedia import values
from worker.neuronpedia.dashboards import features_of
from worker.neuronpedia.layout import Batch, Kind
from worker.neuronpedia.lines import rows_of
from worker.neuronpedia.spool import Spool
from worker.neuronpedia.strings import Strings
from worker.neuronpedia.values import Refused, Row, at, dumped, index_of


class _Read(NamedTuple):
    """One row of a batch."""

    kind: Kind
    place: str
    data: bytes
    row: Row


def read_batch(
    spool: Spool, batch: Batch, names: Names, strings: Strings, tick: Callable[[], None]
) -> None:
    """Bring a batch's rows into the spool, unless they are there.

    Raises:
        Invalid: a row is no JSON, of another source, out of order or there twice, has tokens that are no
            strings, or is nested too deeply.
    """
    if spool.has(batch):
        return
    digest, tokens, order = hashlib.sha256(), 0, _Order()
    with spool.reading():
        for one in _rows(batch):
            digest.update(one.data)
            with at(one.place):
                _refuse_other(one.row, names)
                feature = index_of(one.row, "index", MAX_FEATURES)
                if one.kind == "features":
                    order.next(feature)
                    for column in ("pos_str", "neg_str"):
                        strings.add(values.strings(one.row, column))
                    spool.add_neuron(feature, one.place, one.data)
                elif one.kind == "activations":
                    numbers = strings.add(values.strings(one.row, "tokens"))
                    one.row.pop("tokens", None)
                    spool.add_other(one.kind, feature, one.place, dumped(one.row), numbers)
                    tokens += len(numbers)
                else:
                    spool.add_other(one.kind, feature, one.place, dumped(one.row))
            tick()
        spool.end_batch(batch, digest.hexdigest(), tokens, strings.new())


def _rows(batch: Batch) -> Iterator[_Read]:
    if batch.kind == "dashboards":
        for kind, place, data, row in features_of(batch.path, batch.name):
            yield _Read(kind, place, data, row)
    else:
        for place, data, row in rows_of(batch.path, batch.name):
            yield _Read(batch.kind, place, data, row)


def _refuse_other(row: Row, names: Names) -> None:
    for name, known in (("modelId", names.model), ("layer", names.sae)):
        if name in row and row[name] != known:
            raise Refused(f"`{name}` is {str(row[name])[:60]!r}, but this source is of {known!r}")


@dataclass
class _Order:
    """Features of a file come by number, or as Neuronpedia's export has them: by their digits, 10
    before 2."""

    before: int = -1
    by_number: bool = True
    by_digits: bool = True

    def next(self, feature: int) -> None:
        if self.before >= 0:
            self.by_number &= feature > self.before
            self.by_digits &= str(feature) > str(self.before)
            if not (self.by_number or self.by_digits) and feature != self.before:
                raise Refused(
                    f"feature {feature} comes behind feature {self.before}; features go up"
                )
        self.before = feature
