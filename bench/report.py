"""The last lines of every bench: its promises, measured, as a table and as JSON lines.

A promise is a ratio or a number with a goal such as "<= 1.15" or ">= 0.5". Collect them with
`promise` while measuring, and end with `report`.
"""

import operator
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

_COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}

_promises: list[dict[str, Any]] = []


def promise(name: str, config: str, ratio: float, goal: str) -> bool:
    """Record what was measured for a promise of DESIGN, and whether it holds."""
    sign, bound = goal.split()
    holds = _COMPARE[sign](ratio, float(bound))
    _promises.append(
        {"promise": name, "config": config, "ratio": round(ratio, 4), "goal": goal, "holds": holds}
    )
    return holds


def report() -> None:
    """Print all promises recorded: a table, then one JSON line each."""
    table = Table("promise", "config", "ratio", "goal", "holds")
    for item in _promises:
        table.add_row(*(str(item[key]) for key in ("promise", "config", "ratio", "goal", "holds")))
    Console().print(table)
    for item in _promises:
        print(orjson.dumps(item).decode())
