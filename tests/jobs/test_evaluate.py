"""`evaluate` as a job: an SAE's numbers on a text, served with it."""

from typing import get_args

import numpy as np
import pytest

from app.contract.jobs import CorpusBundled, EvaluateSpec, JobKind, JobSpec
from app.contract.queues import QUEUE_OF_KIND
from app.errors import Invalid, NotFound
from app.store import read
from tests.jobs.place import Place
from tests.jobs.test_precompute import go, loaded
from worker.evaluate import evaluate
from worker.jobs.report import SHARES
from worker.jobs.workflows import KINDS
from worker.models import load_model
from worker.saes import load_sae
from worker.tokens import Sequences, tokenize_corpus

FEW = 40


def test_its_numbers_are_those_of_the_text_and_are_served(idle: Place) -> None:
    texts = loaded(idle, prepend_bos=True, d_sae=64).corpus
    result = go(idle, EvaluateSpec(model="m", sae="1-a", corpus=texts, tokens=FEW))
    model = load_model("m", idle.folder / "model")
    dictionary = load_sae("1-a", idle.folder / "sae", model=model)
    whole = tokenize_corpus(
        model,
        [line for line in (idle.folder / "texts.txt").read_text().splitlines() if line],
        model.context_size,
        prepend_bos=True,
    )
    enough = int(np.argmax(whole.offsets >= FEW))
    assert whole.offsets[enough - 1] < FEW <= whole.offsets[enough] == result["tokens"]
    first = Sequences(whole.flat[: result["tokens"]], whole.offsets[: enough + 1])
    assert result["evaluation"] == pytest.approx(evaluate(model, dictionary, first), rel=1e-6)
    assert read.sae(idle.shelf, "m", "1-a").evaluation == result["evaluation"]


def test_a_text_with_fewer_tokens_is_measured_whole(idle: Place) -> None:
    loaded(idle, prepend_bos=True, d_sae=64)
    few = CorpusBundled(documents=2, seed=2)
    result = go(idle, EvaluateSpec(model="m", sae="1-a", corpus=few))
    assert 2 < result["tokens"] < 50_000


def test_every_kind_has_a_queue_work_and_a_bar() -> None:
    (union, _) = get_args(JobSpec)
    kinds = {spec.model_fields["kind"].default for spec in get_args(union)}
    assert kinds == set(get_args(JobKind)) == QUEUE_OF_KIND.keys() == KINDS.keys() == SHARES.keys()


def test_it_runs_in_a_worker(idle: Place) -> None:
    loaded(idle, prepend_bos=True, d_sae=64)
    idle.start_worker()
    view = idle.run(EvaluateSpec(model="m", sae="1-a", corpus=CorpusBundled(documents=2, seed=2)))
    assert view.state == "done", view.error
    assert view.result and view.result["evaluation"]["l0"] > 0


def test_what_cannot_be_measured_is_refused(idle: Place) -> None:
    loaded(idle, prepend_bos=True, d_sae=64)
    with pytest.raises(Invalid, match="1-mlp are the model's own neurons"):
        go(idle, EvaluateSpec(model="m", sae="1-mlp"))
    with pytest.raises(NotFound):
        go(idle, EvaluateSpec(model="m", sae="1-other"))
    with pytest.raises(Invalid, match="reads 2 to"):
        go(idle, EvaluateSpec(model="m", sae="1-a", context_size=10**6))
