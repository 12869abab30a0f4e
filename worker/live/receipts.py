"""Making receipts (`worker.live.receipt`), beside the batch and a piece a step."""

from collections import defaultdict

import torch
from jaxtyping import Float

from app.errors import Invalid
from worker.live.answer import Answer, Generation
from worker.live.forward import BatchForward
from worker.live.hooks import Tap
from worker.live.receipt import Receipt
from worker.live.steering import DECODE, PREFILL
from worker.live.turns import in_turns
from worker.saes import Dictionary

_LOGITS = 2**24
"""Logits in memory at a time, by row."""


class Receipts:
    """Answers whose receipts are to be made, one after another, a piece a step; requests take
    turns."""

    def __init__(self, forward: BatchForward, piece_tokens: int) -> None:
        self._forward = forward
        self._size = max(1, min(piece_tokens, _LOGITS // forward.model.vocab_size))
        self._waiting: list[tuple[Generation, _Maker]] = []
        self._made: set[Generation] = set()

    @property
    def generations(self) -> set[Generation]:
        """Those that wait for a receipt, or have one, until they are dropped."""
        return {generation for generation, _ in self._waiting} | self._made

    @property
    def first(self) -> Generation | None:
        """The one whose receipt is under way."""
        return self._waiting[0][0] if self._waiting else None

    def add(self, generation: Generation, answer: Answer) -> None:
        """Queue a finished answer; the receipt that is under way stays the first."""
        self._waiting = in_turns([*self._waiting, (generation, _Maker(answer))])

    def drop(self, generation: Generation) -> None:
        """Forget a generation."""
        self._made.discard(generation)
        if self.first is generation:
            self._forward.vacate(self._forward.receipt_room)
        self._waiting = [one for one in self._waiting if one[0] is not generation]

    def step(self) -> None:
        """Process one piece; what the model raises comes out."""
        generation, maker = self._waiting[0]
        if maker.advance(self._forward, self._size):
            self._forward.vacate(self._forward.receipt_room)
            self._waiting.pop(0)
            self._made.add(generation)


class _Maker:
    """One receipt, as far as it is made."""

    def __init__(self, answer: Answer) -> None:
        self._answer, self._receipt = answer, Receipt()
        self._tokens, self._prompt = answer.prompt + answer.tokens, len(answer.prompt)
        self._done = 0

    def advance(self, forward: BatchForward, size: int) -> bool:
        """Process up to `size` tokens of one phase; whether that was the last piece."""
        begin, edits = self._done, self._answer.edits
        generated = begin >= self._prompt
        end = min(begin + size, len(self._tokens) if generated else self._prompt)
        if begin == 0:
            forward.prepare(forward.receipt_room, [edits, ()])
        logits = forward.piece(
            forward.receipt_room,
            self._tokens[begin:end],
            begin,
            DECODE if generated else PREFILL,
            keep=end - begin if generated else 1,
            tap={hook for edit in edits for hook in edit.hooks},
        )
        for error in forward.failed.values():
            raise error
        self._note_features(forward.tapped)
        for hook in dict.fromkeys(edit.hook for edit in edits):
            self._note_site(hook, *forward.tapped[hook])
        self._note_logits(logits, end)
        self._done = end
        if end == len(self._tokens):
            self._answer.receipt = self._finished()
        return end == len(self._tokens)

    def _finished(self) -> Receipt:
        if not self._receipt.is_finite:
            raise Invalid(
                f"What steering does to `{self._answer.name}` is no longer finite; use smaller "
                "strengths."
            )
        return self._receipt

    def _note_features(self, tapped: dict[str, Tap]) -> None:
        """Every dictionary encodes once for all entries that steer its features."""
        steered: dict[Dictionary, list[int]] = defaultdict(list)
        for place, edit in enumerate(self._answer.edits):
            if edit.dictionary is not None:
                steered[edit.dictionary].append(place)
        for dictionary, places in steered.items():
            states = torch.stack(tapped[dictionary.hook_name])
            features = torch.tensor(
                [self._answer.edits[place].feature for place in places], device=states.device
            )
            read = dictionary.encode_columns(states.flatten(0, 1).float(), features)
            before, after = read.view(*states.shape[:2], -1).permute(0, 2, 1).tolist()
            for place, own, others in zip(places, before, after, strict=True):
                self._receipt.features[place].before += own
                self._receipt.features[place].after += others

    def _note_site(
        self, hook: str, before: Float[torch.Tensor, "t w"], after: Float[torch.Tensor, "t w"]
    ) -> None:
        site, before, after = self._receipt.sites[hook], before.double(), after.double()
        norms = before.norm(dim=1), after.norm(dim=1)
        site.norm_before += norms[0].tolist()
        site.norm_after += norms[1].tolist()
        cosine = (before * after).sum(1) / (norms[0] * norms[1]).clamp(min=1e-30)
        angle = cosine.clamp(-1, 1).acos().rad2deg()
        site.angle += angle.masked_fill((before == after).all(1), 0).tolist()

    def _note_logits(self, logits: Float[torch.Tensor, "2 t v"], end: int) -> None:
        """Logits at the last tokens before `end`; those that an answer's token follows count."""
        first = max(end + 1 - logits.shape[1], self._prompt)
        own = torch.tensor(self._tokens[first : end + 1], device=logits.device)[:, None]
        counted = logits[:, first - end - 1 :][:, : len(own)] if len(own) else logits[:, :0]
        steered, unsteered = counted.log_softmax(-1)
        # Rounding can bring a divergence of almost nothing below 0.
        divergence = (steered.exp() * (steered - unsteered)).sum(-1).clamp(min=0)
        self._receipt.kl += divergence.tolist()
        self._receipt.steered += steered.gather(1, own)[:, 0].tolist()
        self._receipt.unsteered += unsteered.gather(1, own)[:, 0].tolist()
