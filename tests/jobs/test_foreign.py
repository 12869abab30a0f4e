"""SAEs and transcoders in other formats: loaded by a job they compute what their library computes,
what does not say enough is refused with what is missing, and nothing in them is run."""

import json
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import torch
from sae_lens.loading import pretrained_sae_loaders as theirs
from safetensors.torch import load_file, save_file

from app.contract.jobs import LoadSpec
from app.errors import Conflict, Invalid
from app.settings import Settings
from app.store import read
from app.store.engine import open_shelf
from tests.databases import prepare
from tests.jobs import formats
from tests.jobs.formats import CASES, MLP_IN, RESID, Case
from tests.jobs.hub import Hub
from tests.worker.tiny import save_model, save_sae
from worker.foreign.convert import read_foreign, write_sae
from worker.foreign.parts import Told
from worker.jobs.job import Bench, Job
from worker.jobs.workflows import KINDS
from worker.progress import silent
from worker.saes import Dictionary, load_sae

X = torch.randn(40, formats.D, generator=torch.Generator().manual_seed(1)) * 2 + 0.4
Load = Callable[..., Dictionary]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A shelf with the model `m`."""
    root = tmp_path_factory.mktemp("root")
    settings = Settings(data_dir=root / "data", model_roots=[str(root.parent)])
    settings.data_dir.mkdir()
    prepare(settings.shelf_url)
    bench = Bench(settings, open_shelf(settings.shelf_url), torch.device("cpu"), 1.0)
    spec = LoadSpec(model="m", path=str(save_model(root / "model")))
    KINDS["load"][1](Job("model", spec, bench, silent))
    yield bench
    bench.shelf.close()


@pytest.fixture
def load(bench: Bench, request: pytest.FixtureRequest) -> Load:
    """Runs a load job of one's own, both its steps, and opens what it registered."""

    def run(folder: Path, sae: str | None = None, **told: Any) -> Dictionary:
        sae = sae or re.sub(r"\W+", "-", request.node.name)[:100]
        spec = LoadSpec(model="m", sae=sae, path=str(folder), **told)
        job = Job(uuid4().hex, spec, bench, silent)
        check, work = KINDS["load"]
        check(job)
        work(job)
        return load_sae(sae, Path(read.sae(bench.shelf, "m", sae).path))

    return run


def assert_close(ours: torch.Tensor, expected: torch.Tensor) -> None:
    assert (ours - expected).abs().max() < 1e-5 * expected.abs().max()


THROUGH_A_JOB = (
    "BatchTopKSAE",
    "sparsify",
    "openai topk",
    "npz",
    "gemma 2 affine",
    "skip transcoder",
)
"""One of each format; the others are converted and opened without the job around it."""


def convert(case: Case, folder: Path) -> Dictionary:
    foreign = read_foreign(case.folder, Told(**case.told))
    assert foreign is not None
    folder.mkdir()
    write_sae(foreign, folder)
    return load_sae("1-sae", folder)


@pytest.mark.parametrize("name", CASES)
def test_it_computes_what_its_library_computes(name: str, load: Load, tmp_path: Path) -> None:
    """Activations are in units of the feature's contribution, as everywhere."""
    case = CASES[name](tmp_path / "sae")
    through = name in THROUGH_A_JOB
    dictionary = load(case.folder, **case.told) if through else convert(case, tmp_path / "ours")
    expected = case.encode(X)
    assert 100 < expected.count_nonzero() < 0.8 * expected.numel()
    encoded = dictionary.encode(X)
    lengths = case.rows.norm(dim=-1)
    assert_close(dictionary.scale, lengths)
    assert_close(encoded, expected * lengths * case.undone(X))
    assert_close(dictionary.decode(encoded, X), case.decode(expected, X))
    out = case.hook_name_out or case.hook_name
    assert (dictionary.hook_name, dictionary.hook_out) == (case.hook_name, out)
    assert dictionary.architecture == case.architecture
    assert dictionary.prepend_bos is None


def test_what_it_was_made_from_is_served(load: Load, bench: Bench, tmp_path: Path) -> None:
    case = CASES["npz"](tmp_path / "sae")
    arrays = dict(np.load(case.folder / "params.npz"))
    np.savez(case.folder / "params.npz", **arrays | {"threshold": arrays["threshold"] + 1})
    load(case.folder, "1-made", **case.told)
    told = {"format": "gemma_scope", "source": str(case.folder)}
    assert read.sae(bench.shelf, "m", "1-made").provenance == told


def test_the_same_again_is_the_same_and_another_is_refused(load: Load, tmp_path: Path) -> None:
    case = CASES["sparsify"](tmp_path / "sae")
    first = load(case.folder, "1-twice")
    assert load(case.folder, "1-twice").fingerprint == first.fingerprint
    other = CASES["AutoEncoder"](tmp_path / "other")
    with pytest.raises(Conflict, match="1-twice is in use"):
        load(other.folder, "1-twice")


@pytest.mark.parametrize("name", sorted({*formats.DICTIONARY_CLASSES} - {"AutoEncoderNew"}))
def test_dictionary_learning_is_converted_as_sae_lens_does(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(tmp_path / "hub", monkeypatch)
    hub.put("a/b", lambda folder: formats.dictionary_learning(folder / "sae", name))
    config, state, _ = theirs.dictionary_learning_sae_huggingface_loader_1("a/b", "sae")
    case = formats.dictionary_learning(tmp_path / "sae", name)
    assert_same(case, theirs.handle_config_defaulting(config), state)


def assert_same(case: Case, config: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
    """Ours has SAELens' weights, bit by bit, and its settings."""
    ours = read_foreign(case.folder, Told(**case.told))
    assert ours is not None
    assert ours.weights.keys() == state.keys()
    assert all(torch.equal(ours.weights[name], state[name]) for name in state)
    names = ["architecture", "apply_b_dec_to_input", "normalize_activations"]
    names += [name for name in ("k", "d_out") if name in ours.config()]
    assert [ours.config()[name] for name in names] == [config[name] for name in names]


@pytest.mark.parametrize("name", ["npz", "npz transcoder"])
def test_an_npz_is_converted_as_sae_lens_does(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the sizes, which SAELens takes from the name."""
    hub, place = Hub(tmp_path / "hub", monkeypatch), "layer_1/width_16k/average_l0_5"
    read = {"npz": theirs.gemma_2_sae_huggingface_loader,
            "npz transcoder": theirs.gemma_2_transcoder_huggingface_loader}[name]  # fmt: skip
    hub.put("google/gemma-scope-2b-pt-res", lambda folder: CASES[name](folder / place))
    config, state, _ = read("google/gemma-scope-2b-pt-res", place)
    case = CASES[name](tmp_path / "sae")
    config = theirs.handle_config_defaulting(config) | (
        {"d_out": formats.D} if "d_out" in config else {}
    )
    assert_same(case, config, state)


def test_a_transcoder_is_converted_as_sae_lens_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(folder: Path) -> None:
        shutil.copytree(case.folder, folder, dirs_exist_ok=True)
        values = {"d_model": formats.D, "d_feature": formats.N, "batch_size": 64}
        text = "".join(f"{name}: {{value: {value}}}\n" for name, value in values.items())
        (folder / "wandb-config.yaml").write_text(text)

    case = CASES["transcoder"](tmp_path / "sae")
    Hub(tmp_path / "hub", monkeypatch).put("a/b", fill)
    config, state, _ = theirs.mwhanna_transcoder_huggingface_loader("a/b", "layer_1.safetensors")
    assert (config["hook_name"], config["hook_name_out"]) == (case.hook_name, case.hook_name_out)
    assert_same(case, config, state)


def test_sae_lens_reads_sparsify_otherwise(tmp_path: Path) -> None:
    """Why its reader is not used: it turns a decoder that lies right, and leaves b_dec in the input."""
    case = CASES["sparsify"](tmp_path / "sae")
    config, state = theirs.sparsify_disk_loader(case.folder, cfg_overrides={"dtype": "float32"})
    ours = read_foreign(case.folder, Told())
    assert ours is not None
    assert torch.equal(state["W_dec"], ours.weights["W_dec"].T)
    assert config["apply_b_dec_to_input"] is False
    assert torch.equal(state["W_enc"], ours.weights["W_enc"])


class Bomb:
    """Pickled, it is a call of `open` that makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return (open, (self.path, "w"))


@pytest.fixture
def bomb(tmp_path: Path) -> Iterator[Bomb]:
    """Something that must not be run."""
    yield Bomb(tmp_path / "exploded")
    assert not (tmp_path / "exploded").exists()


def test_a_pickle_is_never_run(load: Load, bomb: Bomb, tmp_path: Path) -> None:
    case = CASES["AutoEncoder"](tmp_path / "sae")
    weights = torch.load(case.folder / "ae.pt")
    for legacy in (False, True):
        torch.save(
            weights | {"more": bomb}, case.folder / "ae.pt",
            _use_new_zipfile_serialization=not legacy,
        )  # fmt: skip
        with pytest.raises(
            Invalid, match=r"ae\.pt holds more than tensors.*torch\.save\(sae\.state"
        ):
            load(case.folder)
    with (case.folder / "ae.pt").open("wb") as file:
        pickle.dump(bomb, file)
    with pytest.raises(Invalid, match="never run here"):
        load(case.folder)


def test_what_to_do_about_a_pickle_works(load: Load, tmp_path: Path) -> None:
    case = CASES["AutoEncoder"](tmp_path / "sae")
    save_file(torch.load(case.folder / "ae.pt"), case.folder / "ae.safetensors")
    (case.folder / "ae.pt").write_bytes(b"anything")
    assert_close(load(case.folder).encode(X), case.encode(X) * case.rows.norm(dim=-1))


@pytest.mark.parametrize("name", ["sae.pkl", "sae.bin", "sae.pth"])
def test_other_pickles_are_not_opened(load: Load, bomb: Bomb, tmp_path: Path, name: str) -> None:
    (tmp_path / "sae").mkdir()
    with (tmp_path / "sae" / name).open("wb") as file:
        pickle.dump(bomb, file)
    with pytest.raises(Invalid, match=f"as a pickle .{name}., which can run code.*never opened"):
        load(tmp_path / "sae")


def test_a_lone_pt_and_an_npz_are_not_run_either(load: Load, bomb: Bomb, tmp_path: Path) -> None:
    case = CASES["openai topk"](tmp_path / "pt")
    torch.save({"pre_bias": bomb}, case.folder / "1.pt")
    with pytest.raises(Invalid, match=r"1\.pt holds more than tensors"):
        load(case.folder, **case.told)
    case = CASES["npz"](tmp_path / "npz")
    np.savez(case.folder / "params.npz", W_enc=np.array([bomb], dtype=object))
    with pytest.raises(Invalid, match=r"params\.npz holds more than arrays"):
        load(case.folder, **case.told)


def test_an_npz_that_claims_more_than_it_holds_is_refused(load: Load, tmp_path: Path) -> None:
    case = CASES["npz"](tmp_path / "npz")
    np.savez_compressed(case.folder / "params.npz", W_enc=np.zeros(2**26, np.float32))
    with pytest.raises(Invalid, match=r"claims 268,435,\d+ bytes"):
        load(case.folder, **case.told)


def test_a_job_that_is_retried_reads_the_file_as_it_is_now(bench: Bench, tmp_path: Path) -> None:
    case = CASES["sparsify"](tmp_path / "layers.1")
    file = case.folder / "sae.safetensors"
    whole = load_file(file)
    save_file(whole | {"W_dec": whole["W_dec"] * float("nan")}, file)
    spec = LoadSpec(model="m", sae="1-retried", path=str(case.folder), **case.told)
    job = Job("retried", spec, bench, silent)
    with pytest.raises(Invalid):
        KINDS["load"][1](job)
    save_file(whole, file)
    KINDS["load"][1](job)
    stored = read.sae(bench.shelf, "m", "1-retried")
    assert load_file(Path(stored.path) / "sae_weights.safetensors")["W_dec"].isfinite().all()


def rewrite(folder: Path, name: str, **changes: Any) -> None:
    """Change fields of a JSON file, those of `trainer` where there is one."""
    config = json.loads((folder / name).read_text())
    config.get("trainer", config).update(changes)
    (folder / name).write_text(json.dumps(config))


@pytest.mark.parametrize(("name", "file", "changes", "words"), [
    ("AutoEncoder", "config.json", {"dict_class": "CrossCoder"}, "names no dictionary class"),
    ("AutoEncoder", "config.json", {"layer": None}, "does not say at which hook point it reads; give"),
    ("AutoEncoder", "config.json", {"submodule_name": "a.b"}, "does not say at which hook point"),
    ("AutoEncoder", "config.json", {"layer": 7}, "blocks.7.hook_resid_post, which the model m does"),
    ("AutoEncoderTopK", "config.json", {"k": None}, "no positive whole number for k"),
    ("AutoEncoderTopK", "config.json", {"k": 6}, "k is 6 in .*, but 5 in"),
    ("sparsify", "cfg.json", {"k": True}, "no positive whole number for k"),
    ("sparsify", "cfg.json", {"transcode": True}, "has transcode, for which SAELens has no"),
    ("sparsify", "cfg.json", {"activation": "groupmax"}, "has activation groupmax, for which"),
    ("gemma 2 sae", "config.json", {"architecture": "relu"}, "is 'relu'; it can be jump_relu"),
    ("gemma 2 sae", "config.json", {"hf_hook_point_in": "x"}, "does not say at which hook point"),
])  # fmt: skip
def test_odd_configurations_are_refused(
    name: str, file: str, changes: dict[str, Any], words: str, load: Load, tmp_path: Path
) -> None:
    case = CASES[name](tmp_path / "sae")
    rewrite(case.folder, file, **changes)
    with pytest.raises(Invalid, match=words):
        load(case.folder)


@pytest.mark.parametrize(("name", "told", "words"), [
    ("npz", {}, r"params\.npz does not say at which hook point it reads; give `hook_name`"),
    ("openai topk", {}, r"1\.pt does not say at which hook point it reads"),
    ("sparsify", {"hook_name": MLP_IN}, "but The folder's name, layers.1, says blocks.1.hook_resid"),
    ("sparsify", {"hook_name_out": RESID}, "is no transcoder"),
    ("npz", {"hook_name": "blocks.1.hook_nothing"}, "blocks.1.hook_nothing, which the model m does"),
    ("npz", {"hook_name": RESID, "hook_name_out": "blocks.9.x"}, "no hook point blocks.9.x"),
    ("npz", {"hook_name": "blocks.1.mlp.hook_post"}, "d_in 32, but blocks.1.mlp.hook_post .* is 48"),
])  # fmt: skip
def test_what_the_caller_says_must_fit(
    name: str, told: dict[str, str], words: str, load: Load, tmp_path: Path
) -> None:
    with pytest.raises(Invalid, match=words):
        load(CASES[name](tmp_path / "sae").folder, **told)


def test_hook_points_are_not_for_files_that_name_them(load: Load, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="for SAEs whose files do not name their hook points"):
        load(save_sae(tmp_path / "sae"), hook_name=RESID)


def test_a_hook_point_is_taken_where_the_library_names_none(load: Load, tmp_path: Path) -> None:
    case = CASES["AutoEncoder"](tmp_path / "sae")
    rewrite(case.folder, "config.json", submodule_name=None)
    assert load(case.folder, "1-silent").hook_name == RESID
    assert load(case.folder, "1-told", hook_name="blocks.0.hook_mlp_out").layer == 0


@pytest.mark.parametrize(("name", "file", "spoil", "words"), [
    ("sparsify", "sae.safetensors", {"W_dec": None}, "has no tensor W_dec; it has b_dec, encoder"),
    ("sparsify", "sae.safetensors", {"W_dec": torch.zeros(3)}, "no dense array of 2 dimensions"),
    ("sparsify", "sae.safetensors", {"W_dec": torch.zeros(9, 32)}, r"W_dec .* has shape \[9, 32\]"),
    ("transcoder", "layer_1.safetensors", {"k": torch.tensor(3)}, "is a TopK transcoder"),
    ("npz", "params.npz", {"scaling_factor": torch.ones(1)}, "has a scaling_factor"),
])  # fmt: skip
def test_odd_weights_are_refused(
    name: str, file: str, spoil: dict[str, Any], words: str, load: Load, tmp_path: Path
) -> None:
    case = CASES[name](tmp_path / "sae")
    path = case.folder / file
    found = dict(np.load(path)) if path.suffix == ".npz" else load_file(path)
    found = {key: value for key, value in (found | spoil).items() if value is not None}
    np.savez(path, **found) if path.suffix == ".npz" else save_file(found, path)
    with pytest.raises(Invalid, match=words):
        load(case.folder, **case.told)


def test_a_view_that_claims_to_be_large_is_refused(load: Load, tmp_path: Path) -> None:
    case = CASES["AutoEncoder"](tmp_path / "sae")
    weights = torch.load(case.folder / "ae.pt")
    weights["encoder.weight"] = torch.zeros(1, 1).expand(10**6, 10**6)
    torch.save(weights, case.folder / "ae.pt")
    with pytest.raises(Invalid, match=r"encoder\.weight in .* is no dense array"):
        load(case.folder)


def test_yaml_that_stands_for_more_than_it_says_is_refused(load: Load, tmp_path: Path) -> None:
    """Merge keys ten times ten times ten: what a few hundred bytes would take is minutes and gigabytes."""
    case = CASES["transcoder"](tmp_path / "transcoder")
    levels = ["a0: &a0 {x: 1}"]
    levels += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 10)]
    (case.folder / "config.yaml").write_text("\n".join(levels))
    with pytest.raises(Invalid, match="aliases"):
        load(case.folder, **case.told)
    with (case.folder / "config.yaml").open("w") as file:
        file.truncate(2**21)
    with pytest.raises(Invalid, match="larger than"):
        load(case.folder, **case.told)


def test_damaged_files_are_refused(load: Load, tmp_path: Path) -> None:
    for name, file in (("AutoEncoder", "ae.pt"), ("sparsify", "sae.safetensors"),
                       ("npz", "params.npz"), ("transcoder", "layer_1.safetensors")):  # fmt: skip
        case = CASES[name](tmp_path / name)
        path = case.folder / file
        path.write_bytes(path.read_bytes()[:-500])
        with pytest.raises(Invalid, match=r"damaged|not a whole safetensors file"):
            load(case.folder, **case.told)
