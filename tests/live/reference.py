"""The same answers by TransformerLens and SAELens alone, one request at a time.

Every token comes from a full forward over all tokens so far, with hooks that write the formulas of
`app.contract.steering` down as they stand. Activations are SAELens' own, times the length of the
feature's decoder row.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
from transformers import AutoModelForCausalLM

from app.contract.steering import Intervention
from tests.live.world import World, entry

NEAR = 1e-5


def by_bridge(world: World) -> "Reference":
    """The Bridge over the model's folder. Its resid_mid is what the MLP reads, and no more."""
    return Reference(
        world,
        TransformerBridge.boot_transformers(str(world.folder), device="cpu", dtype=torch.float32),
    )


def by_hooked_transformer(world: World) -> "Reference":
    """HookedTransformer, where resid_mid is the residual stream itself. For a GPT-2."""
    hf = AutoModelForCausalLM.from_pretrained(world.folder)
    config = HookedTransformerConfig(
        n_layers=hf.config.n_layer,
        d_model=hf.config.n_embd,
        n_ctx=hf.config.n_positions,
        d_head=hf.config.n_embd // hf.config.n_head,
        n_heads=hf.config.n_head,
        d_mlp=hf.config.n_inner,
        d_vocab=hf.config.vocab_size,
        act_fn="gelu_new",
        normalization_type="LN",
        eps=hf.config.layer_norm_epsilon,
    )
    model = HookedTransformer(config)
    model.load_and_process_state_dict(
        convert_gpt2_weights(hf, config),
        fold_ln=False,
        center_writing_weights=False,
        center_unembed=False,
        fold_value_biases=False,
    )
    return Reference(world, model)


@dataclass
class Reference:
    """One world, through a model of TransformerLens."""

    world: World
    model: TransformerBridge | HookedTransformer

    @torch.no_grad()
    def logits(self, ids: list[int], prompt: int, entries: list[Intervention]) -> torch.Tensor:
        """Logits after the last of `ids`, of which the first `prompt` are the prompt."""
        hooks = self._all_hooks(entries, ids, prompt)
        return self.model.run_with_hooks(torch.tensor([ids]), fwd_hooks=hooks)[0, -1]

    @torch.no_grad()
    def around(
        self, ids: list[int], prompt: int, entries: list[Intervention], hook_name: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """States of all tokens at a hook point, in front of the entries and behind them."""
        seen: list[torch.Tensor] = []

        def keep(state: torch.Tensor, hook: object) -> None:
            seen.append(state.flatten(2)[0].clone())

        hooks = self._all_hooks(entries, ids, prompt)
        around = [(hook_name, keep), *hooks, (hook_name, keep)]
        self.model.run_with_hooks(torch.tensor([ids]), fwd_hooks=around)
        return seen[0], seen[1]

    def generate(
        self,
        prompt: list[int],
        entries: list[Intervention],
        new: int,
        draw: Callable[[torch.Tensor], int] | None = None,
    ) -> list[int]:
        """Tokens of one answer; greedy, or as `draw` chooses from logits."""
        ids = list(prompt)
        for _ in range(new):
            logits = self.logits(ids, len(prompt), entries)
            ids.append(int(logits.argmax()) if draw is None else draw(logits))
        return ids[len(prompt) :]

    def _all_hooks(
        self, entries: list[Intervention], ids: list[int], prompt: int
    ) -> list[tuple[str, Callable]]:
        """In the order of the entries, except that conditions on the steered site come first."""
        hooks = [self._hooks(e, ids, prompt) for e in entries]
        first = [own.pop(0) for own in hooks if len(own) == 3 and own[0][0] == own[2][0]]
        return [*first, *(hook for own in hooks for hook in own)]

    def _hooks(self, e: Intervention, ids: list[int], prompt: int) -> list[tuple[str, Callable]]:
        target = self._target(e)
        seen: list[torch.Tensor] = []
        is_open = torch.ones(1, len(ids), dtype=torch.bool)
        if e.skip_special_tokens:
            is_open &= ~torch.isin(torch.tensor(ids), torch.tensor([*self.world.model.special_ids]))
        condition = e.when and self._target(entry(sae=e.when.sae, feature=e.when.feature))

        def read(state: torch.Tensor, hook: object) -> None:
            seen.append(target.activation(state.flatten(2)))

        def read_condition(state: torch.Tensor, hook: object) -> None:
            is_open.logical_and_(condition.activation(state.flatten(2)) > e.when.above)

        def steer(state: torch.Tensor, hook: object) -> torch.Tensor:
            h = state.flatten(2)
            where = torch.arange(h.shape[1])
            acts = {"all": where >= 0, "prompt": where < prompt, "generated": where >= prompt}
            steered = _formula(e, h, target.direction, seen[-1])
            return torch.where((acts[e.positions] & is_open)[..., None], steered, h).view_as(state)

        first = [(condition.reads, read_condition)] if condition else []
        return [*first, (target.reads, read), (target.writes, steer)]

    def _target(self, e: Intervention) -> "Target":
        if e.hook is not None and e.vector is not None:
            d = torch.tensor(e.vector)
            return Target(
                e.hook, e.hook, d if e.method == "add" else d / d.norm(), lambda h: h[..., 0]
            )
        assert e.sae is not None and e.feature is not None
        if e.sae.endswith("-mlp"):
            d = torch.zeros(self.world.model.d_mlp)
            d[e.feature] = 1
            hook = f"blocks.{e.sae[0]}.mlp.hook_post"
            return Target(hook, hook, d, lambda h: h[..., e.feature])
        sae = self.world.sae_lens(e.sae)
        row = sae.W_dec[e.feature].detach()
        reads = sae.cfg.metadata.hook_name
        return Target(
            reads,
            sae.cfg.metadata.hook_name_out or reads,
            row / row.norm(),
            lambda h: sae.encode(h)[..., e.feature] * row.norm(),
        )


class Target(NamedTuple):
    """What an entry works on."""

    reads: str
    writes: str
    direction: torch.Tensor
    activation: Callable[[torch.Tensor], torch.Tensor]


def _formula(
    e: Intervention, h: torch.Tensor, d: torch.Tensor, activation: torch.Tensor
) -> torch.Tensor:
    along = (h @ d)[..., None]
    match e.method:
        case "add":
            return h + e.amount * d
        case "clamp":
            return h + (e.amount - activation[..., None]) * d
        case "ablate":
            return h - activation[..., None] * d
        case "orthogonal":
            return h + (e.amount - 1) * along * d
        case "cap":
            return h - (along - e.amount).clamp(min=0) * d


def uniform_draw(
    seed: int, temperature: float, top_p: float = 1.0, top_k: int | None = None
) -> Callable[[torch.Tensor], int]:
    """Sampling by its definition, over the fully sorted vocabulary, in double precision."""
    numbers = random.Random(seed)

    def draw(logits: torch.Tensor) -> int:
        return int((cumulative(logits, temperature, top_p, top_k) > numbers.random()).nonzero()[0])

    return draw


def cumulative(
    logits: torch.Tensor, temperature: float, top_p: float = 1.0, top_k: int | None = None
) -> torch.Tensor:
    """Cumulative distribution over token ids."""
    p = (logits.double() / temperature).softmax(-1)
    order = p.sort(descending=True, stable=True).indices
    kept = order[: top_k or len(order)]
    share = p[kept] / p[kept].sum()
    before = share.cumsum(0) - share
    nucleus = kept[before < top_p]
    q = torch.zeros_like(p)
    q[nucleus] = p[nucleus] / p[nucleus].sum()
    return q.cumsum(0)


Edge = Callable[[torch.Tensor, int], float]
"""A draw's distance to a CDF edge, from the logits and the number of the token."""


def draw_edge(seed: int, *settings: float) -> Edge:
    """For `uniform_draw` of the same arguments."""

    def edge(logits: torch.Tensor, step: int) -> float:
        numbers = random.Random(seed)
        uniform = [numbers.random() for _ in range(step + 1)][-1]
        return float((cumulative(logits, *settings) - uniform).abs().min())

    return edge


def check_same(
    reference: Reference,
    prompt: list[int],
    entries: list[Intervention],
    ours: list,
    theirs: list[int],
    edge: Edge | None = None,
    show: Callable[[int], object] = int,
) -> None:
    """Fail unless `ours` is what `show` makes of `theirs`, up to a near tie, which is printed.

    A greedy text, without `edge`, is near a tie where the two top logits are.
    """
    shown = [show(token) for token in theirs]
    if ours == shown:
        return
    step = next((i for i, pair in enumerate(zip(ours, shown, strict=False)) if len({*pair}) > 1), 0)
    logits = reference.logits([*prompt, *theirs[:step]], len(prompt), entries)
    first, second = logits.topk(2).values.tolist()
    distance = first - second if edge is None else edge(logits, step)
    print(f"near tie at token {step}: {ours[step]} or {shown[step]}, distance {distance:.1e}")
    assert distance < NEAR, (step, ours, shown, distance)
