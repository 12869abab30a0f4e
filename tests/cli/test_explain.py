"""What `saescope explain-neuron` prints."""

import io
import re

import pytest
from rich.console import Console

from app.cli import explained
from app.store import neurons, read
from app.store.engine import Shelf
from tests.store import split_builders


@pytest.fixture
def filled(sqlite_shelf: Shelf) -> Shelf:
    split_builders.fill(sqlite_shelf)
    return sqlite_shelf


def printed(shelf: Shelf, index: int, colours: bool) -> str:
    console = Console(
        file=io.StringIO(), force_terminal=colours, color_system="truecolor" if colours else None,
        soft_wrap=True, highlight=False, width=100,
    )  # fmt: skip
    found = neurons.neuron(shelf, "tiny", 0, index)
    explained.tell(found, read.vocabulary(shelf, "tiny").display, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_page_names_every_share_and_its_examples(filled: Shelf) -> None:
    page = printed(filled, 5, colours=False)
    examples = neurons.neuron(filled, "tiny", 0, 5).evidence.examples
    assert page.startswith("Neuron 5 of layer 0 is in effect made of 2.5 features; it is ")
    assert re.findall(r"^ +(-?[\d.]+)%  (\S+|) ", page, re.MULTILINE) == [
        ("50.0", "█" * 10), ("-10.0", "█" * 2), ("20.0", "█" * 4), ("10.0", "█" * 2),
        ("30.0", "█" * 6),
    ]  # fmt: skip
    assert "5: fires on tok5, promotes tok5" in page
    assert "3 other features\n" in page
    assert f"1.50 of {examples[0].max:.2f}  " in page and f"1.25 of {examples[4].max:.2f}  " in page
    assert re.search(r"not explained; 5% of how its examples differ\n +0.00 of [^\n]+\n$", page)
    peak = examples[0].token_ids[examples[0].peak]
    assert f"[ tok{peak}]" in page
    assert "\x1b" not in page


def test_colours_stand_in_for_brackets(filled: Shelf) -> None:
    page = printed(filled, 5, colours=True)
    assert "[ tok" not in re.sub(r"\x1b\[[\d;]*m", "", page)
    shaded = set(re.findall(r"48;2;(\d+);\d+;\d+m( tok\d+)", page))
    assert len({shade for shade, _ in shaded}) > 5
    evidence = neurons.neuron(filled, "tiny", 0, 5).evidence
    dark, bright = explained._DARK[0], explained._BRIGHT[0]
    for one in evidence.examples[:5]:
        share = one.values[one.peak] / evidence.max_activation
        shade = round(dark + (bright - dark) * share)
        assert (str(shade), f" tok{one.token_ids[one.peak]}") in shaded


def test_a_neuron_that_is_never_active_is_said_to_be(filled: Shelf) -> None:
    assert printed(filled, 49, colours=False) == "Neuron 49 of layer 0 is never active.\n"


def test_what_a_terminal_would_obey_is_written_out() -> None:
    assert explained.shown("\x1b[2J[bold]\x9b é\n") == "\\x1b[2J[bold]\\x9b é⏎"
