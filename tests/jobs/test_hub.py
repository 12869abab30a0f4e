"""SAEs by their name in SAELens' directory: refusals, and what a download is turned into, from files
that lie where the hub's client keeps them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import torch
from sae_lens import SAE
from safetensors.torch import load_file, save_file

from app.contract.jobs import LoadSpec
from app.errors import Invalid, Unavailable
from app.settings import Settings
from app.store import read
from app.store.engine import open_shelf
from tests.databases import prepare
from tests.jobs.hub import Hub
from tests.worker.tiny import D_MODEL, save_model, save_sae
from worker.hub import name_sites
from worker.jobs.job import Bench, Job
from worker.jobs.workflows import KINDS
from worker.models import load_model
from worker.progress import silent
from worker.saes import Dictionary, load_sae

X = torch.randn(40, D_MODEL, generator=torch.Generator().manual_seed(1)) * 2 + 0.4
JB = "saelens:gpt2-small-res-jb/blocks.1.hook_resid_pre"
LLAMA = "saelens:llama_scope_lxr_8x/l1r_8x"
FACTOR = 39.76699029126213
"""What the directory says that LLAMA's release scales activations by."""
Load = Callable[..., Dictionary]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A shelf with the model `m`, where jobs may download."""
    root = tmp_path_factory.mktemp("root")
    settings = Settings(data_dir=root / "data", hub=True, model_roots=[str(root)])
    settings.data_dir.mkdir()
    prepare(settings.shelf_url)
    bench = Bench(settings, open_shelf(settings.shelf_url), torch.device("cpu"), 1.0)
    KINDS["load"][1](_job(bench, LoadSpec(model="m", path=str(save_model(root / "model")))))
    yield bench
    bench.shelf.close()


def _job(bench: Bench, spec: LoadSpec) -> Job[Any]:
    return Job(uuid4().hex, spec, bench, silent)


@pytest.fixture
def load(bench: Bench) -> Load:
    """Runs a load job, both its steps, and opens what it registered."""

    def run(path: str, sae: str = "1-hub") -> Dictionary:
        job = _job(bench, LoadSpec(model="m", sae=sae, path=path))
        for step in KINDS["load"]:
            step(job)
        record, model = read.sae(bench.shelf, "m", sae), read.model(bench.shelf, "m")
        return load_sae(sae, Path(record.path), model=load_model("m", Path(model.path)))

    return run


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    return Hub(tmp_path / "hub", monkeypatch)


def assert_close(ours: torch.Tensor, expected: torch.Tensor) -> None:
    assert (ours - expected).abs().max() < 1e-5 * expected.abs().max()


def test_nothing_is_downloaded_unless_it_is_allowed(bench: Bench) -> None:
    off = Bench(Settings(data_dir=bench.settings.data_dir), bench.shelf, bench.device, 1.0)
    assert not off.settings.hub
    with pytest.raises(Invalid, match="may be downloaded here; set SAESCOPE_HUB=true") as caught:
        KINDS["load"][0](_job(off, LoadSpec(model="m", sae="1-a", path=JB)))
    assert caught.value.fields["path"] == JB


@pytest.mark.parametrize(("path", "words"), [
    ("saelens:gpt2-small-res-jp/x", "no release 'gpt2-small-res-jp'; near it are gpt2-small-res-jb"),
    ("saelens:gpt2-small-res-jb/blocks.99.hook_resid_pre", "no SAE .* near it are blocks.9.hook_resid"),
    ("saelens:gpt2-small-res-jb", "no SAE '' in the release gpt2-small-res-jb; near it are blocks.0"),
    ("saelens:gemma-scope-2b-pt-res/layer_3/width_16k/average_l0_58", "near it are layer_3/width_16k"),
    ("saelens:", "no release ''"),
])  # fmt: skip
def test_near_names_are_told(load: Load, path: str, words: str) -> None:
    with pytest.raises(Invalid, match=words) as caught:
        load(path)
    assert len(caught.value.detail) < 300


def test_it_must_be_loaded_as_an_sae(bench: Bench) -> None:
    with pytest.raises(Invalid, match="is an SAE; say with `sae`"):
        KINDS["load"][0](_job(bench, LoadSpec(model="m", path=JB)))
    spec = LoadSpec(model="m", sae="1-a", path=JB, hook_name="blocks.1.hook_resid_pre")
    with pytest.raises(Invalid, match="leave them out for saelens:"):
        KINDS["load"][0](_job(bench, spec))


def test_a_hub_that_does_not_answer_is_told(load: Load, hub: Hub) -> None:
    with pytest.raises(
        Unavailable, match=r"The hub did not give saelens:gpt2-small-res-jb/blocks.1"
    ):
        load(JB)


def test_transcoders_of_gemma_scope_2_read_where_their_authors_say(tmp_path: Path) -> None:
    layer = "model.layers.1"
    metadata = {
        "hook_name": "blocks.1.hook_mlp_in", "hook_name_out": "blocks.1.hook_mlp_out",
        "hf_hook_name": f"{layer}.pre_feedforward_layernorm.output",
        "hf_hook_name_out": f"{layer}.post_feedforward_layernorm.output",
    }  # fmt: skip
    folder = save_sae(
        tmp_path / "sae", "jumprelu_transcoder", d_out=D_MODEL, apply_b_dec_to_input=False,
        metadata=metadata,
    )  # fmt: skip
    sae = SAE.load_from_disk(folder)
    name_sites(sae)
    named = (sae.cfg.metadata.hook_name, sae.cfg.metadata.hook_name_out)
    assert named == ("blocks.1.mlp.hook_in", "blocks.1.hook_mlp_out")
    plain = SAE.load_from_disk(save_sae(tmp_path / "plain", "topk"))
    name_sites(plain)
    assert plain.cfg.metadata.hook_name == "blocks.1.hook_resid_post"
    assert plain.cfg.metadata.hook_name_out is None


def put_jb(folder: Path) -> None:
    """A folder of SAELens before version 6, when all settings were in one flat object."""
    folder = save_sae(folder / "blocks.1.hook_resid_pre", "standard")
    config = {"hook_point": "blocks.1.hook_resid_pre", "model_name": "gpt2-small", "d_in": D_MODEL,
              "d_sae": 96, "dtype": "float32", "context_size": 64, "activation_fn_str": "relu",
              "device": "cpu", "normalize_activations": "none"}  # fmt: skip
    (folder / "cfg.json").write_text(json.dumps(config))


def test_an_sae_of_the_directory(load: Load, bench: Bench, hub: Hub) -> None:
    """As SAELens has it, with what the directory adds: its model's writing weights were centred."""
    hub.put("jbloom/GPT2-Small-SAEs-Reformatted", put_jb)
    ours = load(JB, "1-jb")
    sae = SAE.from_pretrained(*JB.removeprefix("saelens:").split("/", 1))
    centred = X - X.mean(dim=-1, keepdim=True)
    with torch.no_grad():
        expected = sae.encode(centred)
    assert expected.count_nonzero() > 100
    assert_close(ours.encode(X), expected * sae.W_dec.norm(dim=-1))
    assert ours.centred and ours.prepend_bos is True
    assert (ours.hook_name, ours.architecture) == ("blocks.1.hook_resid_pre", "standard")
    told = {"format": "saelens", "source": JB}
    assert read.sae(bench.shelf, "m", "1-jb").provenance == told


def put_llama(folder: Path) -> None:
    """Llama Scope's files, whose weights lie the other way round."""
    folder = folder / "Llama3_1-8B-Base-L1R-8x"
    (folder / "checkpoints").mkdir(parents=True)
    facts = {"d_model": D_MODEL, "d_sae": 96, "jump_relu_threshold": 0.5 / FACTOR,
             "hook_point_in": "blocks.1.hook_resid_post",
             "dataset_average_activation_norm": {"in": D_MODEL**0.5 / FACTOR}}  # fmt: skip
    (folder / "hyperparams.json").write_text(json.dumps(facts))
    weights = load_file(save_sae(folder / "sae", "standard") / "sae_weights.safetensors")
    tensors = {
        "encoder.weight": weights["W_enc"].T / FACTOR,
        "decoder.weight": weights["W_dec"].T,
        "encoder.bias": weights["b_enc"],
        "decoder.bias": weights["b_dec"],
    }
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, folder / "checkpoints" / "final.safetensors")


def test_a_release_that_scales_activations(load: Load, hub: Hub) -> None:
    """f = ReLU(z) where z > θ s, with z = s x W_e + b_e, and x̂ = (f W_d + b_d) / s: the factor s of the
    release ends up in the weights, and the lengths of decoder rows in the scale."""
    hub.put("fnlp/Llama3_1-8B-Base-LXR-8x", put_llama)
    ours = load(LLAMA, "1-llama")
    raw = load_file(next(hub.cache.rglob("final.safetensors")))
    w_d = raw["decoder.weight"].T / FACTOR
    z = FACTOR * X @ raw["encoder.weight"].T + raw["encoder.bias"]
    expected = z.relu() * (z > 0.5)
    encoded = ours.encode(X)
    assert expected.count_nonzero() > 100
    assert_close(ours.scale, w_d.norm(dim=-1))
    assert_close(encoded, expected * w_d.norm(dim=-1))
    assert_close(ours.decode(encoded, X), expected @ w_d + raw["decoder.bias"] / FACTOR)
    sae = SAE.from_pretrained(*LLAMA.removeprefix("saelens:").split("/", 1))
    with torch.no_grad():
        assert_close(encoded, sae.encode(X) * ours.scale)
        assert_close(ours.decode(encoded, X), sae(X))
