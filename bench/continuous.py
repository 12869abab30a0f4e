"""transformers' own continuous batching, steered by request, beside the engine, both in this process.

    python -m bench.continuous [--model storyworld|32m|124m] [--callers 1 8 32] [--repeats 3]

It has no notion of a request's own steering, so a hook at every site in use looks up which tokens of
its batch belong to whom; that takes attributes that transformers does not export. Sharing of prefixes
is off: blocks are shared by tokens alone, so one request would read another's steered states.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from bench.live import MODELS
from bench.live_callers import Callers
from bench.live_engine import Engine
from bench.timing import Run, in_turns
from worker.sites import add_hook
from worker.tokens import encode_text

PAGE, PAGES, BATCH = 32, 512, 1024
"""Tokens of a block of keys and values, blocks, and tokens of a forward: the engine's own budget."""


class ContinuousBatching:
    """A manager over the model of some callers."""

    def __init__(self, callers: Callers) -> None:
        self._callers, self._model = callers, callers.case.model
        self._added: dict[str, tuple[str, torch.Tensor]] = {}
        self._manager: Any = None

    def together(self, n: int) -> Run:
        """The requests of `n` callers at once; runs them and counts their tokens. Starting and
        stopping the manager is not timed."""
        self.stop()
        self._start(n)
        return lambda: sum(len(tokens) for tokens in self._all(n).values())

    def tokens(self, n: int) -> dict[str, list[int]]:
        """What `n` callers are answered, by number."""
        self.together(n)
        return self._all(n)

    def stop(self) -> None:
        """End the manager; the model is as it was."""
        if self._manager is None:
            return
        for handle in self._handles:
            handle.remove()
        self._manager.stop(block=True)
        self._manager.destroy()
        self._manager = None
        self._model.hf.set_attn_implementation("sdpa")

    def _start(self, n: int) -> None:
        settings = GenerationConfig(
            do_sample=False,
            max_new_tokens=self._callers.new_tokens,
            eos_token_id=-1,
            pad_token_id=0,
        )
        batching = ContinuousBatchingConfig(
            page_size=PAGE, num_blocks=PAGES, max_batch_tokens=BATCH, allow_block_sharing=False,
            use_cuda_graph=False, use_async_batching=False, per_request_processors=False,
        )  # fmt: skip
        model: Any = self._model.hf
        self._manager = model.init_continuous_batching(
            settings, continuous_batching_config=batching
        )
        self._added = {str(i): self._callers.hook(i) for i in range(n)}
        self._handles = [self._hook(name) for name in {name for name, _ in self._added.values()}]
        self._manager.warmup()
        self._manager.start()

    def _hook(self, name: str) -> Any:
        site = self._model.site(name)

        def visit(state: torch.Tensor) -> torch.Tensor:
            added = [self._of(one, name, state) for one in self._present()]
            # What is behind the last request is padding.
            return state + torch.cat(added)[None, : state.shape[1]] if added else state

        return add_hook(self._model.hf.get_submodule(site.module), site.side, visit)

    def _present(self) -> list[Any]:
        """Requests of the forward under way, in the order of their tokens."""
        return self._manager.batch_processor.inputs_and_outputs.requests_in_batch

    def _of(self, request: Any, name: str, state: torch.Tensor) -> torch.Tensor:
        own, vector = self._added.get(request.state.request_id, ("", state.new_zeros(1)))
        rows = request.query_length
        if own != name:
            return state.new_zeros(rows, state.shape[-1])
        return vector.expand(rows, -1)

    def _all(self, n: int) -> dict[str, list[int]]:
        for i in range(n):
            ids = encode_text(self._model, self._callers.prompts[i])
            self._manager.add_request(
                ids, request_id=str(i), max_new_tokens=self._callers.new_tokens
            )
        found: dict[str, list[int]] = {}
        while len(found) < n:
            answer = self._manager.get_result(timeout=1)
            if answer is not None and answer.is_finished():
                found[answer.request_id] = answer.generated_tokens
            elif answer is None and not self._manager.is_running():
                raise RuntimeError("continuous batching ended before its answers")
        return found


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=list(MODELS), default="32m")
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="saescope-bench-") as scratch:
        callers = Callers(MODELS[options.model](Path(scratch)), options.new_tokens)
        engine, theirs = Engine(callers), ContinuousBatching(callers)
        tokens = theirs.tokens(4)
        theirs.stop()
        same = sum(engine.tokens(int(i)) == own for i, own in tokens.items())
        print(f"{same} of 4 callers get the same tokens from both")
        table = Table(f"{callers.case.name}, tokens/s", "engine", "continuous batching", "ratio")
        for n in options.callers:
            ours = _rates(options.repeats, n, engine, theirs)
            theirs.stop()
            row = (*ours, ours[0] / ours[1])
            table.add_row(f"{n} callers", *(f"{value:,.2f}" for value in row))
        Console().print(table)


def _rates(repeats: int, n: int, engine: Engine, theirs: ContinuousBatching) -> list[float]:
    def ours() -> Run:
        theirs.stop()  # its thread, its hooks and its attention
        return engine.together(n)

    found = in_turns(repeats, {"ours": ours, "theirs": lambda: theirs.together(n)})
    return [found["ours"].rate, found["theirs"].rate]


if __name__ == "__main__":
    main()
