"""Steered and unsteered texts as they come together, and what is told of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.compat.inference.steer_requests import SteerType
from app.compat.told import drawn

Frame = Callable[["Outputs"], dict[str, Any]]


@dataclass
class Text:
    """One of the texts: so far, and what came since it was last told."""

    whole: str = ""
    new: str = ""
    logprobs: list[orjson.Fragment] = field(default_factory=list)
    new_logprobs: list[orjson.Fragment] = field(default_factory=list)

    def add(self, text: str, logprobs: list[dict[str, Any]] | None) -> None:
        """Take more of it, as the live worker tells."""
        told = [drawn(one) for one in logprobs or ()]
        self.whole += text
        self.new += text
        self.logprobs += told
        self.new_logprobs += told

    def told(self) -> None:
        """Nothing is new any more."""
        self.new, self.new_logprobs = "", []


class Outputs:
    """The texts by type, in the order in which they are told."""

    def __init__(self, types: list[SteerType], with_logprobs: bool) -> None:
        self._with_logprobs = with_logprobs
        self.order = types
        """As asked for: one may be there twice."""
        self.texts: dict[SteerType, Text] = {type_: Text() for type_ in types}

    def add(self, choice: int, told: dict[str, Any]) -> None:
        """What is new of a text: all of it, or an event of a stream."""
        text = list(self.texts.values())[choice]
        text.add(told["text"], told.get("logprobs"))

    def scored(self, logprobs: list[orjson.Fragment]) -> dict[str, Any]:
        """Log probabilities, where they are asked for."""
        return {"logprobs": logprobs} if self._with_logprobs else {}

    def deltas(self) -> dict[str, Any]:
        """What is new, of the texts of which something is."""
        return {
            "outputs": [
                {"type": type_, "output": text.new, **self.scored(text.new_logprobs)}
                for type_, text in self.texts.items()
                if text.new or text.new_logprobs
            ]
        }

    def settle(self) -> None:
        """All of it was told."""
        for text in self.texts.values():
            text.told()


def completion(outputs: Outputs) -> dict[str, Any]:
    """A `SteerCompletionResponse`."""
    told = outputs.texts
    return {
        "outputs": [
            {"type": type_, "output": told[type_].whole, **outputs.scored(told[type_].logprobs)}
            for type_ in outputs.order
        ]
    }


def chat(prompt: list[dict[str, Any]], raw: str) -> Frame:
    """Makes a `SteerCompletionChatResponse`, of a conversation and its form for the model."""

    def frame(outputs: Outputs) -> dict[str, Any]:
        return {
            "outputs": [_chat(type_, outputs, prompt, raw) for type_ in outputs.order],
            "input": {"chatTemplate": prompt, "raw": raw},
        }

    return frame


def _chat(
    type_: SteerType, outputs: Outputs, prompt: list[dict[str, Any]], raw: str
) -> dict[str, Any]:
    text = outputs.texts[type_]
    answer = {"content": text.whole, "role": "assistant"}
    return {
        "chatTemplate": [*prompt, answer],
        "raw": raw + text.whole,
        "type": type_,
        **outputs.scored(text.logprobs),
    }
