"""Random SAEs written as other libraries write them, with those libraries' formulas in plain tensors."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

D, N, K = 32, 80, 5
RESID = "blocks.1.hook_resid_post"
MLP_IN, MLP_OUT = "blocks.1.mlp.hook_in", "blocks.1.hook_mlp_out"

Encode = Callable[[Tensor], Tensor]
Decode = Callable[[Tensor, Tensor], Tensor]
"""From activations and the input to the reconstruction."""


@dataclass
class Case:
    """A folder in some format, and what its library would compute from it."""

    folder: Path
    encode: Encode
    decode: Decode
    rows: Tensor
    """Decoder rows."""
    hook_name: str = RESID
    hook_name_out: str | None = None
    architecture: str = "standard"
    told: dict[str, str] = field(default_factory=dict)
    """What the caller has to say beside the files."""
    undone: Encode = lambda x: torch.ones(len(x), 1)
    """What the library multiplies a token's reconstruction by at the end."""


def normal(*shape: int, std: float = 0.3, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * std


def weights() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Encoder (d n), its bias, decoder (n d) with rows of unequal lengths, its bias."""
    lengths = 0.3 + torch.rand(N, 1, generator=torch.Generator().manual_seed(9))
    return (
        normal(D, N, seed=1),
        normal(N, seed=2),
        normal(N, D, seed=3) * lengths,
        normal(D, seed=4),
    )


def top(z: Tensor, k: int = K) -> Tensor:
    """The k largest of each row."""
    found = z.topk(k, dim=-1)
    return torch.zeros_like(z).scatter(-1, found.indices, found.values)


def trainer(folder: Path, kind: str, **changed: Any) -> None:
    """dictionary_learning's config.json."""
    facts = {"dict_class": kind, "trainer_class": "Trainer", "layer": 1, "lm_name": "openai/tiny",
             "activation_dim": D, "dict_size": N, "submodule_name": "resid_post_layer_1"}  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    config = {"trainer": facts | changed, "buffer": {"ctx_len": 64, "d_submodule": D}}
    (folder / "config.json").write_text(json.dumps(config))


def dictionary_learning(folder: Path, kind: str, legacy: bool = False) -> Case:
    """https://github.com/saprmarks/dictionary_learning, `dictionary.py` and `trainers/`."""
    w_e, b_e, w_d, b_d = weights()
    linear = {"encoder.weight": w_e.T.contiguous(), "decoder.weight": w_d.T.contiguous()}
    own = {"W_enc": w_e, "b_enc": b_e, "W_dec": w_d, "b_dec": b_d}
    k = {"k": torch.tensor(K)}
    threshold, thresholds = torch.tensor(0.9), normal(N, std=0.5, seed=5).abs()
    r_mag, gate, mag = normal(N, seed=6), normal(N, seed=7), normal(N, seed=8)
    relu, sizes = torch.relu, {"group_sizes": torch.tensor([20, N - 20])}

    def above(z: Tensor) -> Tensor:
        return relu(z) * (relu(z) > threshold)

    def gated(x: Tensor) -> Tensor:
        z = (x - b_d) @ w_e
        return ((z + gate) > 0).float() * relu(r_mag.exp() * z + mag)

    files: dict[str, tuple[dict[str, Tensor], Encode, str]] = {
        "AutoEncoder": (
            {"bias": b_d, "encoder.bias": b_e, **linear},
            lambda x: relu((x - b_d) @ w_e + b_e), "standard"),
        "AutoEncoderNew": (
            {"encoder.bias": b_e, "decoder.bias": b_d, **linear},
            lambda x: relu(x @ w_e + b_e), "standard"),
        "AutoEncoderTopK": (
            {"b_dec": b_d, "encoder.bias": b_e, **k, "threshold": threshold, **linear},
            lambda x: top(relu((x - b_d) @ w_e + b_e)), "topk"),
        "BatchTopKSAE": (
            {"b_dec": b_d, "encoder.bias": b_e, **k, "threshold": threshold, **linear},
            lambda x: above((x - b_d) @ w_e + b_e), "jumprelu"),
        "MatryoshkaBatchTopKSAE": (
            {**own, **k, **sizes, "threshold": threshold},
            lambda x: above((x - b_d) @ w_e + b_e), "jumprelu"),
        "JumpReluAutoEncoder": (
            {**own, "threshold": thresholds},
            lambda x: relu((z := x @ w_e + b_e) * (z > thresholds)), "jumprelu"),
        "GatedAutoEncoder": (
            {"decoder_bias": b_d, "r_mag": r_mag, "gate_bias": gate, "mag_bias": mag, **linear},
            gated, "gated"),
    }  # fmt: skip
    state, encode, architecture = files[kind]
    trainer(folder, kind, k=K)
    torch.save(state, folder / "ae.pt", _use_new_zipfile_serialization=not legacy)
    return Case(folder, encode, lambda f, _: f @ w_d + b_d, w_d, architecture=architecture)


def sparsify(folder: Path, signed: bool = False) -> Case:
    """https://github.com/EleutherAI/sparsify, `sparse_coder.py`; `signed` as in `sae.py` of v0."""
    w_e, b_e, w_d, b_d = weights()
    folder = folder / "layers.1"
    folder.mkdir(parents=True)
    config = {"d_in": D, "k": K, "num_latents": N, "normalize_decoder": True, "signed": signed}
    (folder / "cfg.json").write_text(json.dumps(config))
    save_file(
        {"encoder.weight": w_e.T.contiguous(), "encoder.bias": b_e, "W_dec": w_d, "b_dec": b_d},
        folder / "sae.safetensors",
    )

    def encode(x: Tensor) -> Tensor:
        z = (x - b_d) @ w_e + b_e
        return z * (top(z.abs()) > 0) if signed else top(torch.relu(z))

    kind = "abstopk" if signed else "topk"
    return Case(folder, encode, lambda f, _: f @ w_d + b_d, w_d, architecture=kind)


def openai(folder: Path, kind: str) -> Case:
    """https://github.com/openai/sparse_autoencoder, `model.py`."""
    w_e, b_e, w_d, b_d = weights()
    folder.mkdir(parents=True)
    state: dict[str, Any] = {
        "pre_bias": b_d, "latent_bias": b_e, "encoder.weight": w_e.T.contiguous(),
        "decoder.weight": w_d.T.contiguous(), "stats_last_nonzero": torch.zeros(N, dtype=torch.long),
        "activation": kind,
    }  # fmt: skip
    if kind == "TopK":
        state["activation_state_dict"] = {"k": K, "postact_fn": "ReLU"}
    torch.save(state, folder / "1.pt")
    told = {"hook_name": RESID}
    if kind == "ReLU":
        encode: Encode = lambda x: torch.relu((x - b_d) @ w_e + b_e)
        return Case(folder, encode, lambda f, _: f @ w_d + b_d, w_d, told=told)

    def mu_std(x: Tensor) -> tuple[Tensor, Tensor]:
        mu = x.mean(dim=-1, keepdim=True)
        return mu, (x - mu).std(dim=-1, keepdim=True)

    def encode_normed(x: Tensor) -> Tensor:
        mu, std = mu_std(x)
        return torch.relu(top(((x - mu) / (std + 1e-5) - b_d) @ w_e + b_e))

    def decode_normed(f: Tensor, x: Tensor) -> Tensor:
        mu, std = mu_std(x)
        return (f @ w_d + b_d) * std + mu

    return Case(folder, encode_normed, decode_normed, w_d, architecture="topk", told=told,
                undone=lambda x: mu_std(x)[1])  # fmt: skip


def jump(x: Tensor, w_e: Tensor, b_e: Tensor, threshold: Tensor) -> Tensor:
    z = x @ w_e + b_e
    return torch.relu(z) * (z > threshold)


def gemma_scope(folder: Path, transcoder: bool = False) -> Case:
    """The formula in the notebook of Gemma Scope (arXiv:2408.05147, section 2)."""
    w_e, b_e, w_d, b_d = weights()
    threshold = normal(N, std=0.5, seed=5).abs()
    folder.mkdir(parents=True)
    np.savez(folder / "params.npz", W_enc=w_e, W_dec=w_d, b_enc=b_e, b_dec=b_d, threshold=threshold)
    case = Case(folder, lambda x: jump(x, w_e, b_e, threshold), lambda f, _: f @ w_d + b_d, w_d,
                architecture="jumprelu", told={"hook_name": RESID})  # fmt: skip
    return _transcoder(case) if transcoder else case


def _transcoder(case: Case) -> Case:
    case.architecture += "_transcoder"
    case.hook_name, case.hook_name_out = MLP_IN, MLP_OUT
    case.told = {"hook_name": MLP_IN, "hook_name_out": MLP_OUT}
    return case


def gemma_scope_2(folder: Path, kind: str) -> Case:
    """Gemma Scope 2 (google/gemma-scope-2-*): affine transcoders add x A."""
    w_e, b_e, w_d, b_d = weights()
    threshold, affine = normal(N, std=0.5, seed=5).abs(), normal(D, D, seed=6)
    folder.mkdir(parents=True)
    layer = "model.layers.1"
    points = {"hf_hook_point_in": f"{layer}.output"}
    tensors = {"w_enc": w_e, "w_dec": w_d, "b_enc": b_e, "b_dec": b_d, "threshold": threshold}
    case = Case(folder, lambda x: jump(x, w_e, b_e, threshold), lambda f, _: f @ w_d + b_d, w_d,
                architecture="jumprelu")  # fmt: skip
    if kind != "sae":
        case = _transcoder(case)
        case.told = {}
        points = {"hf_hook_point_in": f"{layer}.pre_feedforward_layernorm.output",
                  "hf_hook_point_out": f"{layer}.post_feedforward_layernorm.output"}  # fmt: skip
    if kind == "affine":
        tensors["affine_skip_connection"] = affine
        case.architecture = "jumprelu_skip_transcoder"
        case.decode = lambda f, x: f @ w_d + b_d + x @ affine
    save_file(tensors, folder / "params.safetensors")
    config = {"architecture": "jump_relu", "model_name": "gemma-v3-tiny", **points}
    (folder / "config.json").write_text(json.dumps(config))
    return case


def circuit_tracer(folder: Path, skip: bool = False, jumps: bool = False) -> Case:
    """https://github.com/safety-research/circuit-tracer, `single_layer_transcoder.py`."""
    w_e, b_e, w_d, b_d = weights()
    threshold, w_skip = normal(N, std=0.5, seed=5).abs(), normal(D, D, seed=6)
    folder.mkdir(parents=True)
    tensors = {"W_enc": w_e.T.contiguous(), "W_dec": w_d, "b_enc": b_e, "b_dec": b_d}
    case = Case(folder, lambda x: torch.relu(x @ w_e + b_e), lambda f, _: f @ w_d + b_d, w_d,
                hook_name=MLP_IN, hook_name_out=MLP_OUT, architecture="transcoder")  # fmt: skip
    if jumps:
        tensors["activation_function.threshold"] = threshold
        case.encode = lambda x: jump(x, w_e, b_e, threshold)
    if skip:
        tensors["W_skip"] = w_skip
        case.decode = lambda f, x: f @ w_d + b_d + x @ w_skip.T
    case.architecture = "jumprelu_" * jumps + "skip_" * skip + "transcoder"
    save_file(tensors, folder / "layer_1.safetensors")
    (folder / "config.yaml").write_text(
        "model_name: tiny/model\nfeature_input_hook: mlp.hook_in\nfeature_output_hook: hook_mlp_out\n"
    )
    return case


DICTIONARY_CLASSES = (
    "AutoEncoder", "AutoEncoderNew", "AutoEncoderTopK", "BatchTopKSAE", "MatryoshkaBatchTopKSAE",
    "JumpReluAutoEncoder", "GatedAutoEncoder",
)  # fmt: skip

CASES: dict[str, Callable[[Path], Case]] = {
    **{name: lambda folder, name=name: dictionary_learning(folder, name)
       for name in DICTIONARY_CLASSES},
    "legacy pt": lambda folder: dictionary_learning(folder, "AutoEncoder", legacy=True),
    "sparsify": sparsify,
    "sparsify signed": lambda folder: sparsify(folder, signed=True),
    "openai topk": lambda folder: openai(folder, "TopK"),
    "openai relu": lambda folder: openai(folder, "ReLU"),
    "npz": gemma_scope,
    "npz transcoder": lambda folder: gemma_scope(folder, transcoder=True),
    "gemma 2 sae": lambda folder: gemma_scope_2(folder, "sae"),
    "gemma 2 transcoder": lambda folder: gemma_scope_2(folder, "transcoder"),
    "gemma 2 affine": lambda folder: gemma_scope_2(folder, "affine"),
    "transcoder": circuit_tracer,
    "skip transcoder": lambda folder: circuit_tracer(folder, skip=True),
    "jumprelu transcoder": lambda folder: circuit_tracer(folder, jumps=True),
    "jumprelu skip transcoder": lambda folder: circuit_tracer(folder, skip=True, jumps=True),
}  # fmt: skip
