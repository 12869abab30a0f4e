"""Answers as the plain objects and bytes of `app.contract.live`."""

from collections.abc import Iterator
from statistics import fmean
from typing import Any

import numpy as np
import orjson

from app.store.records import Vocabulary
from worker.live.answer import Answer, Generation
from worker.live.capture import CaptureJob
from worker.live.kinds import OfSae, Reading, Values
from worker.live.receipt import Receipt
from worker.live.strongest import Strongest

_ENTRIES = 1024
"""Active features of a piece, but for one token that has more."""


def activations(
    job: CaptureJob, values: list[dict[str, Values]], vocabulary: Vocabulary
) -> Iterator[bytes]:
    """JSON of an `ActivationsAnswer`, in pieces that take milliseconds each: an answer can have
    millions of values."""
    yield b'{"results":['
    for place, (ids, own) in enumerate(zip(job.texts, values, strict=True)):
        tokens = orjson.dumps(display(ids, vocabulary))
        yield b'%b{"tokens":%b,"saes":{' % (b"," if place else b"", tokens)
        for nth, reading in enumerate(job.readings):
            yield b"%b%b:" % (b"," if nth else b"", orjson.dumps(reading.name))
            yield from _sae(reading, own[reading.name], len(ids))
        yield b"}}"
    yield b"]}"


def steer_answer(generation: Generation) -> dict[str, Any]:
    """A `SteerAnswer`; completion tokens of both answers together."""
    answers = {answer.name: _completion(answer) for answer in generation.answers}
    return {
        "steered": answers["steered"],
        "baseline": answers.get("baseline"),
        "usage": _usage(generation),
        "timings": _timings(generation),
    }


def sweep_answer(generation: Generation, strengths: list[float]) -> bytes:
    """JSON of a `SweepAnswer`."""
    rows = [
        {"strength": strength, **_response(answer, answer.receipt)}
        for strength, answer in zip(strengths, generation.answers, strict=True)
        if answer.receipt
    ]
    answer = {"rows": rows, "usage": _usage(generation), "timings": _timings(generation)}
    return orjson.dumps(answer)


def delta(answer: Answer, text: str, tokens: list[int]) -> dict[str, Any]:
    """A `SteerEvent` with what is new of an answer."""
    return {
        "event": "delta",
        "answer": answer.name,
        "text": text,
        "tokens": display(tokens, answer.vocabulary),
    }


def last_event(generation: Generation) -> dict[str, Any]:
    """The `SteerEvent` that ends a stream."""
    if generation.problem is not None:
        return {"event": "error", "problem": generation.problem.body()}
    return {"event": "done", "done": steer_answer(generation)}


def _sae(reading: Reading, values: Values, length: int) -> Iterator[bytes]:
    if isinstance(values, Strongest):
        yield b'{"top":'
        yield from top(values, length)
        yield b"}"
    else:
        assert isinstance(reading, OfSae), "nothing else has columns"
        yield b'{"features":{'
        columns = dict(zip(reading.features or (), values.T, strict=True))
        for nth, (feature, column) in enumerate(columns.items()):
            yield b'%b"%d":%b' % (b"," if nth else b"", feature, orjson.dumps(column.tolist()))
        yield b"}}"


def top(found: Strongest, length: int) -> Iterator[bytes]:
    """JSON of what is active at each of `length` tokens, strongest first."""
    before = np.searchsorted(found.token, np.arange(length + 1))
    yield b"["
    start = 0
    while start < length:
        within = np.searchsorted(before, before[start] + _ENTRIES, side="right") - 1
        stop = min(length, max(start + 1, int(within)))
        part = _top(found.part(start, stop), stop - start)
        yield (b"," if start else b"") + orjson.dumps(part)[1:-1]
        start = stop
    yield b"]"


def _top(found: Strongest, length: int) -> list[list[dict[str, Any]]]:
    top: list[list[dict[str, Any]]] = [[] for _ in range(length)]
    triples = zip(found.token.tolist(), found.feature.tolist(), found.value.tolist(), strict=True)
    for token, feature, value in triples:
        top[token].append({"feature": feature, "value": value})
    return top


def _completion(answer: Answer) -> dict[str, Any]:
    report = {"report": _report(answer, answer.receipt)} if answer.receipt else {}
    return _text(answer) | report


def _text(answer: Answer) -> dict[str, Any]:
    return {
        "text": answer.text.text,
        "tokens": display(answer.tokens, answer.vocabulary),
        "finish_reason": answer.reason,
    }


def _report(answer: Answer, receipt: Receipt) -> dict[str, Any]:
    return {
        "tokens": display(answer.prompt + answer.tokens, answer.vocabulary),
        **_perplexities(receipt),
        "kl": receipt.kl,
        "sites": [{"hook": hook, **vars(site)} for hook, site in receipt.sites.items()],
        "features": [
            _name(answer, place) | vars(of) for place, of in sorted(receipt.features.items())
        ],
    }


def _response(answer: Answer, receipt: Receipt) -> dict[str, Any]:
    """A `SweepRow` without its strength."""
    n = len(answer.tokens)
    means = {
        place: {"before": fmean(of.before[-n:]), "after": fmean(of.after[-n:])}
        for place, of in sorted(receipt.features.items())
    }
    return {
        **_text(answer),
        **_perplexities(receipt),
        "kl": fmean(receipt.kl),
        "features": [_name(answer, place) | mean for place, mean in means.items()],
    }


def _perplexities(receipt: Receipt) -> dict[str, float]:
    steered, unsteered = receipt.perplexity
    return {"perplexity": steered, "unsteered_perplexity": unsteered}


def _name(answer: Answer, place: int) -> dict[str, Any]:
    """Whose numbers these are: only entries of a feature have any."""
    edit = answer.edits[place]
    assert edit.dictionary is not None
    return {"entry": place, "sae": edit.dictionary.id, "feature": edit.feature}


def _usage(generation: Generation) -> dict[str, int]:
    return {
        "prompt_tokens": len(generation.answers[0].prompt),
        "completion_tokens": sum(len(answer.tokens) for answer in generation.answers),
    }


def _timings(generation: Generation) -> dict[str, float]:
    start = generation.submitted
    return {
        "queued": (generation.joined or start) - start,
        "first_token": (generation.first_token or start) - start,
        "total": (generation.ended or start) - start,
    }


def display(ids: list[int], vocabulary: Vocabulary) -> list[str]:
    return [vocabulary.display[token] for token in ids]
