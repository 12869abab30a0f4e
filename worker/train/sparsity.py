"""What makes activations sparse, by architecture, in SAELens' names.

A caller chooses one number. It is `l1_coefficient` for the two whose loss weighs an L1 norm, and `k`,
how many features are active at a token, for all others:

- `topk`, `abstopk`: the k strongest stay, by value or by magnitude.
- `batchtopk`, `matryoshka_batchtopk`: the k strongest of each token on average over a batch; the
  latter learns to reconstruct from the first 1/16, 1/8, 1/4, 1/2 of the features as well.
- `jumprelu`: thresholds are learned under the penalty 2/k (L0 - k)² (Gemma Scope 2).
- `matching_pursuit`: k rounds, each of which takes the feature that fits best to what is left.
- `standard`, `gated`: ReLU, or a gate and a magnitude, under an L1 norm.
"""

from typing import Any

from app.contract.jobs import Architecture, TrainSpec
from app.errors import Invalid

K = 16
L1_COEFFICIENT = 1.0
L1_ARCHITECTURES = frozenset({"standard", "gated"})
LEVELS = (16, 8, 4, 2, 1)
"""Parts of all features that a Matryoshka SAE has as levels."""


def sparsity(spec: TrainSpec, d_sae: int, steps: int) -> dict[str, Any]:
    """The settings of SAELens' configuration class that make a run sparse. Penalties warm up over a
    tenth of the run."""
    warm_up, k = steps // 10, spec.k or K
    match spec.architecture:
        case "standard" | "gated":
            weight = L1_COEFFICIENT if spec.l1_coefficient is None else spec.l1_coefficient
            return {"l1_coefficient": weight, "l1_warm_up_steps": warm_up}
        case "topk" | "abstopk":
            return {"k": k}
        case "batchtopk":
            return {"k": float(k)}
        case "matryoshka_batchtopk":
            return {"k": float(k), "matryoshka_widths": _levels(d_sae)}
        case "jumprelu":
            return {
                "jumprelu_sparsity_loss_mode": "quadratic",
                "target_l0": float(k),
                "l0_warm_up_steps": warm_up,
            }
        case "matching_pursuit":
            # Rounds end the search, not how little is left: that would differ between hook points.
            return {"max_iterations": k, "residual_threshold": 0.0, "decoder_init_norm": 1.0}


def unused_number(architecture: Architecture) -> str:
    """Which of `k` and `l1_coefficient` an architecture has no use for."""
    return "k" if architecture in L1_ARCHITECTURES else "l1_coefficient"


def check_sparsity(spec: TrainSpec, d_sae: int) -> None:
    """Raise `Invalid` for a number that the architecture has no use for, or that cannot be."""
    unused = unused_number(spec.architecture)
    if getattr(spec, unused) is not None:
        instead = "l1_coefficient" if unused == "k" else "k"
        raise Invalid(f"{spec.architecture} takes no {unused}; set {instead} instead.")
    if unused != "k" and (spec.k or K) > d_sae:
        raise Invalid(
            f"k is {spec.k or K} but the SAE has only {d_sae} features; choose k well below d_sae."
        )


def _levels(d_sae: int) -> list[int]:
    return sorted({max(1, d_sae // part) for part in LEVELS})
