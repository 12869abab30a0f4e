"""The numbers, against the same numbers computed the slow way through the Bridge."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformer_lens.model_bridge import TransformerBridge

from app.contract.evaluation import Evaluation, MeasuredOn
from tests.worker.tiny import D_MODEL, SAE_KINDS, ModelKind, save_model, save_sae
from worker.activations import capture
from worker.evaluate import evaluate
from worker.models import LanguageModel, load_model
from worker.saes import Dictionary, load_sae, neuron_dictionary
from worker.sites import Site
from worker.tokens import Sequences

POST = "blocks.1.hook_resid_post"
LENGTHS = [12, 9, 1, 20, 2]
TEXT = "random ids"


@pytest.fixture(scope="module")
def sequences() -> Sequences:
    """Each begins with BOS (0); an EOS (1) stands inside one of them."""
    ids = np.random.default_rng(0).integers(2, 400, sum(LENGTHS))
    offsets = np.cumsum([0, *LENGTHS])
    ids[offsets[:-1]] = 0
    ids[15] = 1
    return Sequences(ids.astype(np.uint16), offsets.astype(np.int64))


def numbers(found: Evaluation) -> dict[str, float | None]:
    """What is a number of it."""
    return found.model_dump(exclude={"measured_on", "density_histogram", "concept_recovery"})


def slowly(
    bridge: TransformerBridge, dictionary: Dictionary, sequences: Sequences
) -> dict[str, float]:
    """One sequence at a time, with the Bridge's own hooks; single-token ones predict nothing."""
    x, y, active = [], [], []
    losses: dict[str, list[torch.Tensor]] = {"as it is": [], "reconstructed": [], "zero": []}
    divergence: dict[str, float] = {"as it is": 0.0, "reconstructed": 0.0, "zero": 0.0}
    for start, stop in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True):
        ids = torch.from_numpy(sequences.flat[start:stop].astype(np.int64))[None]
        plain = ids[0] > 1
        cache = bridge.run_with_cache(ids)[1]
        state, target = cache[dictionary.hook_name][0], cache[dictionary.hook_out][0]
        encoded = dictionary.encode(state)
        decoded = torch.where(plain[:, None], dictionary.decode(encoded, state), target)
        x.append(target[plain])
        y.append(decoded[plain])
        active.append(encoded[plain] != 0)
        edits = {
            "as it is": [],
            "reconstructed": [(dictionary.hook_out, lambda t, hook, new=decoded: new[None])],
            "zero": [(dictionary.hook_out, lambda t, hook: t * 0)],
        }
        for name, hooks in edits.items():
            logits = bridge.run_with_hooks(ids, fwd_hooks=hooks)[0, :-1]
            loss = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
            losses[name].append(loss[plain[:-1]])
            log_p = logits[plain[:-1]].double().log_softmax(-1)
            if name == "as it is":
                own = log_p
            divergence[name] += float((own.exp() * (own - log_p)).sum())
    before, after, fired = torch.cat(x), torch.cat(y), torch.cat(active)
    mean = {name: torch.cat(parts).mean() for name, parts in losses.items()}
    variance = (before - before.mean(dim=0)).square().sum()
    score = (mean["zero"] - mean["reconstructed"]) / (mean["zero"] - mean["as it is"])
    return {
        "l0": float(fired.sum(dim=1).float().mean()),
        "explained_variance": float(1 - (before - after).square().sum() / variance),
        "ce_loss_score": float(score),
        "kl_div_score": 1 - divergence["reconstructed"] / divergence["zero"],
        "dead_features": float((~fired.any(dim=0)).sum()),
    }


@pytest.mark.parametrize(
    ("kind", "hook", "hook_out"),
    [
        *[(kind, POST, POST) for kind in SAE_KINDS],
        ("standard", "blocks.2.hook_attn_out", "blocks.2.hook_attn_out"),
        ("transcoder", "blocks.1.hook_resid_pre", "blocks.1.hook_mlp_out"),
    ],
)
@torch.inference_mode()
def test_against_the_bridge(
    kind: str,
    hook: str,
    hook_out: str,
    tmp_path: Path,
    sequences: Sequences,
    gpt2: LanguageModel,
    folder_of: Callable[[ModelKind], Path],
) -> None:
    config = {"d_out": D_MODEL, "apply_b_dec_to_input": False} if kind == "transcoder" else {}
    metadata = {"hook_name_out": hook_out} if kind == "transcoder" else {}
    folder = save_sae(tmp_path, kind, hook_name=hook, metadata=metadata, **config)
    dictionary = load_sae("1-test", folder, model=gpt2)
    bridge = TransformerBridge.boot_transformers(str(folder_of("gpt2")), device="cpu")
    expected = slowly(bridge, dictionary, sequences)
    for batch_tokens in (8, 2048):
        found = evaluate(gpt2, dictionary, sequences, TEXT, batch_tokens=batch_tokens)
        assert numbers(found) == pytest.approx(expected, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("kind", ["gpt2", "qwen2", "gemma2", "opt"])
def test_a_perfect_dictionary(
    kind: ModelKind, sequences: Sequences, model_of: Callable[[ModelKind], LanguageModel]
) -> None:
    found = evaluate(model_of(kind), neuron_dictionary(model_of(kind), 1), sequences, TEXT)
    assert found.explained_variance == pytest.approx(1)
    assert found.ce_loss_score == found.kl_div_score == pytest.approx(1)


@torch.inference_mode()
def test_writing_at_resid_mid_reaches_the_residual_stream(
    tmp_path: Path, sequences: Sequences, gpt2: LanguageModel
) -> None:
    """In the last block all that follows resid_mid can be written down."""
    hook = "blocks.2.hook_resid_mid"
    dictionary = load_sae("2-mid", save_sae(tmp_path, hook_name=hook), model=gpt2)
    block, after = gpt2.hf.transformer.h[2], gpt2.hf.transformer.ln_f
    losses = torch.zeros(3)
    for start, stop in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True):
        ids = torch.from_numpy(sequences.flat[start:stop].astype(np.int64))
        plain = ids > 1
        mid = capture(gpt2, ids[None], [hook])[hook][0]
        decoded = dictionary.decode(dictionary.encode(mid), mid)
        replaced = torch.where(plain[:, None], decoded, mid)
        for i, state in enumerate((mid, replaced, mid * 0)):
            logits = gpt2.hf.lm_head(after(state + block.mlp(block.ln_2(state))))[:-1]
            loss = torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none")
            losses[i] += loss[plain[:-1]].sum()
    expected = (losses[2] - losses[1]) / (losses[2] - losses[0])
    found = evaluate(gpt2, dictionary, sequences, TEXT)
    assert found.ce_loss_score == pytest.approx(float(expected), rel=1e-3)


def test_a_resid_mid_that_cannot_be_replaced_has_no_score(
    tmp_path: Path, sequences: Sequences
) -> None:
    """Where the MLP's input is the block's input, writing there leaves the stream as it is."""
    model = load_model("parallel", save_model(tmp_path / "model", "neox"))
    name = "blocks.1.hook_resid_mid"
    module = "gpt_neox.layers.1.post_attention_layernorm"
    model.sites[name] = Site(name, module, "in", width=D_MODEL)
    dictionary = load_sae("1-mid", save_sae(tmp_path / "sae", hook_name=name), model=model)
    found = evaluate(model, dictionary, sequences, TEXT)
    assert found.ce_loss_score is None
    assert found.l0 == 6


def test_what_is_undefined_is_none(tmp_path: Path, gpt2: LanguageModel) -> None:
    """A single token varies in nothing and predicts nothing."""
    one = Sequences(np.array([5], dtype=np.uint16), np.array([0, 1]))
    found = evaluate(gpt2, load_sae("1-test", save_sae(tmp_path), model=gpt2), one, TEXT)
    assert numbers(found) == {
        "l0": 6.0, "explained_variance": None, "ce_loss_score": None, "kl_div_score": None,
        "dead_features": 90.0,
    }  # fmt: skip


@torch.inference_mode()
def test_features_are_counted_by_density_and_the_dead_ones_apart(
    tmp_path: Path, sequences: Sequences, gpt2: LanguageModel
) -> None:
    dictionary = load_sae("1-test", save_sae(tmp_path, "standard"), model=gpt2)
    found = evaluate(gpt2, dictionary, sequences, TEXT)
    active = []
    for start, stop in zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True):
        ids = torch.from_numpy(sequences.flat[start:stop].astype(np.int64))
        state = capture(gpt2, ids[None], [POST])[POST][0]
        active.append(dictionary.encode(state)[ids > 1] != 0)
    density = torch.cat(active).double().mean(dim=0)
    edges, counts = found.density_histogram.edges, found.density_histogram.counts
    assert edges[0] == 1e-6 and edges[-1] == 1 and len(edges) == len(counts) + 1
    assert np.diff(np.log10(edges)) == pytest.approx(0.25, abs=1e-3)
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
        last = (high == 1) & (density == 1)
        assert count == int((((density >= low) & (density < high)) | last).sum())
    assert sum(counts) + found.dead_features == dictionary.d_sae
    assert found.measured_on == MeasuredOn(source=TEXT, tokens=len(torch.cat(active)))
