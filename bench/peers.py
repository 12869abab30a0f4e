"""interp-engine, which runs Neuronpedia's inference, beside saescope, both over HTTP.

    python -m bench.peers PYTHON [--model storyworld|32m|124m] [--callers 1 8 32] [--repeats 3]

PYTHON is the interpreter of an environment that interp-engine is installed in; see `bench/peers.md`.
Both serve the same folder on the same machine in the same run, in turns, in float32 with as many
threads as torch takes. The same callers ask both for the same steered texts, greedy. Then they ask
for activations: saescope for the strongest features of an SAE, interp-engine for the states at the
SAE's hook point, which leaves its encoder out.
"""

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.live import MODELS
from bench.live_callers import Callers
from bench.live_capture import Texts
from bench.live_models import Case
from bench.live_service import Caller, Service, service
from bench.served import free_port
from bench.timing import Run, Timing, in_turns
from worker.models import vocabulary
from worker.tokens import encode_text


class InterpEngine:
    """Its server with the eager backend, the one that runs without a GPU."""

    def __init__(self, port: int, callers: Callers) -> None:
        self._port, self._callers = port, callers
        self._model = callers.case.model

    def together(self, n: int) -> Run:
        """The requests of `n` callers at once; runs them and counts their tokens."""
        bodies = [self.body(i) for i in range(n)]
        return lambda: sum(len(one["token_ids"]) for one in self.all("/v1/generate", bodies))

    def capture(self, texts: list[list[int]]) -> Run:
        """The states of texts at the SAE's hook point, all asked for at once."""
        layer = self._callers.case.dictionary.layer
        bodies = [{"prompt_token_ids": ids, "points": [f"resid_post.{layer}"]} for ids in texts]
        return lambda: len(self.all("/v1/capture", bodies))

    def body(self, i: int) -> dict[str, Any]:
        """The request of caller i in its words."""
        hook, added = self._callers.hook(i)
        _, layer, name = hook.split(".")
        operation = {"method": "additive", "scale": 1.0, "vector": added.tolist()}
        return {
            "prompt_token_ids": encode_text(self._model, self._callers.prompts[i]),
            "max_tokens": self._callers.new_tokens, "temperature": 0.0, "stop_at_eos": False,
            "stream": False,
            "steering": [{"point": name.removeprefix("hook_"), "layers": {layer: [operation]}}],
        }  # fmt: skip

    def all(self, path: str, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The answers to requests sent at once."""
        with ThreadPoolExecutor(len(bodies)) as threads:
            return list(threads.map(lambda body: Caller(self._port).post(path, body), bodies))


@contextmanager
def interp_engine(python: str, callers: Callers) -> Iterator[InterpEngine]:
    """Its server as its README starts it, until it has loaded the model."""
    port = free_port()
    command = [
        python, "-m", "interp_engine.server", "--model", str(callers.case.model.path),
        "--backend", "eager", "--dtype", "float32", "--device", "cpu", "--port", str(port),
        "--log-level", "warning",
    ]  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    process = subprocess.Popen(command, env=environment | {"HF_HUB_OFFLINE": "1"})
    try:
        while process.poll() is None:
            try:
                Caller(port).get("/health")
                break
            except (OSError, RuntimeError):  # not listening, or 503 while it loads
                time.sleep(0.2)
        else:
            raise RuntimeError("interp-engine ended before it answered")
        yield InterpEngine(port, callers)
    finally:
        process.terminate()
        process.wait()


def compare(
    callers: Callers, ours: Service, theirs: InterpEngine, counts: list[int], repeats: int
) -> None:
    """Generation, then activations, by number of callers."""
    case, fresh = callers.case, Texts(callers.case)
    print(f"{_same(callers, ours, theirs, 4)} of 4 callers get the same tokens from both")
    work: dict[str, Callable[[], Run]] = {}
    for n in counts:
        work |= {
            f"saescope, {n}": lambda n=n: ours.together(callers, n),
            f"interp-engine, {n}": lambda n=n: theirs.together(n),
        }
    _show("steered, tokens/s", counts, in_turns(repeats, work))
    work = {}
    for n in counts:
        work |= {
            f"saescope, {n}": lambda n=n: _activations(case, ours, fresh.texts(n)),
            f"interp-engine, {n}": lambda n=n: theirs.capture(fresh.take(n)),
        }
    _show("new texts read/s", counts, in_turns(repeats, work))


def _same(callers: Callers, ours: Service, theirs: InterpEngine, n: int) -> int:
    """Callers whose tokens agree, up to where saescope's answer ends."""
    display = vocabulary(callers.case.model).display
    same = 0
    for i in range(n):
        [own] = ours.all("/v1/steer", [callers.body(i)])
        [other] = theirs.all("/v1/generate", [theirs.body(i)])
        tokens = own["steered"]["tokens"]
        same += tokens == [display[token] for token in other["token_ids"]][: len(tokens)]
    return same


def _activations(case: Case, ours: Service, texts: list[str]) -> Run:
    sae = case.dictionary.id
    bodies = [{"model": case.model.id, "saes": [sae], "texts": [text]} for text in texts]
    return lambda: len(ours.all("/v1/activations", bodies))


def _show(what: str, counts: list[int], found: dict[str, Timing]) -> None:
    table = Table(what, *(f"{n} callers" for n in counts))
    ways = ("saescope", "interp-engine")
    for way in ways:
        table.add_row(way, *(f"{found[f'{way}, {n}'].rate:,.1f}" for n in counts))
    ratios = (found[f"{ways[0]}, {n}"].rate / found[f"{ways[1]}, {n}"].rate for n in counts)
    table.add_row("ratio", *(f"{ratio:.2f}" for ratio in ratios))
    Console().print(table)


def main() -> None:
    """Start both, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", help="interpreter with interp-engine")
    parser.add_argument("--model", choices=list(MODELS), default="32m")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="saescope-bench-") as scratch:
        folder = Path(scratch)
        case = MODELS[options.model](folder)
        callers = Callers(case, options.new_tokens)
        with (
            interp_engine(options.python, callers) as theirs,
            service(folder / "data", [case]) as ours,
        ):
            compare(callers, ours, theirs, options.callers, options.repeats)


if __name__ == "__main__":
    main()
