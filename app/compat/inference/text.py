"""Texts and conversations as tokens."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response

from app.api.limits import check_text
from app.api.state import Use
from app.compat.inference.base import PREFIX, reshaped
from app.compat.inference.checks import model_id
from app.compat.inference.errors import DOCUMENTED
from app.compat.inference.examples import TEMPLATE, TOKENIZE, shown
from app.compat.inference.requests import ApplyChatTemplateRequest, TokenizeRequest
from app.compat.inference.shapes import ApplyChatTemplateResponse, TokenizeResponse
from app.contract import live as wire
from app.contract.reading import RenderedMessage, RenderRequest

router = APIRouter(prefix=PREFIX, tags=["inference"])


@router.post(
    "/v1/tokenize",
    summary="Cut a text into tokens",
    response_model=TokenizeResponse,
    responses=DOCUMENTED,
)
async def infer_tokenize(
    request: Request,
    services: Use,
    body: Annotated[TokenizeRequest, Body(openapi_examples=shown({"A text": TOKENIZE}))],
) -> Response:
    """Token ids and their strings, with BOS in front as the model wants it, or as `prependBos` says;
    text that spells BOS out itself gets no second one."""
    check_text(services.settings, "body.text", body.text)
    model = await model_id(services, body.model)
    wanted = wire.TokenizeRequest(model=model, text=body.text, prepend_bos=body.prepend_bos)
    return await reshaped(
        request,
        services.live.tokenize(wanted),
        lambda told: {
            "tokens": told["ids"],
            "tokenStrings": told["tokens"],
            "prependBos": body.prepend_bos is not False and told["begins_with_bos"],
        },
    )


@router.post(
    "/v1/apply-chat-template",
    summary="Put a conversation into the form of a chat template",
    response_model=ApplyChatTemplateResponse,
    responses=DOCUMENTED,
)
async def infer_template(
    request: Request,
    services: Use,
    body: Annotated[
        ApplyChatTemplateRequest, Body(openapi_examples=shown({"For a model of yours": TEMPLATE}))
    ],
) -> Response:
    """The conversation as the model reads it, and for every token whose message it belongs to, and
    whether to the message itself or to what the template puts around it."""
    text = "".join(message.content for message in body.messages)
    check_text(services.settings, "body.messages", text)
    wanted = RenderRequest(
        model=await model_id(services, body.model),
        messages=[RenderedMessage(**message.model_dump()) for message in body.messages],
        generate=body.add_generation_prompt,
        options=body.chat_template_kwargs,
        places=True,
    )
    return await reshaped(request, services.live.render(wanted), lambda told: _spans(told, body))


def _spans(told: dict[str, Any], body: ApplyChatTemplateRequest) -> dict[str, Any]:
    """From a `RenderAnswer`."""
    rows = zip(told["ids"], told["tokens"], told["places"], strict=True)
    spans = [
        {
            "position": position,
            "tokenId": token_id,
            "tokenStr": token,
            "messageIndex": place["message"],
            **_spoken(place["message"], body),
            "section": place["section"],
        }
        for position, (token_id, token, place) in enumerate(rows)
    ]
    return {"prompt": told["text"], "tokens": told["ids"], "spans": spans}


def _spoken(message: int | None, body: ApplyChatTemplateRequest) -> dict[str, Any]:
    """Who speaks; behind the messages it is the assistant's turn."""
    if message is None:
        return {"role": "assistant", "channel": None}
    own = body.messages[message]
    return {"role": own.role, "channel": own.channel}
