"""Steering entries, checked against the model and compiled to edits of one form.

At a site with state h, along a direction d, every method of DESIGN's table is h + k d with

    k = push + turn (h·d) + cut max(0, h·d - cap) + read a

add: push = c; clamp: push = c, read = -1; ablate: read = -1; orthogonal: turn = strength - 1;
cap: cut = -1, cap = c. a is the feature's activation (folded units) and d its unit decoder row, so
that clamp and ablate keep the SAE's error. A caller's vector is added as given, c v, as Neuronpedia
does; orthogonal and cap are about a direction, so there d = v / |v|.

An entry may be gated, which makes k 0 at some tokens: at special ones, or where another feature's
activation at the token, as it is in front of all entries at the site, is not above a threshold.

A position is that of the token being processed: prompt is [0, len(prompt)), generated from
len(prompt) on. The first generated token is predicted at the prompt's last position, so
`generated` can change the second one at the earliest.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float

from app.contract.steering import Gate as WireGate
from app.contract.steering import Intervention, Positions
from app.errors import Invalid
from worker.models import LanguageModel
from worker.resid_mid import is_resid_mid
from worker.saes import Dictionary
from worker.sites import STEERABLE_HOOKS, is_steerable

PREFILL, DECODE = 0, 1
"""Phases of a row: its prompt is processed in a prefill, every later token in a decode step."""

_PHASES: dict[Positions, tuple[bool, bool]] = {
    "all": (True, True),
    "prompt": (True, False),
    "generated": (False, True),
}


@dataclass(frozen=True)
class Terms:
    """Coefficients of the formula above."""

    push: float = 0.0
    turn: float = 0.0
    cut: float = 0.0
    cap: float = 0.0
    read: float = 0.0

    @property
    def values(self) -> list[float]:
        """In the order in which the kernel takes them."""
        return [self.push, self.turn, self.cut, self.cap, self.read]


@dataclass(frozen=True, eq=False)
class Gate:
    """Where an edit acts: at tokens at which a feature's activation is above a threshold."""

    dictionary: Dictionary
    feature: int
    above: float


@dataclass(frozen=True, eq=False)
class Edit:
    """One compiled entry."""

    hook: str
    direction: Float[torch.Tensor, "w"]
    """d, in float32."""
    terms: Terms
    phases: tuple[bool, bool]
    """Whether it acts in PREFILL and in DECODE."""
    dictionary: Dictionary | None = None
    """Whose feature it steers; its activation is read for clamp and ablate."""
    feature: int = 0
    skips_special: bool = False
    """Whether it leaves special tokens alone."""
    gate: Gate | None = None

    @property
    def read(self) -> list[Dictionary]:
        """Dictionaries whose activations it needs."""
        gates = [self.gate.dictionary] if self.gate else []
        return gates + ([self.dictionary] if self.dictionary and self.terms.read else [])

    @property
    def hooks(self) -> set[str]:
        """Where it steers, and where the feature that it steers reads."""
        return {self.hook} | ({self.dictionary.hook_name} if self.dictionary else set())


def compile_edits(
    entries: list[Intervention],
    model: LanguageModel,
    dictionaries: dict[str, Dictionary],
    exact_mid: frozenset[str],
    order: dict[str, int],
) -> tuple[Edit, ...]:
    """Check every entry and compile it; `exact_mid` are the resid_mid that can be steered, `order`
    the places of hook points in a forward.

    Raises `Invalid` for an entry that cannot be applied, naming it by its place.
    """
    return tuple(
        _Compiler(f"steering[{i}]", model, exact_mid, order).compile(entry, dictionaries)
        for i, entry in enumerate(entries)
    )


@dataclass(frozen=True)
class _Compiler:
    where: str
    model: LanguageModel
    exact_mid: frozenset[str]
    order: dict[str, int]

    def compile(self, entry: Intervention, dictionaries: dict[str, Dictionary]) -> Edit:
        edit = self._target(entry, dictionaries)
        if entry.when is None:
            return edit
        return replace(edit, gate=self._gate(entry.when, edit.hook, dictionaries))

    def _gate(self, when: WireGate, hook: str, dictionaries: dict[str, Dictionary]) -> Gate:
        dictionary = dictionaries[when.sae]
        check_feature(f"{self.where}.when", dictionary, when.feature)
        if self.order[dictionary.hook_name] > self.order[hook]:
            raise Invalid(
                f"{self.where}.when: {dictionary.id} reads at {dictionary.hook_name}, which a "
                f"forward reaches only after {hook}, where this entry steers; take a condition on "
                "an earlier site."
            )
        return Gate(dictionary, when.feature, when.above)

    def _target(self, entry: Intervention, dictionaries: dict[str, Dictionary]) -> Edit:
        if not abs(entry.amount) <= torch.finfo(torch.float32).max:
            raise Invalid(f"{self.where}: the amount must be a finite 32-bit number.")
        if entry.sae is not None and entry.feature is not None:
            return self._feature(entry, dictionaries[entry.sae], entry.feature)
        if entry.hook is not None and entry.vector is not None:
            return self._vector(entry, entry.hook, entry.vector)
        raise Invalid(f"{self.where}: give either `sae` and `feature`, or `hook` and `vector`.")

    def _feature(self, entry: Intervention, dictionary: Dictionary, feature: int) -> Edit:
        check_feature(self.where, dictionary, feature)
        if not dictionary.steerable:
            raise Invalid(
                f"{self.where}: {dictionary.id} cannot be steered: {dictionary.steerable_reason}"
            )
        self._check_site(dictionary.hook_out)
        if self.order[dictionary.hook_name] > self.order[dictionary.hook_out]:
            raise Invalid(
                f"{self.where}: {dictionary.id} writes at {dictionary.hook_out} and reads at "
                f"{dictionary.hook_name}, which a forward reaches only later; steer by a vector there."
            )
        index = torch.tensor([feature], device=self.model.device)
        return Edit(
            hook=dictionary.hook_out,
            direction=dictionary.directions(index)[0].float(),
            terms=_terms(entry),
            phases=_PHASES[entry.positions],
            dictionary=dictionary,
            feature=feature,
            skips_special=entry.skip_special_tokens,
        )

    def _vector(self, entry: Intervention, hook: str, vector: list[float]) -> Edit:
        if entry.method in ("clamp", "ablate"):
            raise Invalid(
                f"{self.where}: `{entry.method}` needs the activation of a feature; a vector can "
                "be used with add, orthogonal or cap."
            )
        self._check_site(hook)
        width = self.model.site(hook).width
        if len(vector) != width:
            raise Invalid(
                f"{self.where}: the vector has {len(vector)} numbers, {hook} has {width}."
            )
        direction = torch.tensor(vector, dtype=torch.float32, device=self.model.device)
        if not bool(direction.isfinite().all()):
            raise Invalid(f"{self.where}: the vector must consist of finite numbers.")
        if entry.method != "add":
            direction = self._unit(entry, direction)
        return Edit(
            hook,
            direction,
            _terms(entry),
            _PHASES[entry.positions],
            skips_special=entry.skip_special_tokens,
        )

    def _unit(
        self, entry: Intervention, vector: Float[torch.Tensor, "w"]
    ) -> Float[torch.Tensor, "w"]:
        length = vector.norm()
        if float(length) == 0 or not math.isfinite(float(length)):
            raise Invalid(
                f"{self.where}: `{entry.method}` needs a direction; the vector's length is "
                f"{float(length):g}."
            )
        return vector / length

    def _check_site(self, hook: str) -> None:
        self.model.site(hook)
        if not is_steerable(hook):
            allowed = ", ".join(STEERABLE_HOOKS)
            raise Invalid(f"{self.where}: {hook} cannot be steered; these can: {allowed}.")
        if is_resid_mid(hook) and hook not in self.exact_mid:
            raise Invalid(
                f"{self.where}: {hook} cannot be steered, because this block's output is not "
                "resid_mid plus mlp_out; steer hook_attn_out or hook_resid_post instead."
            )


def check_feature(where: str, dictionary: Dictionary, feature: int) -> None:
    """Raise `Invalid` unless the dictionary has this feature."""
    if not 0 <= feature < dictionary.d_sae:
        raise Invalid(
            f"{where}: {dictionary.id} has no feature {feature}; its features are 0 to "
            f"{dictionary.d_sae - 1}."
        )


def _terms(entry: Intervention) -> Terms:
    match entry.method:
        case "add":
            return Terms(push=entry.amount)
        case "clamp":
            return Terms(push=entry.amount, read=-1.0)
        case "ablate":
            return Terms(read=-1.0)
        case "orthogonal":
            return Terms(turn=entry.amount - 1)
        case "cap":
            return Terms(cut=-1.0, cap=entry.amount)
