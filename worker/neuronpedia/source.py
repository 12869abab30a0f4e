"""What a folder of evidence says of its SAE and of its model."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import Invalid
from app.rows.page import Names
from worker.neuronpedia.dashboards import source_of
from worker.neuronpedia.layout import Layout, look
from worker.neuronpedia.values import INT32_MAX, Row, at, text

_LAYER = re.compile(r"([0-9]{1,4})-")
_HOOK = re.compile(r"[A-Za-z0-9_.]{1,200}")


@dataclass(frozen=True)
class Source:
    """A folder that was looked at."""

    layout: Layout
    names: Names
    """As its files have them."""
    about: dict[str, list[Row]]
    """Rows about the source as a whole, by file."""

    @property
    def layer(self) -> int:
        """The number that the source's name begins with, 0 without."""
        match = _LAYER.match(self.names.sae)
        return int(match[1]) if match else 0

    def of_model(self, column: str) -> int:
        """A number of the model's row, 0 where it is not known."""
        found: Any = self.about["model"][0].get(column) if "model" in self.about else None
        return found if type(found) is int and 0 <= found <= INT32_MAX else 0


def open_source(folder: Path) -> Source:
    """Look at a folder.

    Raises:
        Invalid: it holds no evidence, or not all of it, or does not say of what.
    """
    layout = look(folder)
    if layout.format == "saedashboard":
        first = layout.batches[0]
        row = source_of(first.path, first.name)
        about, place = {"source": [row]}, first.name
    else:
        about, place = layout.about, "source.jsonl, line 1"
        row = about["source"][0]
    with at(place):
        names = Names(text(row, "modelId"), text(row, "id"))
    if not names.model or not names.sae:
        raise Invalid(f"{place} does not say which model and source this is (`modelId`, `id`).")
    return Source(layout, names, about)


def hook_name_of(neuron: Row) -> str:
    """The hook point that a feature's row names; empty where it does not."""
    found = neuron.get("hookName")
    return found if type(found) is str and _HOOK.fullmatch(found) else ""
