"""Several choices for several prompts: requests checked, tokenised and compiled.

As in `app.contract.complete`: choice p x n + i is the i-th for prompt p.
"""

import math

from app.contract.complete import CompleteRequest
from app.errors import Invalid, TooLarge
from app.settings import Settings
from worker.live.answer import Answer, Generation
from worker.live.detokenize import Detokenizer
from worker.live.prepare import chat_prompt, check_ids, check_room, check_sampling, text_prompt
from worker.live.resident import Held
from worker.live.sampling import Sampling
from worker.live.steering import Edit, compile_edits


def prepare_complete(request: CompleteRequest, held: Held, settings: Settings) -> Generation:
    """The generation of a request: an answer for each choice, named by its place."""
    check_sampling(request)
    _check_choices(request)
    resident = held.resident
    edits = compile_edits(
        request.interventions, resident.model, held.dictionaries, resident.exact_mid, resident.order
    )
    prompts = _prompts(request, held, settings)
    choices = [
        (prompt, seed, () if place in request.unsteered else edits)
        for place, prompt in enumerate(prompts)
        for seed in request.seeds
    ]
    return Generation(
        answers=[
            _answer(request, f"choices[{place}]", prompt, seed, own, held)
            for place, (prompt, seed, own) in enumerate(choices)
        ],
        exact=False,
        timeout_s=settings.live_timeout_s,
    )


def _check_choices(request: CompleteRequest) -> None:
    if not request.seeds:
        raise Invalid("seeds is empty; give one for each choice.")
    if not all(map(math.isfinite, (request.presence_penalty, request.frequency_penalty))):
        raise Invalid("presence_penalty and frequency_penalty must be finite numbers.")
    if request.logprobs is not None and request.logprobs < 0:
        raise Invalid(f"logprobs is {request.logprobs}; it must be 0 or more, or left out.")


def _prompts(request: CompleteRequest, held: Held, settings: Settings) -> list[list[int]]:
    """Token ids of every prompt; ids that are given are taken as they are, without a BOS. Those behind
    the limit are not looked at: others wait meanwhile."""
    if bool(request.prompts) == (request.messages is not None):
        raise Invalid("Give either prompts or messages.")
    model = held.resident.model
    if request.messages is not None:
        return [chat_prompt(request.messages, model, settings)]
    prompts: list[list[int]] = []
    limit = settings.max_request_tokens
    for place, prompt in enumerate(request.prompts or ()):
        where = f"prompts[{place}]"
        if isinstance(prompt, str):
            prompts.append(text_prompt(where, prompt, model, held.dictionaries))
        else:
            check_ids(where, prompt, model)
            prompts.append(prompt)
        if (total := sum(map(len, prompts))) > limit:
            raise TooLarge(
                f"The prompts up to {where} have more tokens together than the {limit} that one "
                "request may have; send them in several requests.",
                tokens=total,
                limit=limit,
            )
    return prompts


def _answer(
    request: CompleteRequest,
    name: str,
    prompt: list[int],
    seed: int,
    edits: tuple[Edit, ...],
    held: Held,
) -> Answer:
    new, room = request.max_new_tokens, held.engine.max_len - len(prompt)
    if request.fit:
        new = max(1, min(new, room))
    check_room(len(prompt), new, held)
    return Answer(
        name=name,
        prompt=prompt,
        edits=edits,
        sampling=Sampling(
            request.temperature,
            request.top_p,
            request.top_k,
            seed,
            request.presence_penalty,
            request.frequency_penalty,
        ),
        max_new_tokens=new,
        eos_ids=held.resident.model.eos_ids,
        vocabulary=held.resident.vocabulary,
        text=Detokenizer(request.stop),
        top_logprobs=request.logprobs,
    )
