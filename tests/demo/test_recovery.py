"""Concept recovery: a planted feature is found, and the shipped figures are what their rules reach."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from app.cli.evaluated import tell_evaluated
from app.contract.bundled import BUNDLED_SAES
from app.contract.jobs import HELD_OUT, EvaluateSpec
from tests.worker.tiny import D_MLP, D_MODEL, N_LAYERS, save_model, save_sae
from worker.demo.columns import states
from worker.demo.concepts import COLUMN_OF, CONCEPTS
from worker.demo.evaluate_saes import SAES
from worker.demo.generator import CORPUS_START, documents
from worker.demo.loss import SHIPPED
from worker.demo.recovery import label, recover, summary
from worker.jobs.corpus import source_of
from worker.jobs.summary import read_summary
from worker.models import load_model
from worker.saes import load_sae
from worker.tokens import tokenize_corpus
from worker.train.order import beginning

WIDTH = 40


@torch.inference_mode()
def test_a_planted_concept_is_found_and_other_texts_are_refused(tmp_path: Path) -> None:
    """One direction of the embedding is made to say whether the token is a digit."""
    tokenizer = AutoTokenizer.from_pretrained(SHIPPED)
    model = load_model("m", save_model(tmp_path / "model", "qwen2", tokenizer=tokenizer))
    direction = torch.nn.functional.normalize(torch.randn(D_MODEL), dim=0)
    digits = tokenizer.convert_tokens_to_ids(list("0123456789"))
    weight = model.hf.get_input_embeddings().weight
    weight[digits] += (20 - weight[digits] @ direction)[:, None] * direction
    hook = "blocks.0.hook_resid_pre"
    folder = save_sae(tmp_path / "sae", hook_name=hook, d_sae=WIDTH, planted=direction)
    dictionary = load_sae("0-planted", folder, model=model)
    texts = list(documents(3, CORPUS_START, 60))
    sequences = tokenize_corpus(model, [d.text for d in texts], 64, prepend_bos=True)
    reported: list[tuple[str, float, float]] = []
    rows = recover(
        model, dictionary, sequences, texts, lambda *told, **_: reported.append(told[:3])
    )
    (found,) = (row for row in rows if row.concept == "digit")
    assert (found.feature, found.sign, found.f1, found.contextual) == (0, 1, 1, False)
    assert found.threshold > 5
    assert found.token_f1 == 1
    columns = 2 * WIDTH + N_LAYERS * D_MLP
    assert reported[-1] == ("concepts", columns, columns)
    names = [concept.name for concept in CONCEPTS]
    assert [row.concept for row in rows] == [n for n in names if n in {r.concept for r in rows}]
    with pytest.raises(ValueError, match="not the tokens of these documents"):
        label(model, sequences, documents(4, CORPUS_START, 60))


@torch.inference_mode()
def test_the_shipped_figures_are_what_their_rules_reach() -> None:
    """The rule of each row, applied anew to the documents that did not choose it."""
    model = load_model("storyworld", SHIPPED)
    texts = list(documents(HELD_OUT.seed, CORPUS_START, HELD_OUT.documents))
    whole = tokenize_corpus(model, [d.text for d in texts], model.context_size, prepend_bos=True)
    sequences = beginning(whole, EvaluateSpec(model="m", sae="s").tokens)
    labelled = label(model, sequences, texts)
    odd = labelled.document % 2 == 1
    seen: dict[str, torch.Tensor] = {}
    for sae in BUNDLED_SAES:
        dictionary, told = load_sae(sae, SAES / sae, model=model), read_summary(SAES / sae)
        measured, rows = told.evaluation.measured_on, told.evaluation.concepts
        assert measured and measured.source == source_of(HELD_OUT)
        assert measured.tokens == len(labelled.ids)
        assert {row.concept for row in rows} == {concept.name for concept in CONCEPTS}
        hook = dictionary.hook_name
        if hook not in seen:
            seen[hook] = states(model, sequences, hook)
        features = torch.tensor([row.feature for row in rows])
        values = dictionary.encode_columns(seen[hook], features).numpy()
        for row, value in zip(rows, values.T, strict=True):
            column = COLUMN_OF[row.concept]
            judged = odd & labelled.in_question[:, column]
            called = row.sign * value[judged] >= row.sign * row.threshold - 1e-5
            truth = labelled.concepts[judged, column]
            both, either = np.count_nonzero(called & truth), np.count_nonzero(called | truth)
            assert row.f1 == pytest.approx(2 * both / (both + either), abs=0.005)
        assert told.evaluation.concept_recovery == summary(rows)


@pytest.mark.parametrize(
    "page", ["README.md", "docs/decisions/0017-what-concept-recovery-measures.md"]
)
def test_pages_show_the_shipped_figures(page: str) -> None:
    text = (Path(__file__).parents[2] / page).read_text()
    for sae in BUNDLED_SAES:
        recovery = read_summary(SAES / sae).evaluation.concept_recovery
        assert recovery and recovery.contextual
        mean = recovery.contextual
        shown = (mean.feature, mean.neuron, mean.random, mean.token)
        assert f"\n| `{sae}` | {' | '.join(f'{value:.2f}' for value in shown)} |\n" in text


def test_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    found = read_summary(SAES / "2-res-topk").evaluation
    tell_evaluated({"model": "storyworld", "sae": "2-res-topk", "evaluation": found.model_dump()})
    printed = capsys.readouterr().out
    assert f"tokens of {source_of(HELD_OUT)}" in printed
    assert found.concept_recovery and found.concept_recovery.contextual
    mean = found.concept_recovery.contextual
    (line,) = (line for line in printed.splitlines() if line.startswith("mean, contextual"))
    assert line.split()[2:] == [
        f"{value:.2f}" for value in (mean.feature, mean.neuron, mean.random, mean.token)
    ]
    for row in found.concepts:
        (line,) = (line for line in printed.splitlines() if line.startswith(f"{row.concept} "))
        assert line.split()[1] == str(row.feature)
    tell_evaluated(
        {
            "model": "m",
            "sae": "s",
            "evaluation": found.model_copy(update={"concepts": []}).model_dump(),
        }
    )
    assert "concept" not in capsys.readouterr().out
