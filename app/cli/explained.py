"""What `saescope explain-neuron` prints of a neuron. The shade behind a token is its activation; where
there are no colours, brackets show the peak."""

from collections.abc import Iterator, Sequence

from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

from app.console import out
from app.store.neurons import Neuron
from app.store.records import Example
from app.store.split_records import Explained

STRONGEST, EXPLAINED = 5, 3
"""Examples at the head, and below each feature."""
BEFORE, AFTER = 44, 16
"""Characters of an example around its peak."""
BAR = 20
_DARK, _BRIGHT = (48, 30, 16), (232, 89, 12)
_ADDS, _TAKES, _STRONG = Style(color="dark_orange"), Style(color="steel_blue1"), Style(bold=True)


def tell(neuron: Neuron, display: Sequence[str], console: Console = out) -> None:
    """Print a neuron; `display` are the vocabulary's strings."""
    for line in _Page(neuron, display, console.color_system is not None).lines():
        console.print(line)


class _Page:
    def __init__(self, neuron: Neuron, display: Sequence[str], colours: bool) -> None:
        self._neuron, self._split = neuron, neuron.split
        self._display, self._colours = display, colours
        self._examples = neuron.evidence.examples

    def lines(self) -> Iterator[Text]:
        """The whole page."""
        name = f"Neuron {self._split.neuron} of layer {self._neuron.layer}"
        if not self._examples:
            yield Text(f"{name} is never active.", style=_STRONG)
            return
        yield Text(
            f"{name} is in effect made of {self._split.polysemanticity:.1f} features; it is active on "
            f"{self._neuron.evidence.density:.1%} of tokens.",
            style=_STRONG,
        )
        yield Text("\nIts strongest examples:", style=_STRONG)
        yield from (self._example(f"{one.max:.2f}", one) for one in self._examples[:STRONGEST])
        yield Text(f"\nWhat it is made of, by {self._neuron.sae}:", style=_STRONG)
        yield from self._parts()
        yield from self._rest()

    def _parts(self) -> Iterator[Text]:
        explained = {one.part: one.examples for one in self._split.groups if one.part}
        for part in self._split.features:
            yield self._bar(part.share, f"{part.feature}: {self._neuron.labels[part.feature]}")
            yield from self._group(explained.pop(part, []))
        others = sum(map(len, explained.values()))
        if self._split.n_others:
            told = f"{self._split.n_others} other features"
            yield self._bar(self._split.others, told + self._most(others))

    def _group(self, group: Sequence[Explained]) -> Iterator[Text]:
        """Some of the examples at whose peaks a feature adds the most."""
        for one in group[:EXPLAINED]:
            example = self._examples[one.window]
            yield self._example(f"{one.contribution:.2f} of {example.max:.2f}", example)
        if len(group) > EXPLAINED:
            yield Text(f"{'':>16}  and {_examples(len(group) - EXPLAINED, 'more ')}", style="dim")

    def _most(self, examples: int) -> str:
        return f"; one of them adds the most to {_examples(examples)}" if examples else ""

    def _rest(self) -> Iterator[Text]:
        variance = self._split.unexplained_variance
        differ = "" if variance is None else f"; {variance:.0%} of how its examples differ"
        yield self._bar(self._split.bias, "the bias, at every token")
        yield self._bar(self._split.rest, f"not explained{differ}")
        for one in self._split.groups:
            if one.part is None:
                yield from self._group(one.examples)

    def _bar(self, share: float, what: str) -> Text:
        """A share as a number and as a bar, in another colour where it takes away."""
        line = Text(f"{share:8.1%}  ")
        length = round(min(abs(share), 1) * BAR)
        line.append(("█" * length).ljust(BAR), style=_ADDS if share > 0 else _TAKES)
        return line.append(f"  {what}", style=_STRONG)

    def _example(self, number: str, example: Example) -> Text:
        """A number, and the text around the peak."""
        line = Text(f"{number:>16}  ")
        for at, token in self._near(example):
            text = shown(self._display[token])
            if at == example.peak and not self._colours:
                text = f"[{text}]"
            line.append(text, style=self._shade(example, at))
        return line

    def _near(self, example: Example) -> list[tuple[int, int]]:
        """Places and ids of the tokens around the peak."""
        tokens = list(enumerate(example.token_ids))
        before = self._fitting(tokens[: example.peak][::-1], BEFORE)
        after = self._fitting(tokens[example.peak + 1 :], AFTER)
        return [*reversed(before), tokens[example.peak], *after]

    def _fitting(self, tokens: list[tuple[int, int]], room: int) -> list[tuple[int, int]]:
        """The first tokens, as many as have room."""
        kept = []
        for at, token in tokens:
            room -= len(shown(self._display[token]))
            if room < 0:
                break
            kept.append((at, token))
        return kept

    def _shade(self, example: Example, at: int) -> Style:
        share = max(0.0, example.values[at]) / self._neuron.evidence.max_activation
        if not share:
            return Style()
        mixed = (round(d + (b - d) * share) for d, b in zip(_DARK, _BRIGHT, strict=True))
        return Style(color="white", bgcolor=Color.from_rgb(*mixed), bold=at == example.peak)


def _examples(n: int, which: str = "") -> str:
    return f"{n} {which}example{'s' * (n > 1)}"


def shown(token: str) -> str:
    """A token with its control characters written out: a text may hold what a terminal obeys."""
    return "".join(
        one if one.isprintable() else "⏎" if one == "\n" else ascii(one)[1:-1] for one in token
    )
