"""Packed vocabularies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.store import read, vocabulary, write
from app.store.engine import Shelf
from app.store.records import Vocabulary
from tests.store import builders

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
TOKENS = st.lists(st.tuples(TEXT, st.binary(max_size=8)), max_size=20)


@given(TOKENS, st.lists(st.integers(0, 2**31 - 1), max_size=3))
def test_every_string_comes_back(tokens: list[tuple[str, bytes]], special: list[int]) -> None:
    given = Vocabulary([shown for shown, _ in tokens], [raw for _, raw in tokens], special)
    assert vocabulary.unpack(vocabulary.pack(given)) == given


def test_another_format_is_refused() -> None:
    blob = vocabulary.pack(Vocabulary(["a"], [b"a"], []))
    with pytest.raises(ValueError, match="format 9"):
        vocabulary.unpack(b"\x09" + blob[1:])


def test_those_read_last_are_kept(sqlite_shelf: Shelf) -> None:
    names = [str(number) for number in range(vocabulary.KEPT + 3)]
    for name in names:
        write.put_model(
            sqlite_shelf, builders.model_record(name, name.rjust(64, "0")), builders.vocabulary()
        )
    for name in names:
        read.vocabulary(sqlite_shelf, name)
    kept = [fingerprint.lstrip("0") for fingerprint in sqlite_shelf.vocabularies]
    assert kept == names[-vocabulary.KEPT :]
