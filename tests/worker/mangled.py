"""Folders of strangers with something wrong in them, and what is made of each, in a process that may not
take much memory: `python -m tests.worker.mangled KIND N SEED FOLDER...` prints how the cases ended.

A case ends well when it is loaded, or refused with one sentence. Anything else is printed as its error.
"""

import itertools
import json
import random
import resource
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from app.errors import Invalid
from worker.model_folder import check_model_folder
from worker.saes import load_sae

ROOM = 2**31
"""Bytes that the process may take on top of what it has when all is imported."""
PATIENCE_S = 60
ODD: list[Any] = [
    None, True, False, -1, 0, 1, 2**31, 2**63, 10**30, -(10**9), 1.5, 1e308, float("nan"), "", "x" * 10_000,
    "blocks.0.hook_resid_post", "\x00", "../../etc/passwd", [], [1], ["x"] * 1_000, {}, {"a": {"b": []}}, "float64",
    "topk", "gated", "matching_pursuit", "temporal", "llama", "torch.float16",
]  # fmt: skip
JSON = {
    "sae": ["cfg.json"],
    "model": ["config.json", "tokenizer_config.json", "generation_config.json"],
}
WEIGHTS = {"sae": "sae_weights.safetensors", "model": "model.safetensors"}


def mangle(folder: Path, kind: str, drawn: random.Random) -> str:
    """Change something in a folder; says what."""
    if drawn.random() < 0.65:
        file = folder / drawn.choice([name for name in JSON[kind] if (folder / name).exists()])
        if drawn.random() < 0.15:
            return _mangle_bytes(file, drawn, most=file.stat().st_size)
        return _mangle_json(file, drawn)
    # Nearly all that can be wrong with weights is wrong with their header.
    return _mangle_bytes(folder / WEIGHTS[kind], drawn, most=drawn.choice([8, 600, 10**9]))


def _mangle_json(file: Path, drawn: random.Random) -> str:
    told = json.loads(file.read_text())
    changed = []
    for _ in range(drawn.choice([1, 1, 1, 2, 5])):
        place: Any = told
        while True:
            key = drawn.choice(list(place)) if isinstance(place, dict) and place else None
            if key is None or not isinstance(place[key], dict) or drawn.random() < 0.2:
                break
            place = place[key]
        if key is None:
            continue
        changed.append(key)
        if drawn.random() < 0.2:
            del place[key]
        else:
            place[key] = drawn.choice(ODD)
    file.write_text(json.dumps(told))
    return f"{file.name}: {changed}"


def _mangle_bytes(file: Path, drawn: random.Random, most: int) -> str:
    data = bytearray(file.read_bytes())
    most = min(most, len(data))
    how = drawn.choice(["flip", "cut", "insert", "number"])
    for _ in range(drawn.choice([1, 3, 20])):
        place = drawn.randrange(most)
        if how == "flip":
            data[place] ^= 1 << drawn.randrange(8)
        elif how == "cut":
            del data[place : place + drawn.randrange(1, 50)]
        elif how == "insert":
            data[place:place] = drawn.randbytes(drawn.randrange(1, 50))
        else:  # a digit becomes another: sizes, offsets, shapes
            digits = [i for i, byte in enumerate(data[:most]) if 48 <= byte <= 57]
            if digits:
                data[drawn.choice(digits)] = 48 + drawn.randrange(10)
        most = max(1, min(most, len(data)))
        if not data:
            break
    file.write_bytes(data)
    return f"{file.name}: {how}"


def outcome(folder: Path, kind: str) -> str:
    """What is made of a folder."""
    try:
        if kind == "model":
            check_model_folder(folder)
            return "loaded"
        dictionary = load_sae("2-x", folder)
        dictionary.encode(torch.randn(3, dictionary.d_in))
    except Invalid as problem:
        detail = problem.detail
        return (
            "refused" if "\n" not in detail and len(detail) < 2_000 else f"told as {detail[:300]!r}"
        )
    except Exception as error:  # noqa: BLE001  what must not come
        return f"{type(error).__name__}: {error}"[:300]
    return "loaded"


def main() -> None:
    """Mangle copies of folders in turn, and say how each case ended."""
    kind, n, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    good = [Path(folder) for folder in sys.argv[4:]]
    assert all(outcome(folder, kind) == "loaded" for folder in good)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, taken + ROOM))
    drawn, ends = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as scratch:
        for number, one in zip(range(n), itertools.cycle(good), strict=False):
            folder = Path(scratch) / "mangled"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(one, folder)
            what = mangle(folder, kind, drawn)
            signal.alarm(PATIENCE_S)  # it is killed when it hangs
            ended = outcome(folder, kind)
            signal.alarm(0)
            told = f"case {number} of {one.name}, {what}: {ended}"
            ends[ended if ended in ("loaded", "refused") else told] += 1
    print(json.dumps(ends))


if __name__ == "__main__":
    main()
