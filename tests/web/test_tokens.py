"""Tokens as they are shown, and examples cut at their peak."""

from typing import Any

import pytest

from app.web.tokens import LEVELS, level, pieces_of, quoted, strip, visible


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        (" She", " She"),
        ("é學🙂", "é學🙂"),
        ("  ", "␣␣"),
        ("", ""),
        ("\n", "↵"),
        ("\t\r", "⇥␍"),
        ("a\nb", "a↵b"),
        ("\x00\x1b", "␀␛"),
        ("\u202ecod.exe", "‹202E›cod.exe"),
        ("a\u200bb", "a‹200B›b"),
        ("\ufeff", "‹FEFF›"),
        ("\ud800", "‹D800›"),
        ("a\xa0", "a\xa0"),
        ("<script>", "<script>"),
    ],
)
def test_what_cannot_be_seen_is_shown(token: str, shown: str) -> None:
    assert visible(token) == shown


@pytest.mark.parametrize(
    ("label", "pieces"),
    [
        ("cats", [("cats", False)]),
        ("on ` a`, `\n`", [("on ", False), (" a", True), (", ", False), ("↵", True)]),
        ("` a` too", [(" a", True), (" too", False)]),
        ("a ` alone", [("a ` alone", False)]),
        ("` `` `", [(" ", True), (" ", True)]),
    ],
)
def test_tokens_in_a_label_stand_out(label: str, pieces: list[tuple[str, bool]]) -> None:
    assert quoted(label) == pieces


def test_levels_grow_with_the_share_of_the_maximum() -> None:
    assert [level(value, 10.0) for value in (-1.0, 0.0, 1e-9, 0.5, 0.51, 5.0, 10.0, 11.0)] == [
        0, 0, 1, 1, 2, 10, LEVELS, LEVELS,
    ]  # fmt: skip
    assert level(1.0, 0.0) == 0


def test_silent_tokens_are_one_piece_and_none_is_lost() -> None:
    tokens, values = ["a", " b", "\n", "c", "d"], [0.0, 0.0, 2.0, 0.0, 0.0]
    found = list(pieces_of(tokens, values, 4.0))
    assert [(one.text, one.level, one.value) for one in found] == [
        ("a b", 0, 0.0), ("↵", 10, 2.0), ("cd", 0, 0.0),
    ]  # fmt: skip


@pytest.mark.parametrize("peak", [0, 1, 3])
def test_a_strip_is_cut_at_its_peak(peak: int) -> None:
    tokens = ["a", "b", "c", "d"]
    values = [1.0 if place == peak else 0.0 for place in range(4)]
    example: dict[str, Any] = {
        "tokens": tokens, "values": values, "peak": peak, "max": 1.0, "sequence": 3, "offset": 5,
    }  # fmt: skip
    found = strip(example, 1.0)
    assert "".join(one.text for one in found.before) == "".join(tokens[:peak])
    assert found.after[0] == (tokens[peak], LEVELS, 1.0, True)
    assert "".join(one.text for one in found.after) == "".join(tokens[peak:])
    assert (found.max, found.sequence, found.offset) == (1.0, 3, 5)


def test_a_silent_peak_is_a_piece_of_its_own() -> None:
    example = {
        "tokens": ["a", "b"],
        "values": [0, 0],
        "peak": 1,
        "max": 0,
        "sequence": 0,
        "offset": 0,
    }
    assert [one.text for one in strip(example, 1.0).after] == ["b"]
