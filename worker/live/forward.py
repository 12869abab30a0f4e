"""Forwards of a batch of rows through the plain model: prompts once, then a token a row.

All that lies on the device is here: cache, positions, last tokens and the edits of every row, in
buffers of fixed address. Which request a row belongs to is the engine's business.
"""

import logging
from collections.abc import Collection
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from app.errors import Invalid
from worker.live.cache import CacheShape, SlotCache, causal_mask
from worker.live.hooks import Steering, Tap
from worker.live.limits import row_limit
from worker.live.plan import Plan
from worker.live.recording import Record, Recordings, recorder
from worker.live.sharing import Sharing, depth_of
from worker.live.steering import DECODE, PREFILL, Edit, Terms
from worker.live.trial import LONG, SHORT, Plain, longer
from worker.memory import memory_of
from worker.models import LanguageModel

log = logging.getLogger(__name__)

SLOTS = 64
"""Rows of a batch, where `CACHE_BYTES` hold as many."""
CACHE_BYTES = 4 * 2**30
"""Memory for keys and values of one model's rows, where that is no more than `CACHE_SHARE` of the
device; the rooms beside them come on top."""
CACHE_SHARE = 1 / 8
_ROOMS = 3


def cache_bytes(model: LanguageModel) -> int:
    """Memory for keys and values of a model's batch."""
    row = _cache_shape(model).row_bytes(model.dtype)
    return row * (_slots(row, model.device) + _ROOMS)


def _cache_shape(model: LanguageModel) -> CacheShape:
    return CacheShape.of(model.hf.config.get_text_config(), row_limit(model))


def _slots(row_bytes: int, device: torch.device) -> int:
    most = min(CACHE_BYTES, int(memory_of(device) * CACHE_SHARE))
    return min(SLOTS, max(2, most // row_bytes))


class BatchForward:
    """Rows 0 .. n-1 of a model's batch, and beside them rooms for tokens that are processed in
    pieces: one slot for a long prompt, and two for a receipt. Use under `torch.inference_mode`."""

    def __init__(
        self, model: LanguageModel, slots: int | None = None, record: Record | None = None
    ) -> None:
        """`slots` is at least 2. Decode steps are recorded by `record`, or by what the device has.

        Raises `Invalid` for a model whose cached forward does not equal its plain one.
        """
        self.model = model
        self._config = model.hf.config.get_text_config()
        shape = _cache_shape(model)
        self.max_len = shape.max_len
        self.slots = slots or _slots(shape.row_bytes(model.dtype), model.device)
        self.long_room = slice(self.slots, self.slots + 1)
        self.receipt_room = slice(self.slots + 1, self.slots + _ROOMS)
        self._sharing = Sharing(model)
        rows = self.slots + _ROOMS
        self._cache = SlotCache(shape, rows, model.device, model.dtype, self._sharing)
        self._steering = Steering(model, rows, self._sharing)
        self._position = torch.zeros(rows, dtype=torch.long, device=model.device)
        self._token = torch.zeros(rows, dtype=torch.long, device=model.device)
        self._last: torch.Tensor | None = None
        output: Any = model.hf.get_output_embeddings()
        output.register_forward_pre_hook(self._keep_last)
        record = record or recorder(model.device)
        self._recordings = record and Recordings(record, self.slots, self.max_len, model.id)
        plain = Plain(model)
        self._check_model(plain)
        self._sharing.allowed = self._can_share(plain)
        self._warm_up()

    @property
    def failed(self) -> dict[int, Exception]:
        """Rows whose own edit raised in the last forward."""
        return self._steering.failed

    @property
    def tapped(self) -> dict[str, Tap]:
        """States of the first row at the sites that the last piece tapped."""
        return self._steering.tapped

    def prefill(
        self, first: int, prompts: list[list[int]], edits: list[tuple[Edit, ...]]
    ) -> Float[torch.Tensor, "n v"]:
        """Fill rows from `first` on; logits at the last token of each prompt."""
        n = len(prompts)
        for row, own in enumerate(edits, first):
            self._steering.put(row, own)
        ids, lengths = _padded(prompts, self.model.device)
        place = torch.arange(ids.shape[1], device=ids.device)[None]
        uneven = len(set(map(len, prompts))) > 1
        self._position[first : first + n] = lengths
        self._cache.begin_prefill(
            first, n, ids.shape[1], place < lengths[:, None] if uneven else None
        )
        self._last = lengths - 1
        rows = slice(first, first + n)
        with self._steering.during(rows, PREFILL, ids), self._shared(prompts, rows, PREFILL) as run:
            # Without a mask, transformers builds one for as many rows as it is given.
            mask = None if len(run) == n else self._mask(place, ids.shape[1])
            logits = self._run(input_ids=ids[run], position_ids=place, attention_mask=mask)
        return logits[:, 0]

    def prepare(self, room: slice, edits: list[tuple[Edit, ...]]) -> None:
        """Give the rows of a room their edits, before their first piece."""
        for row, own in enumerate(edits, room.start):
            self._steering.put(row, own)

    def vacate(self, room: slice) -> None:
        """Take the edits out of a room: while they are there, every step works at their sites, and
        their dictionaries stay in memory."""
        for row in range(room.start, room.stop):
            self._steering.put(row, ())

    def piece(
        self,
        room: slice,
        tokens: list[int],
        begin: int,
        phase: int,
        *,
        keep: int = 1,
        tap: Collection[str] = (),
    ) -> Float[torch.Tensor, "n keep v"]:
        """Process more tokens, from position `begin` on, the same in all rows of a room; logits at the
        last `keep` of them."""
        count, end = room.stop - room.start, begin + len(tokens)
        ids = torch.tensor([tokens] * count).to(self.model.device)
        position = torch.arange(begin, end, device=ids.device)[None]
        self._cache.begin_piece(room, begin, end)
        with (
            self._steering.during(room, phase, ids, frozenset(tap)),
            self._shared([tokens] * count, room, phase) as run,
        ):
            return self._run(
                input_ids=ids[run],
                position_ids=position,
                attention_mask=self._mask(position, end),
                logits_to_keep=keep,
            )

    def _shared(
        self, tokens: list[list[int]], rows: slice, phase: int
    ) -> AbstractContextManager[list[int]]:
        """Rows with equal tokens share a forward as far as they are not steered."""
        depths = [
            depth_of(self._steering.edits(row), phase) for row in range(rows.start, rows.stop)
        ]
        return self._sharing.during(tokens, depths)

    def _mask(self, position: torch.Tensor, span: int) -> torch.Tensor | dict[str, torch.Tensor]:
        return causal_mask(self._config, position, span, self.model.dtype)

    def admit(self, row: int, length: int) -> None:
        """Make the long prompt that was processed, of `length` tokens, a row."""
        room = self.long_room.start
        self._cache.move(room, row, length)
        self._steering.move(room, row)
        self._position[row] = length

    def decode(self, n: int, span: int) -> Float[torch.Tensor, "n v"]:
        """Process the last token of rows 0 .. n-1, the longest of which has `span` tokens."""
        logits = self._replay(n, span)
        logits = self._step(n, span) if logits is None else logits
        self._position[:n] += 1
        return logits

    def _replay(self, n: int, span: int) -> Float[torch.Tensor, "n v"] | None:
        """The same by a recording, if there can be one."""
        plan = self._recordings and self._steering.planned()
        if not self._recordings or plan is None:
            return None
        self._steering.failed.clear()
        return self._recordings.run(plan, n, span, partial(self._step, plan=plan))

    def _step(self, n: int, span: int, plan: Plan | None = None) -> Float[torch.Tensor, "n v"]:
        position = self._position[:n]
        self._cache.begin_decode(position, span)
        ids = self._token[:n, None]
        with self._steering.during(slice(0, n), DECODE, ids, plan=plan):
            logits = self._run(
                input_ids=ids,
                position_ids=position[:, None],
                attention_mask=self._mask(position[:, None], span),
            )
        return logits[:, -1]

    def append(self, first: int, tokens: Int[torch.Tensor, "n"]) -> None:
        """Set the token that rows from `first` on process next."""
        self._token[first : first + len(tokens)] = tokens

    def leave(self, row: int, last: int, length: int, failed: bool) -> None:
        """Put the last row, of `length` tokens, in the place of one that leaves."""
        if failed:
            self._cache.clear(row)
        if row == last:
            self._steering.put(row, ())
        else:
            self._cache.move(last, row, length)
            self._steering.move(last, row)
            self._position[row] = self._position[last]
            self._token[row] = self._token[last]

    def _keep_last(
        self, _module: nn.Module, args: tuple[torch.Tensor]
    ) -> tuple[torch.Tensor] | None:
        """Logits are of every row; in a prefill, of its last state alone."""
        (state,) = args
        state = self._sharing.expand(state)
        if self._last is None:
            return (state,)
        return (state[torch.arange(len(state), device=state.device), self._last][:, None],)

    def _run(self, **inputs: torch.Tensor | dict[str, torch.Tensor] | int | None) -> torch.Tensor:
        # Sampling works in float32, whatever the model's number format.
        try:
            return self.model.hf(
                past_key_values=self._cache, use_cache=True, **inputs
            ).logits.float()
        finally:
            self._last = None

    @torch.inference_mode()
    def _warm_up(self) -> None:
        """Record what the first requests need."""
        for n in self._recordings.rows if self._recordings else ():
            self._replay(n, 1)

    @torch.inference_mode()
    def _check_model(self, plain: Plain) -> None:
        """Compare a prefill, a decode step and a prompt in pieces with plain forwards."""
        prompts = [LONG, SHORT]
        following = longer(prompts)
        try:
            cached = [self.prefill(0, prompts, [(), ()])]
            self.append(0, _last_of(following, self.model.device))
            # Beside a row of the greatest length, as far as a model can tell.
            cached.append(self.decode(2, self.max_len))
            self.piece(self.long_room, LONG[:3], 0, PREFILL)
            cached.append(self.piece(self.long_room, LONG[3:], 3, PREFILL)[:, -1])
        except Exception as error:  # an architecture that cannot do this may raise anything
            raise Invalid(f"{self.model.id} cannot generate in a batch here: {error}") from error
        if not all(map(plain.equals, cached, (prompts, following, [LONG]))):
            raise Invalid(
                f"{self.model.id} cannot generate in a batch here: with cached keys and values "
                "its logits differ from those of a plain forward."
            )

    @torch.inference_mode()
    def _can_share(self, plain: Plain) -> bool:
        """Try a prefill in which two rows split off, in the middle and at the end, by edits that change
        nothing, and a step on what it stored."""
        if not self._sharing.possible:
            return False
        self._sharing.allowed = True
        layers = self.model.n_layers
        hooks = f"blocks.{layers // 2}.hook_resid_pre", f"blocks.{layers - 1}.hook_resid_post"
        direction = torch.zeros(self.model.site(hooks[0]).width, device=self.model.device)
        edits = [(Edit(hook, direction, Terms(), (True, True)),) for hook in hooks]
        prompts = [LONG, LONG, LONG, SHORT]
        following = longer(prompts)
        try:
            found = [self.prefill(0, prompts, [*edits, (), ()])]
            self.append(0, _last_of(following, self.model.device))
            found.append(self._step(len(prompts), len(following[0])))
        except Exception as error:  # noqa: BLE001  whatever a model raises, it works without
            log.info("Rows of %s do not share a prefill: %s", self.model.id, error)
            return False
        finally:
            for row in range(len(edits)):
                self._steering.put(row, ())
        return all(map(plain.equals, found, (prompts, following)))


def _last_of(prompts: list[list[int]], device: torch.device) -> Int[torch.Tensor, "n"]:
    return torch.tensor([prompt[-1] for prompt in prompts], device=device)


def _padded(prompts: list[list[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids [n, t] right-padded with 0, lengths [n])."""
    ids = pad_sequence([torch.tensor(prompt) for prompt in prompts], batch_first=True)
    return ids.to(device), torch.tensor([len(prompt) for prompt in prompts]).to(device)
