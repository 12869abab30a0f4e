"""Concepts of tokens: exact under the shipped tokenizer, and contextual where they say so."""

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from worker.demo.concepts import COLUMN_OF, CONCEPTS
from worker.demo.generator import HELD_OUT_START, documents
from worker.demo.labels import in_question, membership
from worker.demo.loss import SHIPPED
from worker.demo.probe import label_tokens, token_rule_f1
from worker.demo.scribe import Document, Region


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(SHIPPED, local_files_only=True)


def test_a_token_has_the_concepts_of_the_characters_it_shows(tokenizer: PreTrainedTokenizerFast):
    for document in documents(0, HELD_OUT_START, 100):
        encoded = tokenizer(document.text, return_offsets_mapping=True)
        offsets = encoded["offset_mapping"]
        expected = np.zeros((len(offsets), len(CONCEPTS)), dtype=bool)
        for row, (start, end) in enumerate(offsets):
            for span in document.spans:
                if max(start, span.start) < min(end, span.end):
                    expected[row, [COLUMN_OF[name] for name in span.concepts]] = True
        assert np.array_equal(membership(document, offsets), expected)
        assert tokenizer.decode(encoded["input_ids"]) == document.text


def test_blanks_and_bos_have_no_concept():
    document = Document("red 7", "story", (Region(0, 5, "scope.list"),))
    table = membership(document, [(0, 0), (0, 3), (3, 4), (4, 5)])
    held = [{c.name for c, on in zip(CONCEPTS, row, strict=True) if on} for row in table]
    assert held == [set(), {"colour", "scope.list"}, set(), {"digit", "scope.list"}]


def test_accents_do_not_shift_the_labels(tokenizer: PreTrainedTokenizerFast):
    document = Document("Le garçon voit l'école et Anna.", "french", (Region(0, 31, "role.owner"),))
    encoded = tokenizer(document.text, return_offsets_mapping=True)
    table = membership(document, encoded["offset_mapping"])
    named = {
        document.text[start:end].strip()
        for (start, end), row in zip(encoded["offset_mapping"], table, strict=True)
        if row[COLUMN_OF["first_name"]]
    }
    assert named == {"Anna"}


def test_contextual_concepts_are_undecidable_from_the_token(tokenizer: PreTrainedTokenizerFast):
    labelled = label_tokens(tokenizer, list(documents(0, HELD_OUT_START, 600)))
    f1 = dict(zip((c.name for c in CONCEPTS), token_rule_f1(labelled), strict=True))
    contextual = {c.name: f1[c.name] for c in CONCEPTS if c.kind == "contextual"}
    token = {c.name: f1[c.name] for c in CONCEPTS if c.kind == "token"}
    assert max(contextual.values()) < 0.66, contextual
    assert np.mean(list(contextual.values())) < 0.4
    assert sum(value < 0.5 for value in contextual.values()) >= 15
    assert min(token.values()) > 0.85, token


def test_a_concept_is_in_question_on_its_carriers(tokenizer: PreTrainedTokenizerFast):
    for document in documents(0, HELD_OUT_START, 50):
        encoded = tokenizer(document.text, return_offsets_mapping=True)
        offsets = encoded["offset_mapping"]
        judged, held = in_question(document, offsets), membership(document, offsets)
        assert not (held & ~judged).any()
        assert judged[:, COLUMN_OF["scope.quotation"]].all()
        words = [document.text[start:end].strip() for start, end in offsets]
        sea = judged[:, COLUMN_OF["topic.sea"]]
        assert all(on for word, on in zip(words, sea, strict=True) if word in ("the", "was", "."))
        assert not any(
            on for word, on in zip(words, sea, strict=True) if word in ("boat", "Anna", "Paris")
        )
