"""One hook per site in use, which applies every row's edits at that site to the batch.

Edits of a row at a site are applied in order: the k-th edits of all rows form rank k, held in
buffers of fixed address with one entry a slot, and the ranks run one after the other. A row without
a k-th edit has zeros there, so it is unchanged. Rows are contiguous, and a forward is either a
prefill or a decode step, so `prompt` and `generated` are two sets of coefficients and need no mask.

Hooks stay on the shared modules; outside of `Steering.during` they do nothing, so that another
forward of the same model (activation capture) is not steered. What a dictionary raises while it
reads one row's activation is recorded for that row alone.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float, Int

from worker.live import meters
from worker.live.plan import RECORDED_RANKS, Plan, grown
from worker.live.rank import Gates, Rank, Use
from worker.live.reader import Reader
from worker.live.sharing import Sharing
from worker.live.steering import DECODE, Edit
from worker.models import LanguageModel
from worker.resid_mid import put
from worker.sites import add_hook

log = logging.getLogger(__name__)


Tap = tuple[Float[torch.Tensor, "t w"], Float[torch.Tensor, "t w"]]
"""The states of one row at a site, in front of its edits and behind them."""


class SteeredSite:
    """The hook at one site."""

    def __init__(self, steering: "Steering", hook_name: str) -> None:
        self.name = hook_name
        self.ranks: list[Rank] = []
        self.watched = False
        """Whether a dictionary that writes elsewhere reads its activation here (transcoders)."""
        self._steering = steering
        site = steering.model.site(hook_name)
        self._width = site.width
        self._gates = Gates(self.ranks, steering.model.device)
        add_hook(steering.model.hf.get_submodule(site.module), site.side, self._run)

    def put(self, row: int, edits: list[Edit]) -> None:
        """Set a row's edits here; an empty list clears it."""
        self._gates.clear()
        while len(self.ranks) < len(edits):
            self.ranks.append(Rank(self._steering.slots, self._width, self._steering.model.device))
        for rank, edit in enumerate([*edits, *[None] * (len(self.ranks) - len(edits))]):
            if edit is not None or self.ranks[rank].edits[row] is not None:
                self.ranks[rank].put(row, edit)
        # Requests with many entries at one site are rare, and each rank has room for every row.
        while len(self.ranks) > RECORDED_RANKS and not any(self.ranks[-1].edits):
            self.ranks.pop()

    def _run(self, state: torch.Tensor) -> torch.Tensor | None:
        """The state after steering; None leaves it as it is."""
        view = self._steering.view
        if view is None:
            return None
        rows, phase = view
        ranks = self._acting(phase)
        steered = state
        if ranks:
            h = self._by_row(state)
            gated = any(use.gates for _, use in ranks)
            opened = self._opened(h, rows, phase) if gated else None
            for rank, use in ranks:
                if use.only_adds:
                    h = h + rank.shift[phase, rows].to(h.dtype)
                    continue
                k = self._amount(rank, use, h, rows, phase)
                if opened is not None:
                    k = k * opened[self.ranks.index(rank)]
                h = h + (k[..., None] * rank.direction[rows, None]).to(h.dtype)
            steered = self._steering.sharing.narrow(h).view_as(state)
        if self.name in self._steering.tap:
            before, after = self._by_row(state)[0].clone(), self._by_row(steered)[0].clone()
            self._steering.tapped[self.name] = before, after
        if self.watched:
            # A copy: models add to their outputs in place.
            self._steering.seen[self.name] = self._by_row(steered).clone()
        if not ranks:
            return None
        return put(self.name, state, steered)

    def _acting(self, phase: int) -> list[tuple[Rank, Use]]:
        """Ranks that act, and what each needs; in a recorded step as planned."""
        if self._steering.plan is not None:
            return list(zip(self.ranks, self._steering.plan.get(self.name, ()), strict=False))
        return [(rank, use) for rank in self.ranks if (use := rank.uses(phase)).acts]

    def _by_row(self, state: torch.Tensor) -> Float[torch.Tensor, "n t w"]:
        """Of every row, also of those that share another's."""
        rows, _ = self._steering.view or (slice(0, 0), 0)
        running = self._steering.sharing.running
        count = rows.stop - rows.start if running is None else len(running)
        return self._steering.sharing.expand(state.reshape(count, -1, self._width))

    def _amount(
        self, rank: Rank, use: Use, h: Float[torch.Tensor, "n t w"], rows: slice, phase: int
    ) -> Float[torch.Tensor, "n _"]:
        """k for every row, by the formula of `worker.live.steering`; one for all of its tokens where
        they do not differ."""
        push, turn, cut, cap, read = rank.terms[phase, :, rows]
        k = push
        if use.dots:
            along = torch.linalg.vecdot(h.float(), rank.direction[rows, None])
            k = k + turn * along + cut * torch.relu(along - cap)
        if use.reads:
            k = k + read * self._activations(rank.readers(rows, phase), h, rows.start)
        if use.skips:
            k = k * ~(rank.skips[rows] & self._steering.special())
        return k

    def _activations(
        self, readers: list[Reader], h: Float[torch.Tensor, "n t w"], first: int
    ) -> Float[torch.Tensor, "n t"]:
        """What is read at every token, 0 in rows that read nothing."""
        activations = torch.zeros(h.shape[:2], device=h.device)
        for reader in readers:
            with self._blamed_on(reader, first):
                activations[reader.rows] = reader.read(self._read_by(reader, h))
        return activations

    def _opened(
        self, reached: Float[torch.Tensor, "n t w"], rows: slice, phase: int
    ) -> Bool[torch.Tensor, "ranks n t"]:
        """Tokens at which an edit's condition holds, or has none. Conditions are read in front of all
        entries at the site, so that one entry does not decide whether the next one acts."""
        opened = torch.ones(len(self.ranks), *reached.shape[:2], dtype=torch.bool).to(
            reached.device
        )
        for gate in self._gates.readers(rows, phase):
            with self._blamed_on(gate, rows.start):
                active = gate.read(self._read_by(gate, reached)) > gate.above
                opened[gate.ranks, gate.rows] = active
        return opened

    @contextmanager
    def _blamed_on(self, reader: Reader, first: int) -> Iterator[None]:
        """What is raised inside fails the reader's rows alone."""
        try:
            yield
        except Exception as error:  # whatever it is, only these rows caused it
            meters.failed("edit")
            log.exception("Reading %s failed", reader.dictionary.id)
            self._steering.failed.update({first + i: error for i in reader.members})

    def _read_by(self, reader: Reader, h: Float[torch.Tensor, "n t w"]) -> torch.Tensor:
        """The states that a reader's dictionary reads."""
        dictionary = reader.dictionary
        return h if dictionary.hook_name == self.name else self._steering.seen[dictionary.hook_name]


class Steering:
    """The edits of all rows of one engine."""

    def __init__(self, model: LanguageModel, slots: int, sharing: Sharing) -> None:
        self.model = model
        self.slots = slots
        self.sharing = sharing
        self.view: tuple[slice, int] | None = None
        """Rows and phase of the forward under way; None outside of it."""
        self.seen: dict[str, torch.Tensor] = {}
        self.ids: torch.Tensor = torch.zeros(slots, 1, dtype=torch.long)
        """Tokens of the forward under way, [rows, tokens]."""
        self._special = torch.from_numpy(model.is_special).to(model.device)
        self.failed: dict[int, Exception] = {}
        """Rows whose edit failed in the last forward."""
        self.tap: frozenset[str] = frozenset()
        """Sites whose states are wanted of the forward under way."""
        self.tapped: dict[str, Tap] = {}
        """Those of the last forward that had any."""
        self.plan: Plan | None = None
        """That of the forward under way, if it is recorded."""
        self._grown: Plan = {}
        self._sites: dict[str, SteeredSite] = {}
        self._rows: list[tuple[Edit, ...]] = [()] * slots

    def put(self, row: int, edits: tuple[Edit, ...]) -> None:
        """Give a row its edits, in place of those that it had."""
        # Noted before and behind: should this fail in the middle, the next one clears all of it.
        self._rows[row] = (*self._rows[row], *edits)
        for hook in dict.fromkeys(edit.hook for edit in self._rows[row]):
            self._site(hook).put(row, [edit for edit in edits if edit.hook == hook])
        for edit in edits:
            for dictionary in edit.read:
                if dictionary.hook_name != edit.hook:
                    self._site(dictionary.hook_name).watched = True
        self._rows[row] = edits

    def edits(self, row: int) -> tuple[Edit, ...]:
        """The edits of a row."""
        return self._rows[row]

    def move(self, source: int, target: int) -> None:
        """Give a row the edits of another, which loses them."""
        self.put(target, self._rows[source])
        self.put(source, ())

    def planned(self) -> Plan | None:
        """What a recorded decode step has to do from now on; None while some row needs what cannot
        be recorded."""
        needed = {
            name: [rank.uses(DECODE) for rank in site.ranks] for name, site in self._sites.items()
        }
        plan = grown(self._grown, needed)
        self._grown = self._grown if plan is None else plan
        return plan

    def special(self) -> Bool[torch.Tensor, "n t"]:
        """Which tokens of the forward under way are special."""
        return self._special[self.ids]

    @contextmanager
    def during(
        self,
        rows: slice,
        phase: int,
        ids: Int[torch.Tensor, "n t"],
        tap: frozenset[str] = frozenset(),
        plan: Plan | None = None,
    ) -> Iterator[None]:
        """Steer the forward inside: it holds these tokens of these rows, in PREFILL or DECODE. The
        states of the first row at the sites `tap` are kept. A forward that is recorded has a plan."""
        self.failed.clear()
        self.tapped.clear()
        for hook in tap:
            self._site(hook)
        self.ids, self.tap, self.plan = ids, tap, plan
        self.view = (rows, phase)
        try:
            yield
        finally:
            self.view, self.tap, self.plan = None, frozenset(), None
            self.seen.clear()

    def _site(self, hook_name: str) -> SteeredSite:
        if hook_name not in self._sites:
            self._sites[hook_name] = SteeredSite(self, hook_name)
        return self._sites[hook_name]
