"""Conversations in the form of a model's chat template, which comes with the model and is run in a
sandbox."""

import inspect
from collections.abc import Sequence
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template

from app.errors import Invalid
from worker.models import LanguageModel


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
        text = model.tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=generate, tokenize=False, **(options or {})
        )
    except Exception as error:  # a template may raise anything, by its own filters and macros
        raise Invalid(
            f"The chat template of {model.id} refuses these messages: {error}."
        ) from error
    return str(text)


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
