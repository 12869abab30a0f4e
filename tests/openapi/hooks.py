"""What schemathesis is told about the document and the service. Its process loads this file alone.

All of it holds for whatever the document has. Where a new surface refuses a request that the document
allows, and no schema can say why, the sentence belongs into `UNSAID`.
"""

import json
import os
import re
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import Failure
from schemathesis.generation.meta import TestPhase
from schemathesis.openapi.checks import RejectedPositiveData

DOOMED: dict[str, str] = json.loads(os.environ["OPENAPI_DOOMED"])
"""By the ids that other requests need, those that may be deleted in their place."""
DONE = os.environ["OPENAPI_DONE"]
"""Id of a job that is done."""
UNSAID = (
    # Of two fields one must be given, or they must agree.
    "give either `prompt` or `messages`",
    "give exactly one of `text`, `contrast` and `vector`",
    "`side` goes with `vector`",
    "give either `sae` and `feature`, or `hook` and `vector`",
    "needs a feature; a vector can be",
    "a vector has no stored maximum",
    "is the older name of",
    "`top_logprobs` needs `logprobs: true`",
    "features names .* not in saes",
    "has no strength to vary",
    "`strengths` must go away from 0",
    r"messages\.\d+\.\S* is not read here",  # taken when it is empty
    "exactly one of .* must be provided",
    "give the feature: ",
    "has both vectors and features",
    "modelId is .*, which is steered",
    r"model is '.*'; (allowed: |it must be )",
    "Name the model in `model`",
    # Digits of a body for a number that is out of bounds: a pattern does not count.
    r"[\" ](?!path|query)[\w.]+: input should be (less|greater) than or equal to \S+, not '[-0-9.]+'",
    # What may be asked for at once: tokens, values, choices. An operator may allow more, or less.
    r"\(SAESCOPE_MAX_\w+\)",
    "together they may be",
    "one (answer|request|search) may",
    r"\d+ in all",
    r"has [0-9,]+ characters; allowed: at most",
    "bytes of variables",
    r"has \d+ tokens; .* reads \d+ at most",
    r"Text too long: \d+ tokens, max is",
    "No room to generate: the prompt is",
    # Text and numbers that are right, and nothing can be made of them.
    "`cursor` was not given out for this list",
    "`q(uery)?` has no letters or digits",
    "has no tokens",
    "has no direction",
    "needs a direction",
    "than 32-bit numbers hold",
    "no longer finite",
    "is no (finite|32-bit) number",
    "allowed: one with a direction",
    "this cannot be passed on",
    # What the model, the SAE or the corpus has.
    "has no chat template",
    "The chat template of .* refuses these messages",
    "has no hook point",
    "for which .* has no embedding",
    r"has \d+ numbers",
    r"feature is \d+; allowed: 0 to \d+",
    r"has no feature \d+; its features are",
    r"has \d+ values; allowed: the model's",
    r"layerNumber is \d+; allowed: 0 to \d+",
    "whose width is not known here",
    r"is out of range for the given prompt",
    r"at holds \d+; ",
    r"Layers .* are out of range; this model has",
    "Invalid (source set|SAE ID or type)",
    "has no evidence to take the maximum from",
    "never fired on the corpus",
    "cannot be steered",
    "which a forward reaches only",
    "trained with BOS",
)
"""Refusals of requests that agree with the document: rules that no schema can state."""
LENGTHS = {"max_new_tokens", "max_tokens", "max_completion_tokens", "n_tokens", "nCompletionTokens"}
SHORT = 4
"""Tokens that say as much of a route as many do: most of the time would go into them."""
EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "data": {
            "anyOf": [
                {"const": "[DONE]"},
                {"contentMediaType": "application/json", "contentSchema": {"type": "object"}},
            ]
        }
    },
}
"""Every event of every stream."""


@schemathesis.hook
def before_load_schema(context: HookContext, raw_schema: dict[str, Any]) -> None:
    """In OpenAPI 3.1 the schema of a stream is of its whole text, which is a string; schemathesis
    reads it as that of each event."""
    for methods in raw_schema["paths"].values():
        for operation in methods.values():
            for response in operation["responses"].values():
                if stream := response.get("content", {}).get("text/event-stream"):
                    stream.pop("schema", None)
                    stream["itemSchema"] = EVENT


@schemathesis.hook
def flatmap_case(context: HookContext, case: Case) -> st.SearchStrategy[Case]:
    """What is drawn at random names nothing that is there, and hardly agrees with itself. So a good body
    is often one of the document's examples but for some fields, and a job the one that is done."""
    return _likely(case) if case.meta.generation.mode.is_positive else st.just(case)


@st.composite
def _likely(draw: st.DrawFn, case: Case) -> Case:
    # hypothesis begins with the simplest: the first of several, false, the empty set.
    for name, example in _header_examples(case).items():
        case.headers[name] = draw(st.sampled_from([example, case.headers.get(name, example)]))
    if "job" in case.path_parameters and case.meta.phase.name is not TestPhase.STATEFUL:
        case.path_parameters["job"] = draw(st.sampled_from([DONE, case.path_parameters["job"]]))
    drawn = case.body
    if (
        isinstance(drawn, dict)
        and drawn
        and (bodies := _examples(case))
        and not draw(st.booleans())
    ):
        names = draw(st.sets(st.sampled_from(sorted(drawn)), max_size=2))
        case.body = draw(st.sampled_from(bodies)) | {name: drawn[name] for name in names}
    return case


def _header_examples(case: Case) -> dict[str, str]:
    """In the document: a key to which something belongs."""
    parameters = case.operation.definition.raw.get("parameters", [])
    return {
        one["name"]: next(iter(one["examples"].values()))["value"]
        for one in parameters
        if one["in"] == "header" and "examples" in one
    }


def _examples(case: Case) -> list[dict[str, Any]]:
    """Bodies in the document; where they are of several kinds, of the kind that was drawn."""
    content = case.operation.definition.raw.get("requestBody", {}).get("content", {})
    media = content.get("application/json", {})
    bodies = [example["value"] for example in media.get("examples", {}).values()]
    kind = media.get("schema", {}).get("discriminator", {}).get("propertyName")
    return [body for body in bodies if not kind or body[kind] == case.body[kind]]


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Nothing that other requests need is deleted, and only what is asked as an example is long."""
    if isinstance(case.body, dict) and case.meta and case.meta.generation.mode.is_positive:
        for name in LENGTHS & case.body.keys():
            if case.meta.phase.name is not TestPhase.EXAMPLES and type(case.body[name]) is int:
                case.body[name] = min(case.body[name], SHORT)
    if case.method == "DELETE" and case.path_parameters:
        name, last = list(case.path_parameters.items())[-1]
        case.path_parameters[name] = DOOMED.get(str(last), last)
    if case.path.endswith("/delete") and isinstance(case.body, dict):
        for name in {"listId", "index"} & case.body.keys():
            case.body[name] = DOOMED.get(str(case.body[name]), case.body[name])


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case, response: Response) -> bool:
    """Whether a finding counts."""
    return not (isinstance(failure, RejectedPositiveData) and _unsaid(response.text))


def _unsaid(answer: str) -> bool:
    return any(re.search(rule, answer) for rule in UNSAID)
