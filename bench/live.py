"""The live engine, alone and as users start it, against peers in the same run.

For the bundled model and two with random weights (`bench.live_models`), in float32, with as many
threads as torch takes:

- generation: 1, 8, 32 and 64 callers, each with a steering of its own, tokens a second of the engine
  in this process, of it unsteered, through HTTP and both processes, of Hugging Face generate with a
  hook and of TransformerLens' generate, one request at a time; greedy, prompts of 32 tokens, and as
  many new ones;
- kinds: what pairs, methods, conditions and reports cost; and a first token while others run;
- captures: activations of new texts, together and one at a time (`bench.live_capture`);
- http: what one caller waits for activations; a sweep; /healthz and lookups while 64 generate.

    python -m bench.live [--quick] [storyworld] [32m] [124m]

Every ratio is of medians over repeats in turns. Answers of the engine in this process and of peers
end at nothing but their length; through HTTP the bundled model may end a text before, which counts
for as many tokens as it has.

A quick run has fewer callers, tokens and repeats, and leaves the largest model out: it shows that
the bench works.
"""

import argparse
import tempfile
from pathlib import Path
from typing import NamedTuple

from bench import live_capture, live_http
from bench.live_callers import Callers
from bench.live_generation import Generation
from bench.live_models import Case, gpt2_124m, llama_32m, storyworld
from bench.live_peers import Peers
from bench.live_service import Service, service
from bench.report import report

MODELS = {"storyworld": storyworld, "32m": llama_32m, "124m": gpt2_124m}


class Sizes(NamedTuple):
    """What is measured."""

    models: list[str]
    counts: list[int]
    """Callers at once."""
    new_tokens: int
    repeats: int
    requests: int
    """Of which latencies are taken."""


FULL = Sizes(list(MODELS), [1, 8, 32, 64], 32, 5, 200)
QUICK = Sizes(["storyworld", "32m"], [1, 32], 8, 1, 30)


def main() -> None:
    """Measure the models that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer of everything")
    parser.add_argument("models", nargs="*", help=f"of {', '.join(MODELS)}; all when none is named")
    options = parser.parse_args()
    if unknown := set(options.models) - MODELS.keys():
        parser.error(f"no such model: {', '.join(unknown)}; there are {', '.join(MODELS)}")
    sizes = QUICK if options.quick else FULL
    with tempfile.TemporaryDirectory(prefix="saescope-bench-") as scratch:
        folder = Path(scratch)
        cases = [MODELS[name](folder) for name in options.models or sizes.models]
        with service(folder / "data", cases) as running:
            for case in cases:
                measure(case, running, sizes, folder)
    report()


def measure(case: Case, running: Service, sizes: Sizes, folder: Path) -> None:
    """Everything on one model."""
    callers = Callers(case, sizes.new_tokens)
    peers = Peers(callers)
    generation = Generation(callers, running, peers)
    generation.same_tokens(4)
    generation.throughput(sizes.counts, sizes.repeats)
    generation.kinds(sizes.repeats)
    generation.first_token()
    live_capture.measure(case, peers, folder, sizes.repeats)
    live_http.activations(case, running, sizes.requests)
    ratio = live_http.sweep(callers, running, sizes.repeats)
    print(f"{case.name}: a sweep of 8 strengths over 8 requests with reports {ratio:.2f}")
    busy = sizes.counts[-1]
    latencies = live_http.lookups(callers, running, busy, sizes.requests)
    print(f"{case.name}, p50 / p99 ms while {busy} callers generate: {latencies}", flush=True)


if __name__ == "__main__":
    main()
