"""Who may ask: whoever has a key, where there are keys; on loopback without any, everyone.

A key comes as `Authorization: Bearer`, as `x-api-key` (Neuronpedia's clients), as `x-secret-key` (its web
app), or from a browser that was signed in as a cookie. A cookie goes along with every request of the
browser, whoever's page made it: what changes something needs the page's own token beside it.

What keeps web pages out of a service without keys is in `app.api.guards`.
"""

import asyncio
import hmac
import logging
from http.cookies import CookieError, SimpleCookie

from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.keyring import Keyring
from app.api.problems import render
from app.api.scopes import needed
from app.errors import Forbidden, Problem, Unauthorized
from app.keys import Key, csrf_token
from app.keys import Scope as KeyScope
from app.observe import KEY
from app.store import audit

COOKIE, CSRF = "saescope_key", "x-csrf-token"
_log = logging.getLogger(__name__)


class Access:
    """Refuses requests without the key that they need, counts those with one, and writes down what
    changed something."""

    def __init__(self, app: ASGIApp, keyring: Keyring, is_loopback: bool) -> None:
        self.app = app
        self._keyring = keyring
        self._is_loopback = is_loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        need = needed(scope["method"], scope["path"])
        try:
            who = await self._admit(Headers(scope=scope), scope["method"], need)
        except Problem as problem:
            headers = {"WWW-Authenticate": "Bearer"} if problem.status == 401 else None
            await render(problem, headers)(scope, receive, send)
            return
        if who != audit.LOCALLY:
            scope[KEY] = who
        changes = need == "admin"
        await self.app(scope, receive, _Noted(self._keyring, scope, who, send) if changes else send)

    async def _admit(self, headers: Headers, method: str, need: KeyScope | None) -> str:
        """Who asks: the id of a key, or whoever is on this machine."""
        if need is None or (self._is_loopback and await self._keyring.is_empty()):
            return audit.LOCALLY
        key = await self._key_of(headers, method)
        if not key.may(need):
            raise Forbidden(
                f"This key has the scope {key.scope}; this needs {need}. `saescope keys create "
                f"--scope {need}` makes such a key."
            )
        await self._keyring.take(key)
        return key.id

    async def _key_of(self, headers: Headers, method: str) -> Key:
        sent, cookie = _sent(headers), _cookie(headers)
        if not sent and cookie and method not in ("GET", "HEAD", "OPTIONS"):
            token = headers.get(CSRF, "")
            if not hmac.compare_digest(token.encode(), csrf_token(cookie).encode()):
                raise Forbidden("The page is out of date, or not ours; reload it.")
        text = sent or cookie
        if not text:
            raise Unauthorized(
                "Send a key: `Authorization: Bearer saescope_…`, or sign in at /login."
            )
        key = await self._keyring.find(text)
        if key is None:
            raise Unauthorized("There is no such key, or it was revoked.")
        return key


class _Noted:
    """A `send` that writes down how a request ended."""

    def __init__(self, keyring: Keyring, scope: Scope, who: str, send: Send) -> None:
        self._shelf = keyring.shelf
        self._action = f"{scope['method']} {scope['path']}"
        self._who = who
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            made = Headers(raw=message["headers"]).get("location", "")
            await self._note(f"{message['status']} {made}".rstrip())
        await self._send(message)

    async def _note(self, outcome: str) -> None:
        # It was done, whether or not it can be written down.
        try:
            await asyncio.to_thread(audit.put, self._shelf, self._who, self._action, outcome)
        except SQLAlchemyError:
            _log.exception("What %s changed could not be written down.", self._who)


def _sent(headers: Headers) -> str | None:
    kind, _, text = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return text.strip()
    return headers.get("x-api-key") or headers.get("x-secret-key")


def _cookie(headers: Headers) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return found.value if found else None
