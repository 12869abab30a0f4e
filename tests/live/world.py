"""A tiny model with SAEs at every site, as folders, in memory, and as SAELens loads them."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sae_lens import SAE

from app.contract.live import SteerRequest
from app.contract.steering import Intervention
from app.settings import Settings
from tests.worker.tiny import D_MLP, D_MODEL, ModelKind, save_model, save_sae, spm_tokenizer
from worker.live.answer import Generation
from worker.live.capture import CaptureQueue
from worker.live.engine import PREFILL_TOKENS, BatchEngine
from worker.live.forward import BatchForward
from worker.live.prepare import prepare_generation
from worker.live.recording import Record
from worker.live.resident import Held, Resident
from worker.models import LanguageModel, load_model, vocabulary
from worker.order import forward_order
from worker.resid_mid import find_exact_mid
from worker.saes import Dictionary, load_sae, neuron_dictionary

SITES = {
    "pre": "blocks.1.hook_resid_pre",
    "mid": "blocks.1.hook_resid_mid",
    "post": "blocks.1.hook_resid_post",
    "attn": "blocks.1.hook_attn_out",
    "out": "blocks.2.hook_mlp_out",
    "act": "blocks.1.mlp.hook_post",
    "z": "blocks.2.attn.hook_z",
}
KINDS = ("topk", "standard", "jumprelu", "gated", "abstopk", "batchtopk")
TEXTS = (
    "The old keeper climbed the stairs and lit the lamp.",
    "Two cups of flour, one egg",
    "x",
    "La mer était calme. 学 🙂",
    "def area(width, height):\n    return",
    "Prices rose by 12 percent",
)
CHAT_TEMPLATE = """{{ bos_token }}{% for message in messages %}{% if message.role == 'system' %}\
{{ raise_exception('no system messages') }}{% endif %}<{{ message.role }}> {{ message.content }}
{% endfor %}<assistant>"""


@dataclass
class World:
    """One model and its SAEs by id."""

    id: str
    folder: Path
    saes: dict[str, Path]
    dictionaries: dict[str, Dictionary] = field(default_factory=dict)

    @cached_property
    def model(self) -> LanguageModel:
        return load_model(self.id, self.folder)

    def dictionary(self, sae_id: str) -> Dictionary:
        if sae_id not in self.dictionaries:
            self.dictionaries[sae_id] = (
                neuron_dictionary(self.model, int(sae_id.split("-")[0]))
                if sae_id.endswith("-mlp")
                else load_sae(sae_id, self.saes[sae_id], model=self.model)
            )
        return self.dictionaries[sae_id]

    def sae_lens(self, sae_id: str) -> SAE[Any]:
        """The SAE as SAELens itself loads it, unfolded."""
        return SAE.load_from_disk(self.saes[sae_id], device="cpu")

    def held(
        self,
        *sae_ids: str,
        slots: int = 8,
        prefill_tokens: int = PREFILL_TOKENS,
        record: Record | None = None,
    ) -> Held:
        """The model with an engine of its own."""
        return Held(
            Resident(
                fingerprint="f",
                model=self.model,
                vocabulary=vocabulary(self.model),
                exact_mid=find_exact_mid(self.model),
                order=forward_order(self.model),
                captures=CaptureQueue(self.model),
                engine=BatchEngine(BatchForward(self.model, slots, record), prefill_tokens),
            ),
            {sae_id: self.dictionary(sae_id) for sae_id in sae_ids},
        )

    def generation(self, held: Held, prompt: str, **request: Any) -> Generation:
        """A steering request, checked and compiled."""
        request = {"interventions": [], "baseline": False, "max_new_tokens": 12} | request
        body = SteerRequest.model_validate({"model": self.id, "prompt": prompt, **request})
        return prepare_generation(body, held, Settings())


def entry(**fields: Any) -> Intervention:
    """An intervention with defaults: add, everywhere."""
    defaults = {"amount": 2.0, "method": "add", "positions": "all"}
    return Intervention.model_validate(defaults | fields)


def run(held: Held, *generations: Generation) -> None:
    """Run generations together until all have ended."""
    for generation in generations:
        held.engine.submit(generation)
    while held.engine.running or held.engine.waiting:
        held.engine.step()


def build_world(folder: Path, kind: ModelKind) -> World:
    """A random model with an SAE at every site and of every architecture."""
    # TransformerLens guesses architectures from paths, so no path says what is in it.
    tokenizer = spm_tokenizer() if kind == "llama" else None
    if tokenizer is not None:
        tokenizer.chat_template = CHAT_TEMPLATE
    model = save_model(folder / "model", kind, tokenizer=tokenizer)
    saes = {}
    for i, (name, hook) in enumerate(SITES.items()):
        d_in = D_MLP if name == "act" else D_MODEL
        saes[f"1-{name}"] = save_sae(
            folder / f"sae-{name}", KINDS[i % len(KINDS)], hook_name=hook, d_in=d_in, seed=i
        )
    for i, architecture in enumerate(KINDS):
        saes[f"1-{architecture}"] = save_sae(
            folder / f"kind-{architecture}", architecture, hook_name=SITES["post"], seed=50 + i
        )
    saes["1-transcoder"] = save_sae(
        folder / "transcoder",
        "transcoder",
        hook_name=SITES["pre"],
        metadata={"hook_name_out": "blocks.1.hook_mlp_out"},
        d_out=D_MODEL,
        apply_b_dec_to_input=False,
        seed=60,
    )
    return World(f"tiny-{folder.name}", model, saes)


def stories_world(folder: Path, model: Path) -> World:
    """stories260K with random SAEs of its width."""
    hook = "blocks.2.hook_resid_post"
    return World(
        "stories",
        model,
        {
            f"2-{kind}": save_sae(folder / kind, kind, hook_name=hook, d_in=64, d_sae=256)
            for kind in ("topk", "standard", "jumprelu")
        },
    )
