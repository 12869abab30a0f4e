"""Asks what `tests.live.mixture` draws, through the API, all at once or one at a time."""

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.api.server import events_in
from tests.live.mixture import Asked


@dataclass
class Outcome:
    """What a caller got."""

    status: int = 0
    """0 when the caller left."""
    answer: Any = None
    """JSON of the answer, or of the problem."""
    deltas: list[dict[str, Any]] = field(default_factory=list)

    def streamed(self, name: str) -> tuple[str, list[str]]:
        """Text and tokens of an answer, put together from its deltas."""
        own = [delta for delta in self.deltas if delta["answer"] == name]
        return "".join(d["text"] for d in own), [token for d in own for token in d["tokens"]]


class Crowd:
    """Callers of one API."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._others = asyncio.Event()
        """Set when everybody who reads at once has an answer; slow readers wait for it."""

    async def at_once(self, asked: list[Asked]) -> list[Outcome]:
        """Everybody asks at the same moment."""
        async with self._client() as client:
            tasks = [asyncio.create_task(self._ask(client, one)) for one in asked]
            await asyncio.wait(
                [t for t, one in zip(tasks, asked, strict=True) if one.manner != "slow"]
            )
            self._others.set()
            return await asyncio.gather(*tasks)

    async def one_at_a_time(self, asked: list[Asked]) -> list[Outcome]:
        """Nobody asks before the last one is answered, and nobody leaves."""
        self._others.set()
        async with self._client() as client:
            return [await self._whole(client, one) for one in asked]

    def _client(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=None)
        return httpx.AsyncClient(base_url=self._url, timeout=120, limits=limits, trust_env=False)

    async def _ask(self, client: httpx.AsyncClient, asked: Asked) -> Outcome:
        if asked.manner in ("leaves before", "leaves within"):
            with suppress(TimeoutError):
                async with asyncio.timeout(0.01 if asked.manner == "leaves before" else 0.4):
                    await client.post(asked.path, json=asked.body)
            return Outcome()
        if asked.manner == "leaves a stream":
            return await self._beginning(client, asked)
        return await self._whole(client, asked)

    async def _whole(self, client: httpx.AsyncClient, asked: Asked) -> Outcome:
        async with client.stream("POST", asked.path, json=asked.body) as response:
            read = bytearray()
            async for part in response.aiter_bytes():
                read += part
                if asked.manner == "slow":
                    await self._others.wait()
        if not response.headers["content-type"].startswith("text/event-stream"):
            return Outcome(response.status_code, json.loads(read))
        *deltas, (_, last) = events_in(bytes(read))
        return Outcome(200, json.loads(last), [json.loads(data) for _, data in deltas])

    async def _beginning(self, client: httpx.AsyncClient, asked: Asked) -> Outcome:
        """Of a stream: its first events."""
        async with client.stream("POST", asked.path, json=asked.body) as response:
            read = b""
            async for part in response.aiter_bytes():
                read += part
                if b"\n\n" in read:
                    break
        events = events_in(read)
        return Outcome(0, None, [json.loads(data) for name, data in events if name == "delta"])
