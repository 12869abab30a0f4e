"""Requests of every kind, drawn from a seed: what a crowd of callers asks at the same time."""

import random
from dataclasses import dataclass
from typing import Any, Literal

from tests.live.world import SITES, TEXTS

SAES = ("1-pre", "1-post", "1-attn", "1-out", "1-act", "1-z", "1-topk", "1-standard", "1-jumprelu",
        "1-gated", "1-abstopk", "1-batchtopk", "1-transcoder", "0-mlp", "2-mlp")  # fmt: skip
METHODS = ("add", "clamp", "ablate", "orthogonal", "cap")
CONTEXT = 64
Manner = Literal["whole", "stream", "slow", "leaves before", "leaves within", "leaves a stream"]


@dataclass(frozen=True)
class Asked:
    """A request, and how its caller behaves."""

    path: str
    body: dict[str, Any]
    manner: Manner = "whole"


def entry(chosen: random.Random, method: str) -> dict[str, Any]:
    """A steering entry in raw units: a feature, or now and then a vector."""
    if method in ("add", "orthogonal", "cap") and chosen.random() < 0.2:
        made: dict[str, Any] = {
            "hook": chosen.choice([SITES["pre"], SITES["post"], SITES["z"]]),
            "vector": [round(chosen.gauss(0, 1), 3) for _ in range(32)],
        }
    else:
        made = {"sae": chosen.choice(SAES), "feature": chosen.randrange(48), "unit": "raw"}
    made |= {
        "strength": round(chosen.choice([-1, 1]) * chosen.uniform(0.5, 6), 2),
        "method": method,
        "positions": chosen.choice(["all", "all", "prompt", "generated"]),
        "skip_special_tokens": chosen.random() < 0.2,
    }
    if chosen.random() < 0.25:
        made["when"] = {"sae": "0-mlp", "feature": chosen.randrange(48), "unit": "raw"}
        made["when"]["above"] = round(chosen.uniform(-0.1, 0.2), 2)
    return made


def prompted(chosen: random.Random, model: str, i: int) -> dict[str, Any]:
    """A prompt with up to three entries, greedy or sampled."""
    body: dict[str, Any] = {
        "model": model,
        "prompt": chosen.choice(TEXTS),
        "steering": [entry(chosen, METHODS[(i + n) % 5]) for n in range(i % 4)],
        "max_new_tokens": chosen.randrange(3, 11),
    }
    if i % 2:
        body |= {"temperature": chosen.choice([0.7, 1.3]), "seed": i}
        body |= chosen.choice([{}, {"top_p": 0.85}, {"top_k": 20}, {"top_p": 0.9, "top_k": 50}])
    if i % 5 == 0:
        body["stop"] = [chosen.choice(["e", "t", " "]), "never"]
    return body


def steering(chosen: random.Random, model: str, i: int) -> Asked:
    """One text or a pair; streamed, reported, exact, or left by its caller."""
    body = prompted(chosen, model, i)
    body |= {"baseline": i % 3 == 0, "report": i % 7 == 0, "exact": i % 17 == 3}
    manner: Manner = ("whole", "stream", "whole", "stream", "slow")[i % 5]
    if i % 6 == 5:
        leaving: list[Manner] = ["leaves before", "leaves within", "leaves a stream"]
        manner = leaving[i // 6 % 3]
        body |= {"max_new_tokens": 30, "stop": []}
    return Asked("/v1/steer", body | {"stream": manner in STREAMED}, manner)


STREAMED = ("stream", "slow", "leaves a stream")


def sweep(chosen: random.Random, model: str, i: int) -> Asked:
    """Up to seven doses of one or two entries."""
    body = prompted(chosen, model, 4 * i + 1 + i % 2) | {"max_new_tokens": 5}
    return Asked("/v1/steer/sweep", body | {"strengths": [0, 0.5, 1, 2, -1, 3, 4][: 2 + i % 6]})


def capture(chosen: random.Random, model: str, i: int) -> Asked:
    """Texts that nobody else asks for, so that nothing of them is in memory yet."""
    saes = chosen.sample(SAES, 1 + i % 4)
    texts = [f"{chosen.choice(TEXTS)} {i}.{n}" for n in range(1 + i % 5)]
    body = {"model": model, "saes": saes, "texts": texts, "top_k": 1 + i % 9}
    if i % 3 == 0:
        body["features"] = {saes[0]: chosen.sample(range(48), 1 + i % 4)}
    return Asked("/v1/activations", body)


def search(chosen: random.Random, model: str, i: int) -> Asked:
    """By a text, by two, by a direction; most of the models have no evidence to search."""
    texts = chosen.sample(TEXTS, 2)
    questions: list[dict[str, Any]] = [
        {"text": f"{texts[0]} {i}"},
        {"contrast": {"positive": [f"{texts[0]} {i}"], "negative": [texts[1]]}},
        {"vector": [round(chosen.gauss(0, 1), 3) for _ in range(32)]},
    ]
    return Asked("/v1/features/search", {"model": model, "limit": 5} | questions[i % 3])


def bad(chosen: random.Random, model: str, i: int) -> Asked:
    """What must be refused, or fails on the way, the first token behind it."""
    huge = entry(chosen, "add") | {"strength": 3e38, "positions": ("all", "generated")[i % 2]}
    huge |= {"when": None, "sae": "1-post", "feature": 7, "unit": "raw"}
    huge = {name: value for name, value in huge.items() if name not in ("hook", "vector")}
    vector = {"hook": SITES["post"], "vector": [1.0] * 31}
    late = {"sae": "1-pre", "feature": 3, "unit": "raw", "when": {"sae": "2-mlp", "feature": 1}}
    changes: list[dict[str, Any]] = [
        {"steering": [huge], "max_new_tokens": 9, "stop": []},
        {"steering": [huge], "max_new_tokens": 1, "report": True},
        {"steering": [vector]},
        {"steering": [{"sae": "1-post", "feature": 96}]},
        {"steering": [entry(chosen, "add")] * 33},
        {"steering": [late]},
        {"steering": [{"sae": "1-topk", "feature": 5}]},
        {"prompt": "salt and flour " * 20},
        {"max_new_tokens": CONTEXT},
        {"max_new_tokens": 0},
        {"top_p": 0.0},
        {"model": "nobody"},
        {"messages": [{"role": "user", "content": "x"}]},
    ]
    body = prompted(chosen, model, i) | changes[i % len(changes)] | {"stream": i % 5 == 0}
    return Asked("/v1/steer", body, "stream" if body["stream"] else "whole")


def mixture(seed: int, models: list[str], count: int) -> list[Asked]:
    """Requests of every kind, in an order that is drawn as well."""
    chosen = random.Random(seed)
    asked = []
    for kind, share in (
        (steering, 0.63),
        (capture, 0.13),
        (bad, 0.14),
        (sweep, 0.05),
        (search, 0.05),
    ):
        asked += [kind(chosen, chosen.choice(models), i) for i in range(round(share * count))]
    chosen.shuffle(asked)
    return asked
