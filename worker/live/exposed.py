"""The live worker's metrics, as Prometheus reads them: what was counted, and what waits and is in
memory at this moment."""

from collections.abc import Iterator, Mapping

import torch
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from worker.live.desk import Desk
from worker.live.meters import PREFIX, REGISTRY
from worker.live.resident import Resident


def exposed(desk: Desk) -> bytes:
    """All of it, as text."""
    now = CollectorRegistry()
    now.register(_Now(desk))
    return generate_latest(REGISTRY) + generate_latest(now)


class _Now(Collector):
    """What waits, runs and is in memory at this moment."""

    def __init__(self, desk: Desk) -> None:
        self._device = desk.library.device
        self._residents = list(desk.library.residents.values())
        self._budgets = {
            "request": desk.requests,
            "token": desk.tokens,
            "value": desk.values,
        }

    def collect(self) -> Iterator[GaugeMetricFamily]:
        engines = [one.engine for one in self._residents if one.engine is not None]
        captures = [one.captures for one in self._residents]
        yield _gauge("rows", "Rows that batches can have.", sum(e.rows for e in engines))
        yield _gauge("rows_running", "Rows that run.", sum(e.running for e in engines))
        yield _gauge(
            "answers_waiting", "Answers that have not joined.", sum(e.waiting for e in engines)
        )
        yield _gauge("texts_waiting", "Texts not captured yet.", sum(c.waiting for c in captures))
        yield _family(
            "tokens_waiting",
            "Tokens of prompts and texts that wait.",
            {
                "prompt": sum(e.waiting_tokens for e in engines),
                "text": sum(c.waiting_tokens for c in captures),
            },
        )
        taken = {kind: budget.taken for kind, budget in self._budgets.items()}
        limits = {kind: budget.limit for kind, budget in self._budgets.items()}
        yield _family("taken", "What it has taken on, waiting or not.", taken)
        yield _family("taken_limit", "What it takes on at a time.", limits)
        yield _family("loaded", "Models and SAEs in memory.", _loaded(self._residents))
        yield _family("loaded_bytes", "Memory that they take.", _loaded_bytes(self._residents))
        if self._device.type == "cuda":
            yield _family("device_bytes", "Memory of the GPU.", _device_bytes(self._device))


def _loaded(residents: list[Resident]) -> dict[str, float]:
    saes = sum(len(one.dictionaries) for one in residents)
    return {"model": len(residents), "sae": saes}


def _loaded_bytes(residents: list[Resident]) -> dict[str, float]:
    """Models with keys and values of their batches; states are those kept of recent texts."""
    saes = [loaded for one in residents for loaded in list(one.dictionaries.values())]
    return {
        "model": sum(one.n_bytes for one in residents),
        "sae": sum(loaded.n_bytes for loaded in saes),
        "state": sum(one.captures.n_bytes for one in residents),
    }


def _device_bytes(device: torch.device) -> dict[str, float]:
    free, total = torch.cuda.mem_get_info(device)
    return {
        "allocated": torch.cuda.memory_allocated(device),
        "reserved": torch.cuda.memory_reserved(device),
        "free": free,
        "total": total,
    }


def _gauge(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, about, value)


def _family(name: str, about: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(PREFIX + name, about, labels=["kind"])
    for kind, value in values.items():
        family.add_metric([kind], value)
    return family
