"""Signing a browser in with a key, and out."""

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from app.api.access import COOKIE
from app.api.state import Use
from app.errors import Unauthorized
from app.web.page import page

router = APIRouter(include_in_schema=False)
KEPT_S = 30 * 86_400


class SignIn(BaseModel):
    """A key, as it was shown when it was made."""

    key: str


@router.get("/login")
def login_page(request: Request, services: Use) -> Response:
    """A field for a key."""
    return page(services, request, "login.html", signed_in=COOKIE in request.cookies)


@router.post("/login")
async def login(request: Request, services: Use, given: SignIn) -> Response:
    """Have the browser keep a key, where no page's script can read it."""
    key = given.key.strip()
    if await services.keyring.find(key) is None:
        raise Unauthorized("There is no such key, or it was revoked.")
    response = Response(status_code=204, headers={"HX-Redirect": "/"})
    response.set_cookie(
        COOKIE,
        key,
        max_age=KEPT_S,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


@router.post("/logout")
async def logout() -> Response:
    """Have the browser forget its key."""
    response = Response(status_code=204, headers={"HX-Redirect": "/login"})
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response
