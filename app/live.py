"""The way to the live worker: HTTP with kept-alive connections, problems passed on as they are.

A request that is cancelled here, because its client went away, closes its connection, and that
ends the work in the live worker.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any

import aiohttp
import orjson
from pydantic import BaseModel, ValidationError

from app import traces
from app.contract import reading
from app.contract.complete import CompleteRequest
from app.contract.live import (
    MODEL_HEADER,
    ActivationsRequest,
    LiveHealth,
    SteerRequest,
    SweepRequest,
    TokenizeRequest,
)
from app.contract.search import SearchRequest
from app.errors import Problem, Unavailable, from_body
from app.logs import REQUEST_ID
from app.observe import HEADER

HEALTH_TIMEOUT_S = 2.0
CONNECT_TIMEOUT_S = 5.0
PROBLEM_PREFIX = "urn:saescope:problem:"
EVENTS = "application/x-ndjson"
LATE_S = 2.0
"""Seconds behind the time limit in which the worker can say itself what took too long."""
IDLE_S = 4.0
"""Connections idle for longer are closed here, before the worker does it (uvicorn: 5 s)."""


class Live:
    """Asks one live worker (or a load balancer in front of several)."""

    def __init__(self, url: str, token: str, timeout_s: float) -> None:
        self.url = url
        self.in_flight = 0
        """Requests that the live worker has not yet answered whole."""
        self._timeout_s = timeout_s
        self._token = token

    @cached_property
    def _session(self) -> aiohttp.ClientSession:
        """Made by the first request, as it belongs to the event loop."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=["Accept-Encoding"],
        )

    async def close(self) -> None:
        """Close the connections."""
        if "_session" in self.__dict__:
            await self._session.close()

    async def health(self) -> LiveHealth:
        """What the worker holds; `Unavailable` when it does not answer within two seconds."""
        async with self._send("GET", "/health", timeout=HEALTH_TIMEOUT_S) as response:
            return LiveHealth.model_validate_json(await response.read())

    async def activations(self, request: ActivationsRequest) -> bytes:
        """JSON of an `ActivationsAnswer`, as the worker wrote it."""
        return await self._ask("/activations", request)

    async def tokenize(self, request: TokenizeRequest) -> bytes:
        """JSON of a `TokenizeAnswer`, as the worker wrote it."""
        return await self._ask("/tokenize", request)

    async def search(self, request: SearchRequest) -> bytes:
        """JSON of a `SearchAnswer`, as the worker wrote it."""
        return await self._ask("/search", request)

    async def steer(self, request: SteerRequest) -> bytes:
        """JSON of a `SteerAnswer`, as the worker wrote it."""
        return await self._ask("/steer", request)

    async def sweep(self, request: SweepRequest) -> bytes:
        """JSON of a `SweepAnswer`, as the worker wrote it."""
        return await self._ask("/sweep", request)

    async def complete(self, request: CompleteRequest) -> bytes:
        """JSON of a `CompleteAnswer`, as the worker wrote it."""
        return await self._ask("/complete", request)

    async def values(self, request: reading.ValuesRequest) -> bytes:
        """JSON of a `ValuesAnswer`, as the worker wrote it."""
        return await self._ask("/values", request)

    async def active(self, request: reading.ActiveRequest) -> bytes:
        """JSON of an `ActiveAnswer`, as the worker wrote it."""
        return await self._ask("/active", request)

    async def rank(self, request: reading.RankRequest) -> bytes:
        """JSON of a `RankAnswer`, as the worker wrote it."""
        return await self._ask("/rank", request)

    async def states(self, request: reading.StatesRequest) -> bytes:
        """JSON of a `StatesAnswer`, as the worker wrote it."""
        return await self._ask("/states", request)

    async def direction(self, request: reading.DirectionRequest) -> bytes:
        """JSON of a `DirectionAnswer`, as the worker wrote it."""
        return await self._ask("/direction", request)

    async def cosines(self, request: reading.CosinesRequest) -> bytes:
        """JSON of a `CosinesAnswer`, as the worker wrote it."""
        return await self._ask("/cosines", request)

    async def render(self, request: reading.RenderRequest) -> bytes:
        """JSON of a `RenderAnswer`, as the worker wrote it."""
        return await self._ask("/render", request)

    def steer_events(self, request: SteerRequest) -> AsyncGenerator[dict[str, Any], None]:
        """`SteerEvent`s, as they come. A break of the connection is `Unavailable`."""
        return self._events("/steer", request)

    def complete_events(self, request: CompleteRequest) -> AsyncGenerator[dict[str, Any], None]:
        """`CompleteEvent`s, as they come. A break of the connection is `Unavailable`."""
        return self._events("/complete", request)

    async def _ask(self, path: str, request: BaseModel) -> bytes:
        async with self._send("POST", path, request) as response:
            return await response.read()

    async def _events(self, path: str, request: BaseModel) -> AsyncGenerator[dict[str, Any], None]:
        async with self._send("POST", path, request, media_type=EVENTS) as response:
            async for line in _lines(response):
                event = orjson.loads(line)
                if not isinstance(event, dict) or "event" not in event:
                    raise self._stranger(200)
                yield event

    @asynccontextmanager
    async def _send(
        self,
        method: str,
        path: str,
        body: BaseModel | None = None,
        timeout: float | None = None,
        media_type: str = "application/json",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        self.in_flight += 1
        try:
            with traces.calling(f"live {path}") as traced:
                async with self._session.request(
                    method,
                    f"{self.url.rstrip('/')}{path}",
                    headers={
                        HEADER: REQUEST_ID.get(),
                        MODEL_HEADER: getattr(body, "model", ""),
                        **traced,
                    },
                    data=None if body is None else orjson.dumps(body.model_dump()),
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(
                        total=timeout,
                        sock_connect=CONNECT_TIMEOUT_S,
                        sock_read=self._timeout_s + LATE_S,
                    ),
                ) as response:
                    if response.status != 200:
                        raise self._problem(response.status, await response.read())
                    packed = "Content-Encoding" in response.headers
                    if response.content_type != media_type or packed:
                        raise self._stranger(200)
                    yield response
        except (ValidationError, orjson.JSONDecodeError):
            raise self._stranger(200) from None
        except TimeoutError:
            raise Unavailable(
                f"The live worker at {self.url} did not answer within "
                f"{timeout or self._timeout_s:g} seconds; try again, or look into its log."
            ) from None
        except aiohttp.ClientError as error:
            raise Unavailable(
                f"The live worker at {self.url} cannot be reached ({type(error).__name__}); start "
                "it with `saescope worker live`, or everything with `saescope up`."
            ) from None
        finally:
            self.in_flight -= 1

    def _problem(self, status: int, body: bytes) -> Problem:
        if status == 401:
            return Unavailable(
                f"The live worker at {self.url} refused our token; both processes must use the "
                "same SAESCOPE_DATA_DIR, or the same `live.token` file in it."
            )
        try:
            told = orjson.loads(body)
            if told["type"].startswith(PROBLEM_PREFIX):
                return from_body(told)
        except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
            pass  # not one of our problems, whatever it is
        return self._stranger(status)

    def _stranger(self, status: int) -> Unavailable:
        return Unavailable(
            f"What answers at {self.url} is not a live worker (status {status}); set "
            "SAESCOPE_LIVE_URL to the address of `saescope worker live`."
        )


async def _lines(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    """Lines of a body, however long they are."""
    rest = b""
    async for data in response.content.iter_any():
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            yield line
