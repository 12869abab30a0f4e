"""What callers wait for, through both processes: activations, a first token, a sweep, a lookup."""

import random
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import torch

from bench.live_callers import Callers
from bench.live_models import Case
from bench.live_service import FEATURES, LOOKUP, Caller, Service
from bench.report import promise
from bench.timing import Run, in_turns, seconds_of
from worker.activations import capture
from worker.tokens import encode_text

HTTP_S = 0.003
"""Seconds that a request may take for being one."""
CALLERS, TURNS = 32, 5
BESIDE = "<= 10"
"""On two cores torch has both of them, so a lookup waits for a turn of the scheduler's."""
BLOCK = 10
"""Requests of one kind, before the other has its turn."""


class Floor:
    """The work of an activations request: a bare forward, truncated or full, and a plain encode."""

    def __init__(self, case: Case) -> None:
        self._case = case
        dictionary = case.dictionary
        self._weight = torch.randn(dictionary.d_in, dictionary.d_sae)
        self._bias = torch.zeros(dictionary.d_sae)

    @torch.inference_mode()
    def truncated(self, ids: torch.Tensor) -> None:
        """As far as the SAE's hook point."""
        hook = self._case.dictionary.hook_name
        self._encode(capture(self._case.model, ids, [hook])[hook][0])

    @torch.inference_mode()
    def full(self, ids: torch.Tensor) -> None:
        """All of the model, with nothing hooked."""
        self._case.model.hf(ids, use_cache=False)
        self._encode(torch.zeros(ids.shape[1], self._case.dictionary.d_in))

    def _encode(self, x: torch.Tensor) -> None:
        torch.addmm(self._bias, x, self._weight).relu_()


def activations(case: Case, service: Service, requests: int) -> None:
    """One caller with one SAE and a new text every time, and again with the same text; many callers
    at once."""
    floor = Floor(case)
    taken: dict[str, list[float]] = {kind: [] for kind in ("ours", "again", "truncated", "full")}

    def body(text: str) -> dict[str, Any]:
        return {"model": case.model.id, "saes": [case.dictionary.id], "texts": [text]}

    def ask(caller: Caller, text: str) -> Run:
        return lambda: caller.post("/v1/activations", body(text))

    for seed in range(1 + requests // BLOCK):
        texts = case.texts(BLOCK, seed + 1_000)
        tensors = [torch.tensor([encode_text(case.model, text)]) for text in texts]
        caller = service.caller()
        for text in texts:
            taken["ours"].append(seconds_of(ask(caller, text)))
            taken["again"].append(seconds_of(ask(caller, text)))
        for kind, work in (("truncated", floor.truncated), ("full", floor.full)):
            taken[kind] += [seconds_of(lambda ids=ids, work=work: work(ids)) for ids in tensors]
    # Models are loaded by the first request.
    p50 = {kind: statistics.median(seconds[BLOCK:]) for kind, seconds in taken.items()}
    shown = ", ".join(f"{kind} {seconds * 1e3:.1f}" for kind, seconds in p50.items())
    print(f"{case.name}, activations of one text, p50 ms: {shown}", flush=True)
    for kind in ("truncated", "full"):
        promise("activation p50 over floor", f"{case.name}, {kind} forward",
                (p50["ours"] - HTTP_S) / p50[kind], "<= 1.5")  # fmt: skip
    bodies = [[body(text) for text in case.texts(CALLERS, 2_000 + turn)] for turn in range(TURNS)]
    together = statistics.median(
        seconds_of(lambda of=of: service.all("/v1/activations", of)) for of in bodies
    )
    print(f"  {CALLERS} callers over one, through HTTP: {CALLERS * p50['ours'] / together:.2f}")


def first_token(callers: Callers, service: Service, running: int) -> tuple[float, float]:
    """Seconds of a step while `running` callers are streamed to, and from when one more asks until it
    has its first token."""
    gaps: list[float] = []
    late, taken = service.caller(), []

    def follow(i: int) -> None:
        body = callers.body(i, max_new_tokens=4 * callers.new_tokens)
        arrived = 0.0
        for line in service.caller().stream("/v1/steer", body):
            if line.startswith(b"event: delta"):
                gaps.append(time.monotonic() - arrived)
                arrived = time.monotonic()

    with ThreadPoolExecutor(running) as threads:
        streams = [threads.submit(follow, i) for i in range(running)]
        while len(gaps) < 3 * running and not all(one.done() for one in streams):
            time.sleep(0.01)
        gaps.clear()
        while not any(one.done() for one in streams):
            body = callers.body(running, max_new_tokens=1)
            taken.append(seconds_of(lambda body=body: late.post("/v1/steer", body)))
            time.sleep(random.random() * taken[-1])
        for one in streams:
            one.result()
    return statistics.median(gaps), statistics.median(taken)


def sweep(callers: Callers, service: Service, repeats: int) -> float:
    """Time of a sweep over eight strengths, over that of eight requests with a report."""
    caller, strengths = service.caller(), [0.25 * (1 + i) for i in range(8)]
    entry = callers.feature_entry(0)
    body = callers.body(0, steering=[entry | {"strength": 1.0}])
    whole = {key: value for key, value in body.items() if key != "baseline"}

    def singles() -> None:
        for strength in strengths:
            one = {"steering": [entry | {"strength": strength}], "report": True}
            caller.post("/v1/steer", body | one)

    found = in_turns(repeats, {
        "sweep": lambda: lambda: caller.post("/v1/steer/sweep", whole | {"strengths": strengths}),
        "singles": lambda: singles,
    })  # fmt: skip
    return found["sweep"].seconds / found["singles"].seconds


class Latency(NamedTuple):
    """Milliseconds."""

    p50: float
    p99: float

    def __str__(self) -> str:
        return f"{self.p50:.1f} / {self.p99:.1f}"


def lookups(callers: Callers, service: Service, busy: int, requests: int) -> str:
    """Latencies of /healthz and of lookups, when nothing else is asked and while `busy` callers
    generate."""
    done = threading.Event()

    def generate(i: int) -> None:
        caller = service.caller()
        while not done.is_set():
            caller.post("/v1/steer", callers.body(i))

    idle = _latencies(service.caller(), requests)
    with ThreadPoolExecutor(busy) as threads:
        runs = [threads.submit(generate, i) for i in range(busy)]
        time.sleep(0.5)
        loaded = _latencies(service.caller(), requests)
        done.set()
        for run in runs:
            run.result()
    for kind in idle:
        ratio = loaded[kind].p99 / idle[kind].p99
        promise(f"p99 of {kind}, {busy} steered over idle", callers.case.name, ratio, BESIDE)
    return "; ".join(f"{kind} {idle[kind]}, busy {loaded[kind]}" for kind in idle)


def _latencies(caller: Caller, requests: int) -> dict[str, Latency]:
    order = random.sample(range(FEATURES), min(requests, FEATURES))
    kinds: dict[str, Callable[[int], Run]] = {
        "/healthz": lambda _: lambda: caller.get("/healthz"),
        "lookup": lambda i: lambda: caller.get(f"{LOOKUP}/{i}"),
    }
    found = {}
    for kind, run in kinds.items():
        taken = sorted(1e3 * seconds_of(run(i)) for i in order)
        found[kind] = Latency(statistics.median(taken), taken[int(0.99 * len(taken))])
    return found
