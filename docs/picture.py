"""Draws docs/picture.svg from a running service: `python docs/picture.py URL`.

A neuron beside a feature, the same ranks of examples for both. The neuron source has to be there:
`saescope precompute storyworld 2-mlp`.
"""

import sys
from html import escape
from pathlib import Path
from typing import Any

import httpx

PANELS = (
    ("2-mlp", 3, "Neuron 3 of layer 2"),
    ("2-res-topk", 266, "Feature 266 of an SAE"),
)
RANKS = (("top", 0), ("top", 1), ("q5", 0), ("q4", 0), ("q3", 0))
BEFORE, AFTER = 9, 5
CHARACTER, LINE, WIDTH = 7.2, 30, 660


def example(feature: dict[str, Any], band: str, number: int, y: int) -> str:
    """One line of shaded tokens around the peak."""
    found = next(b for b in feature["bands"] if b["name"] == band)["examples"][number]
    near = slice(max(0, found["peak"] - BEFORE), found["peak"] + AFTER)
    drawn, x = [], 66.0
    for token, value in zip(found["tokens"][near], found["values"][near], strict=True):
        width = CHARACTER * len(token)
        if x + width > WIDTH:
            break
        shade = max(0.0, value) / feature["max_activation"]
        drawn.append(
            f'<rect x="{x:.1f}" y="{y - 14}" width="{width:.1f}" height="20" fill="#e8590c" '
            f'fill-opacity="{0.85 * shade:.2f}"/><text x="{x:.1f}" y="{y}" textLength="{width:.1f}"'
            f' xml:space="preserve">{escape(token).replace(chr(10), "⏎")}</text>'
        )
        x += width
    value = f'<text x="58" y="{y}" text-anchor="end" fill="#868e96">{found["max"]:.1f}</text>'
    return value + "".join(drawn)


def panel(feature: dict[str, Any], title: str, y: int) -> str:
    """A heading and its examples."""
    heading = f"{title}: active on {feature['density']:.1%} of tokens"
    lines = [f'<text x="12" y="{y}" font-weight="bold">{escape(heading)}</text>']
    lines += [
        example(feature, band, number, y + LINE * (row + 1))
        for row, (band, number) in enumerate(RANKS)
    ]
    return "\n".join(lines)


def draw(url: str) -> str:
    """The whole picture."""
    height = LINE * (len(RANKS) + 1) + 10
    parts = []
    for number, (sae, index, title) in enumerate(PANELS):
        path = f"/v1/models/storyworld/saes/{sae}/features/{index}"
        feature = httpx.get(url + path).raise_for_status().json()
        parts.append(panel(feature, title, 28 + number * height))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + 10}" height="{2 * height}" '
        'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="12" fill="#212529">'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{chr(10).join(parts)}\n</svg>\n'
    )


if __name__ == "__main__":
    Path(__file__).with_name("picture.svg").write_text(draw(sys.argv[1]))
