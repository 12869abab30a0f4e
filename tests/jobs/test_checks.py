"""`check`: what cannot work is refused before any work, with the reason in one sentence."""

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from app.contract.evaluation import FullEvaluation
from app.contract.jobs import (
    AlsoTrain,
    Corpus,
    CorpusBundled,
    CorpusFile,
    JobSpec,
    LoadSpec,
    PrecomputeSpec,
    TrainSpec,
)
from app.errors import Conflict, Forbidden, Invalid, NotFound, Problem
from app.settings import Settings
from app.store import read
from app.store.engine import open_shelf
from app.store.write import delete_sae
from tests.databases import prepare
from tests.worker.tiny import save_model, save_sae
from worker.jobs.job import Bench, Job
from worker.jobs.workflows import KINDS
from worker.progress import silent

HOOK = "blocks.1.hook_resid_post"
Check = Callable[[JobSpec], None]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An allowed folder with a model, SAEs and texts, good and bad."""
    root = tmp_path_factory.mktemp("root")
    save_model(root / "model")
    save_model(root / "other", seed=1)
    save_sae(root / "sae")
    save_sae(root / "other-sae", seed=1)
    save_sae(root / "bare", seed=2, metadata={"prepend_bos": False})
    save_sae(root / "wide", d_in=64)
    save_sae(root / "elsewhere", hook_name="blocks.7.hook_resid_post")
    (root / "story.txt").write_text("One day.\nAnother day.\n")
    (root / "empty.txt").write_text("\n\n")
    (root / "wrong.jsonl").write_text('{"txt": "a"}\n')
    return root


@pytest.fixture(scope="module")
def bench(root: Path) -> Iterator[Bench]:
    """A shelf with the model `m` and its SAEs `1-sae` and `1-bare`, the latter trained without
    BOS, and where jobs may read."""
    settings = Settings(data_dir=root / "data", model_roots=[str(root)])
    settings.data_dir.mkdir()
    prepare(settings.shelf_url)
    bench = Bench(settings, open_shelf(settings.shelf_url), torch.device("cpu"), 1.0)
    for spec in (
        LoadSpec(model="m", path=str(root / "model")),
        LoadSpec(model="m", sae="1-sae", path=str(root / "sae")),
        LoadSpec(model="m", sae="1-bare", path=str(root / "bare")),
    ):
        KINDS["load"][1](_job(bench, spec))
    yield bench
    bench.shelf.close()


@pytest.fixture
def check(bench: Bench) -> Check:
    return lambda spec: KINDS[spec.kind][0](_job(bench, spec))


def _job(bench: Bench, spec: JobSpec) -> Job[Any]:
    return Job("job", spec, bench, silent)


def _train(**changed: Any) -> TrainSpec:
    return TrainSpec(**{"model": "m", "sae": "1-new", "hook_name": HOOK, **changed})


def _precompute(**changed: Any) -> PrecomputeSpec:
    return PrecomputeSpec(**{"model": "m", "saes": ["1-sae"], **changed})


def _refused(check: Check, spec: JobSpec, kind: type[Problem], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        check(spec)
    assert len(caught.value.detail) < 500


def test_what_can_work_passes(check: Check, root: Path) -> None:
    check(LoadSpec(model="m", path=str(root / "model")))
    check(LoadSpec(model="new", path=str(root / "other")))
    check(LoadSpec(model="new", path="bundled:storyworld"))
    check(LoadSpec(model="m", sae="1-sae", path=str(root / "sae")))
    check(_train(corpus=CorpusFile(path=str(root / "story.txt"))))
    check(_precompute(saes=["1-sae", "0-mlp"], corpus=CorpusBundled(documents=5)))
    check(_precompute(saes=["1-bare", "0-mlp"], corpus=CorpusBundled(documents=5)))


@pytest.mark.parametrize("spec", [
    LoadSpec(model="nobody", sae="1-x", path="sae"),
    _train(model="nobody"),
    _precompute(model="nobody"),
    _precompute(saes=["1-sae", "1-nobody"]),
    _precompute(model="m", saes=["1-mlp", "01-mlp"]),
])  # fmt: skip
def test_models_and_saes_must_be_registered(check: Check, spec: JobSpec) -> None:
    _refused(check, spec, NotFound, "nobody|01-mlp")


def test_hook_points_and_widths_must_fit(check: Check, root: Path) -> None:
    _refused(check, _train(hook_name="blocks.9.hook_resid_post"), Invalid, "no hook point blocks.9")
    away = AlsoTrain(sae="9-b", hook_name="blocks.9.hook_resid_post")
    _refused(check, _train(also=[away]), Invalid, "^9-b: .* no hook point blocks.9")
    _refused(check, _train(also=[AlsoTrain(sae="1-b", l1_coefficient=1.0)]), Invalid, "^1-b: topk")
    wide = LoadSpec(model="m", sae="1-x", path=str(root / "wide"))
    _refused(check, wide, Invalid, "d_in 64, but .* is 32 wide")
    elsewhere = LoadSpec(model="m", sae="7-x", path=str(root / "elsewhere"))
    _refused(check, elsewhere, Invalid, "blocks.7.hook_resid_post, which the model m does not have")
    _refused(check, _precompute(saes=["7-mlp"]), Invalid, "no neurons in layer 7")


def test_ids_in_use_and_reserved_ids_are_refused(check: Check, root: Path) -> None:
    other = str(root / "other-sae")
    _refused(check, LoadSpec(model="m", path=str(root / "other")), Conflict, "model id m is in use")
    _refused(
        check, LoadSpec(model="m", sae="1-sae", path=other), Conflict, "SAE id 1-sae is in use"
    )
    _refused(check, LoadSpec(model="m", sae="1-mlp", path=other), Conflict, "1-mlp is reserved")
    _refused(check, _train(sae="1-mlp"), Conflict, "reserved")
    _refused(check, _train(sae="1-sae"), Conflict, "1-sae of the model m is in use")
    also = [AlsoTrain(sae="1-b"), AlsoTrain(sae="1-sae")]
    _refused(check, _train(also=also), Conflict, "1-sae of the model m is in use")
    _refused(check, _train(also=[AlsoTrain(sae="1-mlp")]), Conflict, "reserved")
    _refused(check, _train(also=[*also, also[0]]), Invalid, "1-b is given twice")
    _refused(check, _precompute(saes=["1-sae", "1-sae"]), Invalid, "twice")


@pytest.mark.parametrize("spec", [_train, _precompute])
@pytest.mark.parametrize(("name", "kind", "words"), [
    ("empty.txt", Problem, "no text"),
    ("wrong.jsonl", Problem, "line 1: no field `text`"),
    ("nothing.txt", Invalid, "nothing at"),
    ("model", Problem, "folder model holds no file of text"),
    ("hub:somebody/something", Forbidden, "set SAESCOPE_HUB=true"),
    ("model/config.json", Problem, "no format that can be read"),
])  # fmt: skip
def test_a_corpus_must_be_readable(
    check: Check,
    root: Path,
    spec: Callable[..., JobSpec],
    name: str,
    kind: type[Problem],
    words: str,
) -> None:
    corpus: Corpus = CorpusFile(path=name if name.startswith("hub:") else str(root / name))
    _refused(check, spec(corpus=corpus), kind, words)


@pytest.mark.parametrize("spec", [_train, _precompute])
def test_the_context_must_be_one_that_the_model_reads(
    check: Check, spec: Callable[..., JobSpec]
) -> None:
    _refused(check, spec(context_size=65), Invalid, "context_size is 65, but m reads 2 to 64")


def test_saes_that_want_different_tokens_are_refused(check: Check) -> None:
    mixed = _precompute(saes=["1-sae", "0-mlp", "1-bare"])
    _refused(check, mixed, Invalid, "some without, so they need different tokens; ask for them sep")


@pytest.mark.parametrize(("text", "words"), [
    (b'{"evaluation": null}', "evaluation: Input should be a valid dict"),
    (b'{"evaluation": {"l0": "many"}}', "evaluation: l0: Input should be a valid number"),
    (b'{"evaluation": {"l0": true}}', "evaluation: l0: Input should be a valid number"),
    (b'{"evaluation": {"l0": NaN}}', "expected a JSON value"),
    (b'{"evaluation": {"l0": 1e999}}', "infinity"),
    (b'{"evaluation": {"measured_on": {"tokens": 3}}}', "measured_on: source: Field required"),
    (b'{"evaluation": {"concepts": [{"concept": 3}]}}', "concepts: 0: concept: Input should be"),
    (b'{"provenance": []}', "provenance: Input should be a valid dict"),
    (b'{"provenance": {"a": "\\ud800"}}', "surrogate"),
    pytest.param(b'{"provenance": ' + 300 * b'{"a": ' + b"1" + 301 * b"}", "depth", id="deep"),
    (b"[]", "valid dict"),
    (b"{", "JSON|unexpected"),
    (b"\xff", "UTF-8"),
])  # fmt: skip
def test_what_a_strangers_folder_tells_is_read_strictly(
    check: Check, root: Path, tmp_path: Path, text: bytes, words: str
) -> None:
    folder = save_sae(root / tmp_path.name)
    (folder / "saescope.json").write_bytes(text)
    spec = LoadSpec(model="m", sae="1-told", path=str(folder))
    _refused(check, spec, Invalid, rf"saescope.json cannot be used \(.*({words})")


def test_what_a_folder_tells_is_served(bench: Bench, root: Path) -> None:
    folder = save_sae(root / "told", seed=9)
    told = {"evaluation": {"l0": 3, "ce_loss_score": None}, "provenance": {"by": "a friend"}}
    (folder / "saescope.json").write_text(json.dumps(told | {"more": 1}))
    KINDS["load"][1](_job(bench, LoadSpec(model="m", sae="1-told", path=str(folder))))
    record = read.sae(bench.shelf, "m", "1-told")
    assert record.evaluation == FullEvaluation(l0=3).model_dump()
    assert record.provenance == told["provenance"]


def test_broken_files_are_refused(check: Check, root: Path) -> None:
    broken = root / "broken"
    save_model(broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    _refused(check, LoadSpec(model="b", path=str(broken)), Invalid, "safetensors")
    sae = save_sae(root / "broken-sae")
    (sae / "sae_weights.safetensors").write_bytes(b"\xff" * 100)
    _refused(check, LoadSpec(model="m", sae="1-b", path=str(sae)), Invalid, "safetensors")


def test_pickles_are_refused_and_never_opened(check: Check, root: Path) -> None:
    folder = save_model(root / "pickled")
    (folder / "model.safetensors").unlink()
    with (folder / "pytorch_model.bin").open("wb") as file:
        pickle.dump(_Bomb(str(root / "exploded")), file)
    _refused(check, LoadSpec(model="p", path=str(folder)), Invalid, "pickle")
    assert not (root / "exploded").exists()


class _Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (self.path, "w"))


def test_paths_outside_the_roots_are_refused(check: Check, root: Path, tmp_path: Path) -> None:
    outside = save_model(tmp_path / "model")
    link = root / "link"
    link.symlink_to(outside)
    inside_out = save_model(root / "inside-out")
    (inside_out / "tokenizer.json").unlink()
    (inside_out / "tokenizer.json").symlink_to(outside / "tokenizer.json")
    linked = save_model(root / "linked")
    (linked / "more").symlink_to(inside_out)
    dotted = root / ".." / tmp_path.name / "model"
    for path in (outside, link, inside_out, linked, dotted, tmp_path / "nothing", Path("/etc")):
        _refused(check, LoadSpec(model="o", path=str(path)), Forbidden, "outside the folders")
    corpus = CorpusFile(path=str(tmp_path / "secret.txt"))
    _refused(check, _train(corpus=corpus), Forbidden, "outside")
    (tmp_path / "secret.txt").write_text("secret")
    (root / "texts").mkdir()
    (root / "texts" / "a.txt").symlink_to(tmp_path / "secret.txt")
    _refused(check, _train(corpus=CorpusFile(path=str(root / "texts"))), Forbidden, "outside")


@pytest.mark.parametrize("path", ["~nobodyxyz/x", "a\0b", "circle/x"])
def test_what_can_be_no_path_is_refused(check: Check, root: Path, path: str) -> None:
    circle = root / "circle"
    circle.unlink(missing_ok=True)
    circle.symlink_to(circle)
    path = path.replace("circle", str(circle))
    for spec in (LoadSpec(model="o", path=path), _train(corpus=CorpusFile(path=path))):
        _refused(check, spec, Invalid, "cannot be followed")


def test_a_name_that_is_too_long_names_nothing(check: Check, root: Path) -> None:
    _refused(check, LoadSpec(model="o", path=str(root / ("x" * 300))), Invalid, "nothing at")


@pytest.mark.parametrize("path", [
    "bundled:nothing", "bundled:storyworld/../../../etc", "bundled:storyworld/", "bundled:/etc",
])  # fmt: skip
def test_only_what_is_bundled_is_bundled(check: Check, path: str) -> None:
    _refused(check, LoadSpec(model="m", sae="1-b", path=path), Invalid, "is not a bundled SAE")
    _refused(check, LoadSpec(model="b", path=path), Invalid, "is not bundled")


def test_a_crash_between_two_registrations_goes_on(bench: Bench) -> None:
    """The same job may register what it has trained; another job may not take the id."""
    spec = _train(sae="1-one", also=[AlsoTrain(sae="1-two", d_sae=32)], training_tokens=2_048,
                  d_sae=64, k=4, train_batch_tokens=512, corpus=CorpusBundled(documents=60))  # fmt: skip
    job = Job("several", spec, bench, silent)
    check, train = KINDS["train"]
    check(job)
    whole = train(job)
    assert [one["sae"] for one in (whole, *whole["also"])] == ["1-one", "1-two"]
    delete_sae(bench.shelf, "m", "1-two")
    check(job)
    assert train(job) == whole
    for sae, result in (("1-one", whole), ("1-two", whole["also"][0])):
        record = read.sae(bench.shelf, "m", sae)
        assert record.fingerprint == result["fingerprint"]
        assert record.evaluation == result["evaluation"]
    with pytest.raises(Conflict, match="1-one of the model m is in use"):
        check(Job("other", spec, bench, silent))


def test_only_data_is_copied(bench: Bench, root: Path) -> None:
    """Code and pickles beside the weights stay where they are."""
    folder = save_model(root / "mixed", seed=3)
    for name in ("modeling.py", "optimizer.pt", "training_args.bin", ".env"):
        (folder / name).write_text("x")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    KINDS["load"][1](_job(bench, LoadSpec(model="mixed", path=str(folder))))
    [copied] = [p for p in (bench.settings.data_dir / "models").iterdir() if _has(p, "README.md")]
    names = {path.name for path in copied.iterdir()}
    assert names == {"README.md", "config.json", "generation_config.json", "model.safetensors",
                     "tokenizer.json", "tokenizer_config.json"}  # fmt: skip
    assert json.loads((copied / "config.json").read_text())["model_type"] == "gpt2"


def _has(folder: Path, name: str) -> bool:
    return (folder / name).is_file()
