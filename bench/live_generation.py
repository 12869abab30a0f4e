"""Tokens a second of steered callers: the engine alone, through HTTP, and peers; and what kinds of
steering cost.
"""

from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from bench.live_callers import Callers
from bench.live_engine import Engine
from bench.live_http import first_token
from bench.live_peers import Peers
from bench.live_service import Service
from bench.report import promise
from bench.timing import Run, Timing, in_turns, ratio

FEW = 2
"""Requests of a peer that takes one at a time: more would take the same time each."""
MANY = 32
FINELY = 3
"""Times as many turns where a few per cent decide."""
GOALS = {"32 M": ">= 7", "124 M": ">= 5"}


class Generation:
    """One model's callers, and all that generates for them."""

    def __init__(self, callers: Callers, service: Service, peers: Peers) -> None:
        self.callers, self.service, self.peers = callers, service, peers
        self.engine = Engine(callers)
        self._name = callers.case.name

    def same_tokens(self, n: int) -> None:
        """Say of how many callers the peers' tokens are the engine's."""
        ours = [self.engine.tokens(i) for i in range(n)]
        for peer, theirs in (
            ("Hugging Face", self.peers.hugging_face_tokens),
            ("TransformerLens", self.peers.transformer_lens_tokens),
        ):
            same = sum(theirs(i) == own for i, own in enumerate(ours))
            print(f"{self._name}: {peer} gives {same} of {n} callers the engine's tokens")

    def throughput(self, counts: list[int], repeats: int) -> None:
        """Tokens a second by number of callers, and against one at a time."""
        work: dict[str, Callable[[], Run]] = {
            "Hugging Face, 1": lambda: self.peers.hugging_face(FEW),
            "TransformerLens, 1": lambda: self.peers.transformer_lens(FEW),
        }
        for n in counts:
            work[f"engine, {n}"] = lambda n=n: self.engine.together(n)
            work[f"unsteered engine, {n}"] = lambda n=n: self.engine.together(n, steering=[])
            work[f"HTTP, {n}"] = lambda n=n: self.service.together(self.callers, n)
        found = in_turns(repeats, work)
        self._table(counts, found)
        one, goal = found["Hugging Face, 1"].rate, GOALS.get(self._name)
        for way in ("engine", "HTTP"):
            ratio = found[f"{way}, {MANY}"].rate / one
            if goal and way == "engine":
                promise("generation 32 callers over one at a time", self._name, ratio, goal)
            else:
                print(f"  {MANY} callers over one at a time, {way}: {ratio:.2f}", flush=True)

    def kinds(self, repeats: int) -> None:
        """What steering, pairs, methods, conditions and reports cost."""
        feature, engine = self.callers.feature_entry, self.engine
        gate = {"sae": self.callers.case.dictionary.id, "feature": 3, "above": 0.0}
        found = {name: timing.seconds for name, timing in in_turns(repeats, {
            "steered": lambda: engine.together(MANY),
            "add": lambda: engine.each(MANY, feature),
            "clamp": lambda: engine.each(MANY, lambda i: feature(i, method="clamp")),
            "on a condition": lambda: engine.each(MANY, lambda i: feature(i, when=gate)),
            "with reports": lambda: engine.together(MANY, report=True),
        }).items()}  # fmt: skip
        promise("steered over unsteered", self._name, ratio(
            FINELY * repeats, lambda: engine.together(MANY, steering=[]),
            lambda: engine.together(MANY),
        ), ">= 0.95")  # fmt: skip
        promise("pair over steered", self._name, ratio(
            FINELY * repeats, lambda: engine.together(MANY // 2, baseline=True),
            lambda: engine.together(MANY // 2),
        ), "<= 1.35")  # fmt: skip
        print(
            f"{self._name}, time of {MANY} callers: with reports over without "
            f"{found['with reports'] / found['steered']:.2f}; over the method add: clamp "
            f"{found['clamp'] / found['add']:.2f}, on a condition "
            f"{found['on a condition'] / found['add']:.2f}",
            flush=True,
        )

    def first_token(self) -> None:
        """A request that comes while others run."""
        for way, (step, taken) in {
            "engine": self.engine.first_token(MANY),
            "HTTP": first_token(self.callers, self.service, MANY),
        }.items():
            config = f"{self._name}, {way}"
            print(f"{config}: a step {step * 1e3:.1f} ms, a first token {taken * 1e3:.1f} ms")
            promise("first token in steps", config, taken / step, "<= 3")

    def _table(self, counts: list[int], found: dict[str, Timing]) -> None:
        print(f"{self._name}: the engine has {self.engine.slots} slots")
        table = Table(f"{self._name}, tokens/s", *(f"{n} callers" for n in counts))
        for way in dict.fromkeys(key.rpartition(", ")[0] for key in found):
            rates = [found.get(f"{way}, {n}") for n in counts]
            table.add_row(way, *(f"{one.rate:,.1f}" if one else "" for one in rates))
        Console().print(table)
