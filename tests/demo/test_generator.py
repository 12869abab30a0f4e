"""storyworld's text: reproducible, in its genre, and labelled with what is true of it."""

import os
import re
import subprocess
import sys
from collections import Counter
from itertools import groupby
from random import Random

import pytest

from worker.demo.concepts import BY_NAME, CONCEPTS, LEXICON
from worker.demo.generator import GENRES, document, document_of, documents
from worker.demo.genre_classifier import GenreClassifier
from worker.demo.scribe import Document, Scribe
from worker.demo.words import COUNTRY_OF, MOODS, TOPICS

_DIGEST = """
import hashlib
from worker.demo.generator import documents
text = "".join(repr((d.text, d.genre, d.regions, d.spans)) for d in documents(7, 100, 200))
print(hashlib.sha256(text.encode()).hexdigest())
"""


def _texts_of(documents_: list[Document], concept: str) -> list[str]:
    return [
        d.text[span.start : span.end] for d in documents_ for span in d.spans if concept in span[2]
    ]


@pytest.fixture(scope="module")
def many() -> list[Document]:
    return list(documents(0, 0, 1500))


def test_the_same_bytes_in_every_process():
    digests = {
        subprocess.run(
            [sys.executable, "-c", _DIGEST],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1", "2")
    }
    assert len(digests) == 1


def test_a_document_depends_on_seed_and_index_alone():
    assert list(documents(3, 10, 5)) == [document(3, i) for i in range(10, 15)]
    assert document(3, 10) != document(4, 10)
    assert len({d.text for d in documents(0, 0, 500)}) == 500


def test_there_are_enough_concepts_and_each_occurs(many: list[Document]):
    contextual = [c for c in CONCEPTS if c.kind == "contextual"]
    assert len(CONCEPTS) >= 30
    assert len(contextual) >= 15
    assert len(BY_NAME) == len(CONCEPTS)
    seen = {name for d in many for span in d.spans for name in span.concepts}
    assert seen == set(BY_NAME)


def _words_of(text: str) -> list[tuple[int, str]]:
    """Runs of letters, and each digit and mark, with where they begin; read letter by letter."""
    words, start = [], 0
    for letters, characters in groupby(text, str.isalpha):
        run = "".join(characters)
        alone = [(start + i, c) for i, c in enumerate(run) if not c.isspace() and c != "_"]
        words += [(start, run)] if letters else alone
        start += len(run)
    return words


def test_spans_are_whole_words_with_their_lexical_concepts(many: list[Document]):
    for d in many[:300]:
        words = _words_of(d.text)
        places = [(span.start, span.end) for span in d.spans]
        assert places == sorted(set(places))
        assert set(places) <= {(start, start + len(word)) for start, word in words}
        found = {s.start: {c for c in s.concepts if BY_NAME[c].kind == "token"} for s in d.spans}
        expected = {start: set(LEXICON[word]) for start, word in words if word in LEXICON}
        assert {start: own for start, own in found.items() if own} == expected


@pytest.mark.parametrize("concept", ["topic.sea", "mood.sad", "genre.news", "language.french"])
def test_carriers_bound_where_a_region_shows(many: list[Document], concept: str):
    """A word carries the concept when it is a carrier and begins within the region; there are
    others within, and carriers elsewhere."""
    carriers = BY_NAME[concept].carriers
    assert carriers is not None
    seen = Counter[tuple[bool, bool]]()
    for d in many:
        within = {i for r in d.regions if r.concept == concept for i in range(r.start, r.end)}
        held = {span.start for span in d.spans if concept in span.concepts}
        for start, word in _words_of(d.text):
            case = (start in within, word in carriers)
            assert (start in held) == all(case), (d.text, word, start)
            seen[case] += 1
    assert len(seen) == 4 and min(seen.values()) > 50


def test_quotations_are_what_stands_between_quotation_marks(many: list[Document]):
    for d in many:
        marks = [i for i, character in enumerate(d.text) if character == '"']
        inside = {i for a, b in zip(marks[::2], marks[1::2], strict=True) for i in range(a + 1, b)}
        claimed = {i for s in d.spans if "scope.quotation" in s.concepts for i in range(*s[:2])}
        visible = {i for i in inside if re.match(r"[\w]|[^\w\s]", d.text[i]) and d.text[i] != "_"}
        assert claimed == visible


def test_a_topic_holds_only_in_its_own_world(many: list[Document]):
    for name, topic in TOPICS.items():
        elsewhere = {t for other in TOPICS if other != name for t in TOPICS[other].places}
        foreign = elsewhere - set(topic.places)
        for d in many:
            if any(region.concept == f"topic.{name}" for region in d.regions):
                assert any(place in d.text for place in topic.places + topic.things) or any(
                    word in d.text for word in topic.adjectives + topic.animals
                )
                assert not any(f"near {place}" in d.text for place in foreign)


def test_a_mood_begins_after_its_name_and_decides_the_end_of_a_letter():
    for index in range(200):
        d = document_of("letter", 0, index)
        (start, mood) = next(
            (r.start, r.concept.removeprefix("mood.")) for r in d.regions if "mood." in r.concept
        )
        assert any(word in d.text[:start] for word in MOODS[mood].feelings)
        assert any(f"\n{closing}," in d.text[start:] for closing in MOODS[mood].closings)


def test_every_sum_is_right():
    found = 0
    for index in range(200):
        text = document_of("sums", 0, index).text
        for a, sign, b, total in re.findall(r"(\d+) ([+-]) (\d+) = (\d+)", text):
            found += 1
            assert int(total) == (int(a) + int(b) if sign == "+" else int(a) - int(b))
    assert found > 100


def test_roles_follow_the_facts():
    owned = 0
    for index in range(300):
        d = document_of("story", 0, index)
        statement = re.search(r"belonged to (\w+), and", d.text)
        owners = set(_texts_of([d], "role.owner"))
        assert not owners or (statement and owners == {statement[1]})
        owned += bool(owners)
        protagonists, friends = (
            set(_texts_of([d], role)) for role in ("role.protagonist", "role.friend")
        )
        assert len(protagonists) == 1
        assert len(friends) == 1
        assert not protagonists & friends
    assert owned > 50


def test_news_knows_its_geography():
    for index in range(200):
        text = document_of("news", 0, index).text
        town = text.split(",")[0]
        assert f" {COUNTRY_OF[town]}" in text


def test_code_is_python():
    for index in range(200):
        compile(document_of("code", 0, index).text, "storyworld", "exec")


@pytest.mark.parametrize("genre", GENRES)
def test_a_classifier_tells_the_genre(genre: str):
    classifier = GenreClassifier(seed=0)
    texts = [document_of(genre, 1, index).text for index in range(50)]
    assert sum(classifier(text) == genre for text in texts) >= 49


def test_a_scribe_fills_slots_and_marks_regions():
    scribe = Scribe(Random(0), {"thing": "owl", "many": "berry", "line": '"{thing}!"'})
    scribe.labels["thing"] = ("role.owner",)
    scribe.write("{a thing} ate <scope.list>{many+s}</scope.list>: {line} {Thing}.")
    d = scribe.finish("story")
    assert d.text == 'an owl ate berries: "owl!" Owl.'
    held = {(d.text[r.start : r.end], r.concept) for r in d.regions}
    assert held == {
        ("owl", "role.owner"),
        ("berries", "scope.list"),
        ("owl!", "scope.quotation"),
        ("Owl", "role.owner"),
    }
