"""A small HTTP load generator: a few keep-alive connections in a process of its own.

It writes requests and counts bytes, and does not parse what comes back but for its length, so
that the server is what is measured.

    python -m bench.load HOST PORT CONNECTIONS CODING < paths

CODING is the Accept-Encoding to ask with. Prints {"seconds": ..., "requests": ..., "bytes": ...}.
"""

import asyncio
import sys
import time
from collections.abc import Iterator

import orjson


async def get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
    """One request; the size of the body. ValueError when the answer is not 200."""
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise ValueError(f"{request.decode()!r} answered {head.decode()!r}")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    await reader.readexactly(length)
    return length


async def connection(host: str, port: int, requests: Iterator[bytes]) -> int:
    """Send requests one after another until there are no more; the bytes received."""
    reader, writer = await asyncio.open_connection(host, port, limit=2**20)
    received = 0
    for request in requests:
        received += await get(reader, writer, request)
    writer.close()
    return received


async def run(
    host: str, port: int, connections: int, coding: str, paths: list[str]
) -> dict[str, float]:
    """Send all requests over a few connections that share them."""
    headers = f"Host: {host}:{port}\r\nAccept-Encoding: {coding}\r\n\r\n"
    requests = iter([f"GET {path} HTTP/1.1\r\n{headers}".encode() for path in paths])
    start = time.perf_counter()
    received = await asyncio.gather(*(connection(host, port, requests) for _ in range(connections)))
    return {
        "seconds": time.perf_counter() - start,
        "requests": len(paths),
        "bytes": sum(received),
    }


if __name__ == "__main__":
    host, port, connections, coding = sys.argv[1:]
    answer = asyncio.run(run(host, int(port), int(connections), coding, sys.stdin.read().split()))
    print(orjson.dumps(answer).decode())
