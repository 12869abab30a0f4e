"""Requests checked, tokenised and compiled, before they reach the model thread.

Everything that can be wrong with a request is found here, so that what joins a batch can run.
"""

import math

import orjson

from app.contract.live import (
    ActivationsRequest,
    Drawn,
    Message,
    Prompted,
    SteerRequest,
    SweepRequest,
    TokenizeRequest,
)
from app.contract.steering import Intervention
from app.errors import Invalid, TooLarge
from app.settings import Settings
from worker.live.answer import Answer, Generation
from worker.live.capture import CaptureJob
from worker.live.detokenize import Detokenizer
from worker.live.kinds import OfSae
from worker.live.resident import Held
from worker.live.sampling import Sampling
from worker.live.steering import check_feature, compile_edits
from worker.live.template import rendered
from worker.models import LanguageModel
from worker.saes import Dictionary, common_bos
from worker.tokens import encode_text


def tokenize(request: TokenizeRequest, held: Held) -> bytes:
    """JSON of a `TokenizeAnswer`."""
    model = held.resident.model
    ids = encode_text(model, request.text, request.prepend_bos)
    tokens = [held.resident.vocabulary.display[token] for token in ids]
    begins = bool(ids) and ids[0] == model.bos_id
    return orjson.dumps({"ids": ids, "tokens": tokens, "begins_with_bos": begins})


def prepare_capture(request: ActivationsRequest, held: Held, settings: Settings) -> CaptureJob:
    """The job of an activations request.

    BOS is put in front as the SAEs were trained, or as the model says when they do not.
    """
    if not request.texts:
        raise Invalid("texts is empty; give at least one text.")
    if request.top_k < 1:
        raise Invalid(f"top_k is {request.top_k}; it must be at least 1.")
    for sae in request.features:
        if sae not in request.saes:
            raise Invalid(f"features names {sae}, which is not in saes; add it there.")
    readings = [_reading(request, sae, held.dictionaries[sae]) for sae in held.dictionaries]
    prepend_bos = common_bos(d.prepend_bos for d in held.dictionaries.values())
    model = held.resident.model
    named = {f"texts[{i}]": text for i, text in enumerate(request.texts)}
    texts = encode_texts(named, prepend_bos, model, settings.max_request_tokens)
    _check_values(sum(map(len, texts)), readings, settings.max_values)
    return CaptureJob(texts, readings)


def prepare_generation(request: SteerRequest, held: Held, settings: Settings) -> Generation:
    """The generation of a steering request: the steered answer and, if wanted, the baseline."""
    answers = {"steered": request.interventions}
    if request.baseline:
        answers["baseline"] = []
    receipts = {"steered"} if request.report else set()
    return _generation(request, answers, receipts, held, settings, request.exact)


def prepare_sweep(request: SweepRequest, held: Held, settings: Settings) -> Generation:
    """The generation of a sweep: an answer with a receipt for each strength, named by its place."""
    answers = {
        f"strengths[{place}]": _times(request.interventions, strength)
        for place, strength in enumerate(request.strengths)
    }
    if not answers:
        raise Invalid("strengths is empty; give at least one.")
    return _generation(request, answers, set(answers), held, settings, exact=False)


def _times(interventions: list[Intervention], strength: float) -> list[Intervention]:
    """Amounts are linear in the strength for every method but ablate, whose amount is 0."""
    return [one.model_copy(update={"amount": one.amount * strength}) for one in interventions]


def _generation(
    request: Prompted,
    answers: dict[str, list[Intervention]],
    receipts: set[str],
    held: Held,
    settings: Settings,
    exact: bool,
) -> Generation:
    """Answers to one prompt, by name, each with its interventions."""
    check_sampling(request)
    resident = held.resident
    edits = {
        name: compile_edits(
            own, resident.model, held.dictionaries, resident.exact_mid, resident.order
        )
        for name, own in answers.items()
    }
    prompt = _prompt(request, resident.model, held.dictionaries, settings)
    check_room(len(prompt), request.max_new_tokens, held)
    return Generation(
        answers=[
            Answer(
                name=name,
                prompt=prompt,
                edits=own,
                sampling=Sampling(request.temperature, request.top_p, request.top_k, request.seed),
                max_new_tokens=request.max_new_tokens,
                eos_ids=resident.model.eos_ids,
                vocabulary=resident.vocabulary,
                text=Detokenizer(request.stop),
                wants_receipt=name in receipts,
            )
            for name, own in edits.items()
        ],
        exact=exact,
        timeout_s=settings.live_timeout_s,
    )


def _reading(request: ActivationsRequest, sae: str, dictionary: Dictionary) -> OfSae:
    features = request.features.get(sae)
    for feature in features or ():
        check_feature("features", dictionary, feature)
    columns = None if features is None else tuple(features)
    return OfSae(sae, dictionary, columns, request.top_k)


def encode_texts(
    texts: dict[str, str], prepend_bos: bool | None, model: LanguageModel, limit: int
) -> list[list[int]]:
    """Token ids of texts, each named by where the request has it. Those behind the limit are not
    looked at: others wait meanwhile."""
    encoded: list[list[int]] = []
    total = 0
    for where, text in texts.items():
        ids = encode_text(model, text, prepend_bos)
        check_ids(where, ids, model)
        if len(ids) > model.context_size:
            raise Invalid(
                f"{where} has {len(ids)} tokens; {model.id} reads {model.context_size} at most.",
                tokens=len(ids),
                limit=model.context_size,
            )
        total += len(ids)
        if total > limit:
            raise TooLarge(
                f"The texts up to {where} have {total} tokens together; one request may have "
                f"{limit}. Send them in several requests.",
                tokens=total,
                limit=limit,
            )
        encoded.append(ids)
    return encoded


def _check_values(tokens: int, readings: list[OfSae], limit: int) -> None:
    wanted = sum(
        min(one.top_k, one.dictionary.d_sae) if one.features is None else len(one.features)
        for one in readings
    )
    if tokens * wanted > limit:
        raise TooLarge(
            f"The answer could have {tokens * wanted} values, for {tokens} tokens and {wanted} "
            f"features of all SAEs; one answer may have {limit}. Ask for fewer texts, SAEs or "
            "features, or for a smaller top_k."
        )


def check_ids(where: str, ids: list[int], model: LanguageModel) -> None:
    """Raise `Invalid` unless these are tokens of the model, at least one."""
    if not ids:
        raise Invalid(f"{where} has no tokens; give some text.")
    if max(ids) >= model.vocab_size:
        raise Invalid(
            f"{where} holds token {max(ids)}, for which {model.id} has no embedding; leave out "
            "the special token that it stands for."
        )


def _prompt(
    request: Prompted,
    model: LanguageModel,
    dictionaries: dict[str, Dictionary],
    settings: Settings,
) -> list[int]:
    if request.prompt is not None and request.messages is None:
        return text_prompt("The prompt", request.prompt, model, dictionaries)
    if request.messages is not None and request.prompt is None:
        return chat_prompt(request.messages, model, settings)
    raise Invalid("Give either prompt or messages.")


def text_prompt(
    where: str, text: str, model: LanguageModel, dictionaries: dict[str, Dictionary]
) -> list[int]:
    """Token ids of a prompt. BOS is put in front as the SAEs were trained, or as the model says when
    they do not, or when they differ."""
    told = {one.prepend_bos for one in dictionaries.values()} - {None}
    ids = encode_text(model, text, told.pop() if len(told) == 1 else None)
    check_ids(where, ids, model)
    return ids


def chat_prompt(messages: list[Message], model: LanguageModel, settings: Settings) -> list[int]:
    """Token ids of a conversation in the form of the model's chat template."""
    # The template itself says where BOS goes.
    text = rendered([message.model_dump() for message in messages], model)
    if len(text) > settings.max_text_chars:
        raise Invalid(
            f"The conversation has {len(text):,} characters in the form of the chat template; at most "
            f"{settings.max_text_chars:,} (SAESCOPE_MAX_TEXT_CHARS) are read."
        )
    ids = encode_text(model, text, prepend_bos=False)
    check_ids("The prompt", ids, model)
    return ids


def check_sampling(request: Drawn) -> None:
    """Raise `Invalid` for what no row can be drawn with: it must not reach the batch."""
    if not (math.isfinite(request.temperature) and request.temperature >= 0):
        raise Invalid(f"temperature is {request.temperature}; it must be 0 (greedy) or more.")
    if not 0 < request.top_p <= 1:
        raise Invalid(f"top_p is {request.top_p}; it must be above 0 and at most 1.")
    if request.top_k is not None and request.top_k < 1:
        raise Invalid(f"top_k is {request.top_k}; it must be at least 1, or left out.")
    if request.max_new_tokens < 1:
        raise Invalid(f"max_new_tokens is {request.max_new_tokens}; it must be at least 1.")
    if "" in request.stop:
        raise Invalid("stop holds an empty string, which would stop every answer; leave it out.")


def check_room(prompt: int, new: int, held: Held) -> None:
    """Raise `Invalid` unless a row holds so many tokens of a prompt and so many new ones."""
    limit = held.engine.max_len
    if prompt + new > limit:
        raise Invalid(
            f"The prompt has {prompt} tokens and max_new_tokens is {new}; together they may be "
            f"{limit} for {held.resident.model.id}.",
            prompt_tokens=prompt,
            max_new_tokens=new,
            limit=limit,
        )
