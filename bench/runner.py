"""SAELens' own training runner, at the settings of one of our runs, and what both are judged by.

The runner opens the model's folder itself, as a plain Hugging Face model: its fastest way, since a
TransformerBridge's forward takes 2.3 times as long. The SAE begins with the weights that ours begins
with. What is a matter of the runner alone costs it little: a small mixing buffer, since it computes half a
buffer that it never trains on, and an estimate of the activation scale on a few batches, where its own
default is 1,000. It logs nothing.
"""

import io
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from sae_lens import LanguageModelSAERunnerConfig, LanguageModelSAETrainingRunner, LoggingConfig

from worker.activations import capture
from worker.evaluate import evaluate
from worker.models import LanguageModel
from worker.saes import load_sae
from worker.tokens import Sequences, batches
from worker.train.order import hold_out, take
from worker.train.settings import Settings
from worker.train.trainer import build

MIXED_TOKENS = 2**15
"""In its mixing buffer, or as many as we mix, where that is fewer."""
SCALE_BATCHES = 4


def split(model: LanguageModel, sequences: Sequences) -> tuple[Sequences, Sequences]:
    """What our loop trains on, and what it holds out."""
    special = np.concatenate([[0], np.cumsum(model.is_special[sequences.flat])])
    lengths = np.diff(sequences.offsets) - np.diff(special[sequences.offsets])
    training, held_out = hold_out(lengths)
    return take(sequences, training), take(sequences, held_out)


def packed(sequences: Sequences, context: int, bos: int | None) -> Sequences:
    """The tokens in rows of one length, which is what SAELens takes, each behind a BOS where there is
    one; the last, which is not full, is left out."""
    body = context - (bos is not None)
    count = len(sequences.flat) // body
    rows = sequences.flat[: count * body].reshape(count, body)
    if bos is not None:
        rows = np.insert(rows, 0, bos, axis=1)
    return Sequences(rows.reshape(-1), np.arange(count + 1) * context)


def train_by_saelens(
    settings: Settings, model: LanguageModel, rows: Sequences, folder: Path
) -> float:
    """Train on `rows`, all of one length, write the SAE to `folder`, and give the seconds that the
    training took."""
    torch.manual_seed(settings.seed)
    sae = build(settings, model.id, model.device).sae
    context = int(rows.offsets[1])
    tokens = rows.flat.reshape(-1, context).astype(np.int64)
    with _quietly():
        runner = LanguageModelSAETrainingRunner(
            _config(settings, model, sae.cfg, context),
            override_dataset=Dataset.from_dict({"tokens": list(tokens)}),
            override_sae=sae,
        )
        started = time.perf_counter()
        runner.run()
        seconds = time.perf_counter() - started
    sae.cfg.metadata.hook_name, sae.cfg.metadata.model_name = settings.hook_name, model.id
    sae.save_inference_model(folder)
    return seconds


def _config(
    settings: Settings, model: LanguageModel, sae: Any, context: int
) -> LanguageModelSAERunnerConfig[Any]:
    site = model.site(settings.hook_name)
    if site.side != "out":
        raise ValueError(f"SAELens reads outputs of modules, and {site.hook_name} is an input.")
    mixed = min(MIXED_TOKENS, settings.window_batches * settings.batch_tokens)
    return LanguageModelSAERunnerConfig(
        sae=sae,
        model_name=str(model.path),
        model_class_name="AutoModelForCausalLM",
        model_from_pretrained_kwargs={},
        hook_name=site.module,
        context_size=context,
        prepend_bos=model.prepend_bos,
        exclude_special_tokens=sorted(model.special_ids),
        training_tokens=settings.tokens,
        train_batch_size_tokens=settings.batch_tokens,
        store_batch_size_prompts=max(1, settings.forward_tokens // context),
        n_batches_in_buffer=-(-mixed // context),
        n_batches_for_norm_estimate=SCALE_BATCHES,
        lr=settings.lr,
        lr_end=settings.lr,
        lr_warm_up_steps=settings.lr_warm_up_steps,
        lr_decay_steps=settings.lr_decay_steps,
        dead_feature_window=settings.dead_feature_window,
        feature_sampling_window=settings.sparsity_window,
        autocast=settings.autocast,
        device=str(model.device),
        checkpoint_path=None,
        output_path=None,
        verbose=False,
        logger=LoggingConfig(log_to_wandb=False),
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the runner's progress bars and warnings, and with signals handled as before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stderr(io.StringIO()):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@torch.inference_mode()
def quality(model: LanguageModel, folder: Path, held_out: Sequences) -> dict[str, float]:
    """What an SAE in a folder is worth on text that nobody trained on: `evaluate`'s numbers, and the
    squared error of a token."""
    sae = load_sae("judged", folder, device=model.device, model=model)
    found = evaluate(model, sae, held_out, "held out").model_dump()
    error, tokens = 0.0, 0
    for batch in batches(held_out, 2_048):
        real = batch.mask.numpy() & ~model.is_special[batch.ids.numpy()]
        x = capture(model, batch.ids, [sae.hook_name])[sae.hook_name][torch.from_numpy(real)]
        error += float((x - sae.decode(sae.encode(x), x)).square().sum())
        tokens += len(x)
    dead = (found["dead_features"] or 0.0) / sae.d_sae
    judged = {name: found[name] for name in ("explained_variance", "l0", "ce_loss_score")}
    return {
        **{name: value for name, value in judged.items() if value is not None},
        "mse": error / tokens,
        "dead_fraction": dead,
    }
