"""Weight processing that an SAE was trained under, mapped at its site.

HookedTransformer can rewrite a model's weights when it loads it, without changing its output, and
an SAE records the options. At our plain model's hook points they amount to this:

| option | effect |
|---|---|
| center_writing_weights | LayerNorm models: the mean over d_model is subtracted from the residual stream and all that is written to it; nothing elsewhere, nothing in RMSNorm models |
| fold_ln | changes only what norms put out |
| fold_value_biases | moves a constant from values to the attention output: hook_v and hook_z |
| refactor_factored_attn_matrices | another basis inside attention heads |
| center_unembed | changes only logits |
"""

from app.errors import Invalid
from worker.models import LanguageModel
from worker.sae_folder import SaeFacts

_WRITTEN = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "hook_mlp_out")
_UNMAPPED = {
    "fold_ln": (".ln",),
    "fold_value_biases": (".attn.hook_v", ".attn.hook_z", ".attn.v.", ".attn.o.hook_in"),
    "refactor_factored_attn_matrices": (".attn.",),
}
"""Options and the hook points that they change in a way that is not undone here."""


def is_centred(facts: SaeFacts, model: LanguageModel | None) -> bool:
    """Whether an SAE reads centred vectors.

    Raises:
        Invalid: its model was processed in a way that cannot be mapped at its hook points.
    """
    hooks = (facts.hook_name, facts.hook_out)
    for option, changed in _UNMAPPED.items():
        if facts.processing.get(option) and any(part in hook for part in changed for hook in hooks):
            raise Invalid(
                f"The SAE was trained on {facts.hook_name} of a model loaded with {option}, which "
                "changes the values there; give one that was trained without it."
            )
    layer_norm = model is None or model.layer_norm
    centring = bool(facts.processing.get("center_writing_weights")) and layer_norm
    return centring and facts.hook_name.endswith(_WRITTEN)
