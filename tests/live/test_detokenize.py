"""Streamed text: never shown and then changed, whatever the tokens cut apart."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from worker.live.detokenize import Detokenizer


def pushed(pieces: list[bytes], stop: list[str]) -> tuple[Detokenizer, list[str]]:
    """The detokenizer after all pieces (or the stop), and its text after each."""
    detokenizer = Detokenizer(stop)
    seen = []
    for piece in pieces:
        detokenizer.push(piece)
        seen.append(detokenizer.text)
        if detokenizer.stopped:
            break
    detokenizer.flush()
    return detokenizer, [*seen, detokenizer.text]


def test_a_character_cut_apart_appears_whole() -> None:
    smile = "🙂".encode()
    _, seen = pushed([b"a", smile[:1], smile[1:3], smile[3:] + b"b"], [])
    assert seen == ["a", "a", "a", "a🙂b", "a🙂b"]


def test_bytes_that_are_no_text_are_replaced() -> None:
    _, seen = pushed([b"a\xff", b"b", "é".encode()[:1]], [])
    assert seen == ["a\ufffd", "a\ufffdb", "a\ufffdb", "a\ufffdb\ufffd"]


def test_the_beginning_of_a_stop_string_is_held_back() -> None:
    detokenizer, seen = pushed([b"one\n", b"\nU", b"ser", b": two"], ["\n\nUser:"])
    assert seen == ["one", "one", "one", "one", "one"]
    assert detokenizer.stopped


def test_a_beginning_that_goes_on_differently_is_shown() -> None:
    detokenizer, seen = pushed([b"one\n", b"\nU", b"s", b"two"], ["\n\nUser:"])
    assert seen == ["one", "one", "one", "one\n\nUstwo", "one\n\nUstwo"]
    assert not detokenizer.stopped


def test_the_first_of_several_stop_strings_ends_the_text() -> None:
    detokenizer, _ = pushed([b"ab", b"cdef"], ["ef", "cd"])
    assert detokenizer.text == "ab"


@given(st.text("ab\né🙂", max_size=30), st.lists(st.integers(1, 5)), st.text("ab\né", min_size=1))
def test_any_cut_gives_the_text_up_to_the_stop(text: str, cuts: list[int], stop: str) -> None:
    data, pieces = text.encode(), []
    for length in [*cuts, len(text) * 4]:
        pieces.append(data[:length])
        data = data[length:]
    detokenizer, seen = pushed(pieces, [stop])
    assert detokenizer.text == text.split(stop)[0]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(seen))
