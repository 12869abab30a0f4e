"""The steps of docs/superposition.md, run against a service: `python -m tests.flow.tutorial DATA_DIR URL`
writes what they print into the page; the test compares the page with what they print now.

A step is a `console` block: a line `$ saescope ...` or `$ curl ...`, then what it prints. An answer in
JSON is compared as the README's are. Of other text the lines that begin at the margin are, without
their numbers.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.flow.readme import SHOWN_URL, _cut, shape, shown
from tests.flow.service import SAESCOPE

PAGE = Path(__file__).parents[2] / "docs" / "superposition.md"
BLOCK = re.compile(r"```console\n\$ (.*)\n([\s\S]*?)```")


def steps() -> list[tuple[str, str]]:
    """(command, output as shown) of every step on the page."""
    return [(found[1], found[2]) for found in BLOCK.finditer(PAGE.read_text())]


def run(command: str, url: str, env: dict[str, str], cwd: Path | None) -> str:
    """What a step prints, as the page shows it; a sentence on stderr when it is refused."""
    script = command.replace(SHOWN_URL, url)
    if command.startswith("saescope "):
        script = f"{shlex.quote(SAESCOPE)} {command.removeprefix('saescope ')}"
    ran = subprocess.run(
        ["bash", "-c", script], env=env, cwd=cwd, capture_output=True, text=True, check=False
    )
    printed = ran.stdout if ran.returncode == 0 else ran.stderr
    return shown(json.loads(printed)) if printed.startswith("{") else printed


def outline(printed: str) -> object:
    """What must be the same on every machine."""
    if printed.startswith("{"):
        return shape(_cut(json.loads(printed)))
    lines = [line for line in printed.splitlines() if line and not line.startswith(" ")]
    return [re.sub(r"[\d.,]*\d", "#", line) for line in lines]


def shares(printed: str) -> list[float]:
    """The percentages that lines begin with."""
    return [float(share) for share in re.findall(r"^ +(-?[\d.]+)%  ", printed, re.MULTILINE)]


def write(data_dir: str, url: str) -> None:
    """Put what the steps print on a running service into the page."""
    env = os.environ | {"SAESCOPE_DATA_DIR": data_dir}

    def answered(found: re.Match[str]) -> str:
        return f"```console\n$ {found[1]}\n{run(found[1], url, env, None)}```"

    PAGE.write_text(BLOCK.sub(answered, PAGE.read_text()))


if __name__ == "__main__":
    write(*sys.argv[1:])
