"""`evaluate` as a job: an SAE's numbers on a text, served with it."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from app.contract.evaluation import ConceptScore
from app.contract.jobs import CorpusBundled, EvaluateSpec, JobKind, JobSpec, LoadSpec
from app.contract.queues import QUEUE_OF_KIND
from app.errors import Invalid, NotFound
from app.store import read
from tests.jobs.place import Place, idle_on_sqlite
from tests.jobs.test_precompute import go, loaded
from worker.demo.evaluate_saes import SAES
from worker.demo.recovery import summary, with_concepts
from worker.evaluate import evaluate
from worker.jobs.report import SHARES
from worker.jobs.summary import read_summary
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
    source = str(idle.folder / "texts.txt")
    found = result["evaluation"]
    assert found == with_concepts(evaluate(model, dictionary, first, source), []).model_dump()
    assert found["measured_on"]["source"] == source
    assert found["concept_recovery"] is None
    assert read.sae(idle.shelf, "m", "1-a").evaluation == found


def test_concepts_are_measured_where_they_are_known(tmp_path: Path) -> None:
    """The bundled model on text of its generator; what was shipped is served until then."""
    place = Place(tmp_path)
    sae = {"model": "world", "sae": "2-res"}
    go(place, LoadSpec(model="world", path="bundled:storyworld"))
    go(place, LoadSpec(**sae, path="bundled:storyworld/2-res-topk"))
    shipped = read.sae(place.shelf, "world", "2-res").evaluation
    assert shipped == read_summary(SAES / "2-res-topk").evaluation.model_dump()
    texts = CorpusBundled(documents=40, seed=3)
    found = go(place, EvaluateSpec(**sae, corpus=texts, tokens=1_500))["evaluation"]
    assert found == read.sae(place.shelf, "world", "2-res").evaluation
    assert found["measured_on"]["source"] == "bundled:storyworld documents=40 seed=3"
    rows = [ConceptScore.model_validate(row) for row in found["concepts"]]
    assert len(rows) > 10
    assert found["concept_recovery"] == summary(rows).model_dump()
    place.close()


def test_a_text_with_fewer_tokens_is_measured_whole(idle: Place) -> None:
    loaded(idle, prepend_bos=True, d_sae=64)
    few = CorpusBundled(documents=2, seed=2)
    result = go(idle, EvaluateSpec(model="m", sae="1-a", corpus=few))
    assert 2 < result["tokens"] < 50_000


def test_every_kind_has_a_queue_work_and_a_bar() -> None:
    (union, _) = get_args(JobSpec)
    kinds = {spec.model_fields["kind"].default for spec in get_args(union)}
    assert kinds == set(get_args(JobKind)) == QUEUE_OF_KIND.keys() == KINDS.keys() == SHARES.keys()


@idle_on_sqlite
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
