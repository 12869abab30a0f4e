"""Conversations in the form of a model's chat template, which comes with the model and is run in a
sandbox."""

import inspect
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template

from app.errors import Invalid
from worker.models import LanguageModel

Trace = Callable[..., Any]
PATIENCE_S = 5.0
"""Seconds that a template may take; they take milliseconds."""


def rendered(
    messages: Sequence[dict[str, Any]],
    model: LanguageModel,
    generate: bool = True,
    options: dict[str, Any] | None = None,
) -> str:
    """The conversation as text; with `generate` what introduces the next answer stands at its end.

    Raises:
        Invalid: the model has no chat template, or it refuses these messages or options.
    """
    if not model.has_chat_template:
        raise Invalid(
            f"{model.id} has no chat template; give a prompt instead of messages.",
            lacks="chat template",
        )
    _check_options(model, options or {})
    try:
        with _impatient():
            text = model.tokenizer.apply_chat_template(
                list(messages), add_generation_prompt=generate, tokenize=False, **(options or {})
            )
    except Exception as error:  # a template may raise anything, by its own filters and macros
        raise Invalid(
            f"The chat template of {model.id} refuses these messages: {error}."
        ) from error
    return str(text)


@contextmanager
def _impatient() -> Iterator[None]:
    """End a template that goes on and on: loops in loops take years, and nobody else can end them."""
    deadline = time.monotonic() + PATIENCE_S

    def line(*_: object) -> Trace:
        if time.monotonic() > deadline:
            raise TimeoutError(f"it takes longer than {PATIENCE_S:g} s")
        return line

    def call(frame: FrameType, *_: object) -> Trace | None:
        return line if frame.f_code.co_filename == "<template>" else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        yield
    finally:
        sys.settrace(before)


def _check_options(model: LanguageModel, options: dict[str, Any]) -> None:
    """Variables of the template alone: other names would change what is done with it."""
    taken = {"messages", "self"}.union(
        *(
            inspect.signature(function).parameters
            for function in (model.tokenizer.apply_chat_template, render_jinja_template)
        )
    )
    for name in options:
        if name in taken:
            raise Invalid(
                f"options holds {name}, which is no variable of a template; leave it out."
            )
