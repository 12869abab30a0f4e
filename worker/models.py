"""Language models: check a folder, load it, know its sites.

A model is the plain Hugging Face module, in evaluation mode and without gradients, together with
the sites that TransformerLens names (`worker.sites`). Nothing from the folder is executed: weights
are safetensors, code that comes with a model is refused.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from app.errors import Invalid
from app.store.records import Vocabulary
from worker.building import one_at_a_time
from worker.fingerprint import fingerprint_model
from worker.folders import one_line
from worker.model_folder import ModelFacts, check_model_folder
from worker.sites import Site, find_sites
from worker.vocabulary import read_vocabulary, special_ids

_NO_DEVICE = "The device {!r} is not on this machine; use auto, cpu, cuda, cuda:1 or mps."


@dataclass(eq=False)
class LanguageModel:
    """A model in memory. One thread may run it at a time."""

    id: str
    path: Path
    hf: PreTrainedModel
    """The plain module: evaluation mode, no gradients, the library's default attention."""
    tokenizer: PreTrainedTokenizerFast
    sites: dict[str, Site]
    """Hook points that exist here, by TransformerLens name."""
    n_layers: int
    d_model: int
    d_mlp: int
    vocab_size: int
    """Rows of the unembedding; a tokenizer may know fewer."""
    context_size: int
    prepend_bos: bool
    """Whether texts begin with BOS: wherever the tokenizer has one."""
    bos_id: int | None
    special_ids: frozenset[int]
    eos_ids: frozenset[int]
    """Tokens that end a generation."""
    layer_norm: bool
    """Whether it normalises by LayerNorm rather than RMSNorm."""
    facts: ModelFacts

    @property
    def device(self) -> torch.device:
        return self.hf.device

    @property
    def dtype(self) -> torch.dtype:
        return self.hf.dtype

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the folder's files; reads them all, once."""
        return fingerprint_model(self.path)

    @cached_property
    def is_special(self) -> Bool[np.ndarray, " vocab"]:
        """Which ids are BOS and other special tokens; the tokenizer may know more than the model."""
        return np.isin(np.arange(self.vocab_size), list(self.special_ids))

    @property
    def hook_points(self) -> dict[str, int]:
        """Hook points with their widths."""
        return {name: site.width for name, site in self.sites.items()}

    @property
    def has_chat_template(self) -> bool:
        return bool(self.tokenizer.chat_template)

    def site(self, hook_name: str) -> Site:
        """The site of a hook point.

        Raises:
            Invalid: the model has no such hook point; the sentence names those it has.
        """
        if hook_name not in self.sites:
            raise Invalid(
                f"The model {self.id} has no hook point {hook_name}; it has "
                f"{describe_hooks(list(self.sites))}.",
                hook_points=list(self.sites),
            )
        return self.sites[hook_name]


def describe_hooks(hook_names: list[str]) -> str:
    """Hook points in few words: kinds once, with the range of blocks."""
    kinds = list(dict.fromkeys(name.split(".", 2)[2] for name in hook_names))
    last = max(int(name.split(".", 2)[1]) for name in hook_names)
    return f"{', '.join(kinds)} under blocks.0 to blocks.{last}"


def kind_of(device: torch.device) -> str:
    """What decides the last bits of a result: cpu, or the GPU's name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def resolve_device(name: str) -> torch.device:
    """The device of a name; `auto` is cuda where there is one, else cpu.

    Raises:
        Invalid: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise Invalid(_NO_DEVICE.format(name)) from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise Invalid(_NO_DEVICE.format(name))
    return device


def load_model(
    model_id: str,
    path: Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> LanguageModel:
    """Load a Hugging Face folder.

    Raises:
        Invalid: the folder fails `check_model_folder`, or its weights are not the architecture's.
    """
    facts = check_model_folder(path)
    tokenizer = _load_tokenizer(path)
    anatomy = facts.anatomy
    hf = _load_weights(path, device, dtype)
    sites = find_sites(hf, anatomy)
    if not sites:
        raise Invalid(f"No hook point of {path} is passed once in a forward; give another model.")
    bos = cast(int | None, tokenizer.bos_token_id)
    return LanguageModel(
        id=model_id,
        path=path,
        hf=hf,
        tokenizer=tokenizer,
        sites=sites,
        n_layers=anatomy.n_layers,
        d_model=anatomy.d_model,
        d_mlp=anatomy.d_mlp,
        vocab_size=hf.config.get_text_config().vocab_size,
        context_size=anatomy.context_size,
        prepend_bos=bos is not None,
        bos_id=bos,
        special_ids=special_ids(tokenizer),
        eos_ids=_eos_ids(hf, tokenizer),
        layer_norm=anatomy.layer_norm,
        facts=facts,
    )


def vocabulary(model: LanguageModel) -> Vocabulary:
    """What every token of a model stands for; see `worker.vocabulary`."""
    return read_vocabulary(model.tokenizer, model.vocab_size)


def _load_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    except Exception as error:  # what a broken tokenizer file raises is anybody's guess
        raise Invalid(
            f"The tokenizer in {path} cannot be loaded ({one_line(error)}); save it again with "
            "`tokenizer.save_pretrained`."
        ) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise Invalid(
            f"The tokenizer in {path} has no tokenizer.json form; convert it to a "
            "PreTrainedTokenizerFast and save it beside the model."
        )
    return tokenizer


@one_at_a_time
def _load_weights(path: Path, device: torch.device | str, dtype: torch.dtype) -> PreTrainedModel:
    logging.disable_progress_bar()
    # What it warns of goes where all lines go.
    logging.disable_default_handler()
    logging.enable_propagation()
    loader: Any = AutoModelForCausalLM
    try:
        model, report = loader.from_pretrained(
            path,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise Invalid(
            f"The weights in {path} cannot be loaded ({one_line(error)}); save the model again with "
            "`save_pretrained`."
        ) from error
    wrong = sorted([*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])])
    if wrong:
        raise Invalid(
            f"The weights in {path} do not fill the architecture of its config.json: "
            f"{len(wrong)} tensors such as {wrong[0]} are missing or have another shape; save the "
            "model again with `save_pretrained`."
        )
    return model.to(device).eval().requires_grad_(False)


def _eos_ids(hf: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    configured = hf.generation_config.eos_token_id if hf.generation_config else None
    listed = configured if isinstance(configured, list) else [configured]
    return frozenset(i for i in [*listed, tokenizer.eos_token_id] if i is not None)
