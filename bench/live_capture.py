"""Activations of new texts in this process: together, one at a time, beside full forwards; one feature
of a wide SAE beside all of them; and what a capture costs beside a bare forward.

Whoever asks for one feature is compared with full forwards alone, who asks for the strongest of all
with full forwards and a plain encode of each text: the least that gives the same answer without a
batch.

States of recent texts are kept by the product, so every turn has texts that were never seen. How much
faster a text is the second time is printed apart.
"""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import torch

from bench.live_models import Case, save_sae
from bench.live_peers import Peers
from bench.report import promise
from bench.timing import Run, in_turns
from worker.activations import capture
from worker.live.capture import CaptureJob, CaptureQueue
from worker.live.kinds import OfSae, Reading
from worker.saes import Dictionary, load_sae
from worker.tokens import encode_text

CALLERS = 32
WIDE = 65_536


class Texts:
    """Texts, none twice."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._seeds = count(1)

    def texts(self, n: int) -> list[str]:
        """The next `n`."""
        return self._case.texts(n, next(self._seeds))

    def take(self, n: int) -> list[list[int]]:
        """The next `n` as token ids."""
        return [encode_text(self._case.model, text) for text in self.texts(n)]


class Captures:
    """The capture queue of a model, as the live worker has it."""

    def __init__(self, case: Case) -> None:
        self._queue = CaptureQueue(case.model)
        self._fresh = Texts(case)

    def together(self, reading: Reading) -> Run:
        """Fresh texts of all callers at once."""
        texts = self._fresh.take(CALLERS)
        return lambda: self._together(texts, reading)

    def apart(self, reading: Reading) -> Run:
        """The same one after another."""
        texts = self._fresh.take(CALLERS)
        return lambda: [self._together([text], reading) for text in texts]

    def again(self, reading: Reading) -> Run:
        """As `together`, but every text was just read."""
        texts = self._fresh.take(CALLERS)
        self._together(texts, reading)
        return lambda: self._together(texts, reading)

    def _together(self, texts: list[list[int]], reading: Reading) -> None:
        for text in texts:
            self._queue.submit(CaptureJob([text], [reading]))
        while self._queue.waiting:
            self._queue.step()


def measure(case: Case, peers: Peers, folder: Path, repeats: int) -> None:
    """Record the promises, print the rest."""
    wide = load_sae("wide", save_sae(folder / f"{case.model.id}-wide", case.model, WIDE))
    captures, fresh = Captures(case), Texts(case)
    top, all_of_wide = _reading(case.dictionary, None), _reading(wide, None)
    hook = case.dictionary.hook_name

    def each(work: Callable[[torch.Tensor], object]) -> Run:
        texts = [torch.tensor([ids]) for ids in fresh.take(CALLERS)]
        return lambda: [work(ids) for ids in texts]

    def forward(ids: torch.Tensor) -> None:
        with torch.inference_mode():
            case.model.hf(ids, use_cache=False)

    def forward_and_encode(ids: torch.Tensor) -> None:
        with torch.inference_mode():
            forward(ids)
            case.dictionary.encode(torch.zeros(ids.shape[1], case.dictionary.d_in))

    def states() -> Run:
        ids = torch.tensor(fresh.take(CALLERS))
        return lambda: capture(case.model, ids, [hook])

    seconds = {name: timing.seconds for name, timing in in_turns(repeats, {
        "together": lambda: captures.together(top),
        "one at a time": lambda: captures.apart(top),
        "one feature": lambda: captures.together(_reading(case.dictionary, (7,))),
        "same texts again": lambda: captures.again(top),
        "65 k, full width": lambda: captures.together(all_of_wide),
        "65 k, one feature": lambda: captures.together(_reading(wide, (7,))),
        "states in one batch": states,
        "full forwards": lambda: each(forward),
        "full forwards, encoded": lambda: each(forward_and_encode),
        "capture alone": lambda: each(lambda ids: capture(case.model, ids, [hook])),
        "TransformerLens": lambda: each(lambda ids: peers.run_with_cache(ids, hook)),
    }).items()}  # fmt: skip
    shown = {name: round(value, 3) for name, value in seconds.items()}
    print(f"{case.name}, seconds for {CALLERS} texts: {shown}")
    promise("activations 32 callers over one", case.name,
            seconds["one at a time"] / seconds["together"], ">= 1.8")  # fmt: skip
    for asked, peer, ours in (
        ("one feature", "full forwards", "one feature"),
        ("strongest of all", "full forwards, encoded", "together"),
    ):
        promise("activations 32 callers over full forwards", f"{case.name}, {asked}",
                seconds[peer] / seconds[ours], ">= 4.5")  # fmt: skip
    promise("one feature over full width", f"{case.name}, 65 k",
            seconds["65 k, one feature"] / seconds["65 k, full width"], "<= 0.8")  # fmt: skip
    full = seconds["full forwards"]
    print(
        f"  same texts again: {seconds['together'] / seconds['same texts again']:.1f} times as fast; "
        f"over full forwards: states in one batch, not encoded, "
        f"{full / seconds['states in one batch']:.2f}; of a full forward, a capture takes "
        f"{seconds['capture alone'] / full:.2f}, run_with_cache {seconds['TransformerLens'] / full:.2f}",
        flush=True,
    )


def _reading(dictionary: Dictionary, features: tuple[int, ...] | None) -> Reading:
    return OfSae("sae", dictionary, features, 8)
