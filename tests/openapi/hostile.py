"""Requests with something wrong in them, over plain sockets: every operation of the document, spoiled."""

import copy
import json
import random
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

ODD: list[Any] = [
    None, True, False, -1, 0, 1, 2**31, 2**63, -(2**63) - 1, 10**40, 1.5, -0.0, 1e308, "", " ", "x" * 9_000, "\x00",
    "\ud800", "../../../etc/passwd", "' OR 1=1 --", "<script>", "%00", "\u202e\u0301" * 50, "2-res-topk", "steered",
    [], [[]], [None] * 300, {}, {"": {}}, {"a": {"b": [1, {"c": None}]}},
]  # fmt: skip
RAW = [
    b"", b"\x00" * 50, b"{", b"[" * 20_000, b'{"a":' * 20_000, b'"' + b"\\u0000" * 50 + b'"', b"\xff\xfe{}", b"NaN",
    b'{"model": "storyworld", "model": 1}', b"1" * 5_000, b"null", b'{"x": 1e999}',
]  # fmt: skip
HEADERS = [
    b"Host: evil.example", b"Origin: http://evil.example", b"Content-Type: text/plain", b"Content-Type: \xff",
    b"Content-Encoding: gzip", b"Transfer-Encoding: chunked", b"Accept-Encoding: \x01,,;q=x", b"If-None-Match: \"",
    b"Cookie: =;;saescope_key=\"", b"Authorization: Bearer " + b"x" * 3_000, b"x-api-key: \xc3\xa9\xff",
    b"X-Request-Id: ../\\" , b"traceparent: 00-zz", b"Last-Event-ID: \xff", b"Range: bytes=9-1", b"Upgrade: websocket",
    b"Idempotency-Key: " + b"k" * 5_000, b"Accept: */*;q=nan", b": empty", b"no colon at all", b"Expect: 100-continue",
]  # fmt: skip
GARBAGE = [
    b"\x16\x03\x01\x02\x00",
    b"GET\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
]
SEEN_BYTES = 20_000
"""Of an answer; streams may have no end."""


class Hostile:
    """Spoils operations of a document."""

    def __init__(self, document: dict[str, Any], host: str, seed: int) -> None:
        self._operations = [
            (method.upper(), path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ]
        self._host = host.encode()
        self._drawn = random.Random(seed)

    def requests(self, n: int) -> Iterator[bytes]:
        """Whole requests as they go over the wire."""
        for _ in range(n):
            drawn = self._drawn.random()
            yield self._drawn.choice(GARBAGE) if drawn < 0.02 else self._request()

    def _request(self) -> bytes:
        method, path, operation = self._drawn.choice(self._operations)
        if self._drawn.random() < 0.05:
            method = self._drawn.choice(["PUT", "PATCH", "OPTIONS", "HEAD", "GET", "POST", "BREW"])
        body = self._body(operation)
        head = [
            f"{method} {self._target(path, operation, method)} HTTP/1.1".encode(),
            b"Host: " + self._host,
            b"Connection: close",
            *([b"Content-Type: application/json"] if body is not None else []),
            *self._drawn.sample(HEADERS, self._drawn.choice([0, 0, 0, 1, 2])),
        ]
        if body is not None:
            wrong = self._drawn.choice([0] * 20 + [-1, 7])
            head.append(b"Content-Length: %d" % max(0, len(body) + wrong))
        return b"\r\n".join(head) + b"\r\n\r\n" + (body or b"")

    def _target(self, path: str, operation: dict[str, Any], method: str) -> str:
        query = {}
        for parameter in operation.get("parameters", []):
            value, place = parameter.get("example"), parameter["in"]
            spoiled = value is None or self._drawn.random() < 0.3 or method == "DELETE"
            text = self._text() if spoiled else str(value)
            if place == "path":
                path = path.replace(f"{{{parameter['name']}}}", text)
            elif place == "query" and self._drawn.random() < 0.5:
                query[parameter["name"]] = text
        return f"{path}?{urlencode(query, errors='ignore')}" if query else path

    def _text(self) -> str:
        """An odd value as a part of a URL."""
        odd = self._drawn.choice(ODD)
        text = odd if isinstance(odd, str) else json.dumps(odd)
        how = self._drawn.random()
        if how < 0.1:
            return self._drawn.choice(
                ["%", "%zz", "%ff%fe", "..%2f..%2f", "a/b/c", "%2e%2e", "%00"]
            )
        return quote(text.encode("utf-8", "surrogatepass")[:3_000], safe="")

    def _body(self, operation: dict[str, Any]) -> bytes | None:
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content is None:
            return self._drawn.choice(RAW) if self._drawn.random() < 0.05 else None
        if self._drawn.random() < 0.1:
            return self._drawn.choice(RAW)
        examples = [one["value"] for one in content.get("examples", {}).values()] or [{}]
        told = json.loads(json.dumps(self._drawn.choice(examples)))
        for _ in range(self._drawn.choice([1, 1, 2, 4])):
            self._spoil(told)
        data = json.dumps(told).encode()
        if self._drawn.random() < 0.05:
            return data[: self._drawn.randrange(len(data))]
        return data

    def _spoil(self, told: Any) -> None:
        """Change something in it, however deep."""
        while isinstance(told, dict | list) and told:
            keys = list(told) if isinstance(told, dict) else list(range(len(told)))
            key = self._drawn.choice(keys)
            if isinstance(told[key], dict | list) and told[key] and self._drawn.random() < 0.6:
                told = told[key]
                continue
            how = self._drawn.random()
            if how < 0.2:
                del told[key]
            elif how < 0.3 and isinstance(told, list):
                told[:] = told * 40
            else:
                told[key] = copy.deepcopy(self._drawn.choice(ODD))
            return


def send(host: str, request: bytes, patience_s: float) -> bytes:
    """The beginning of the answer; empty where the connection was closed instead."""
    name, _, port = host.partition(":")
    with socket.create_connection((name, int(port)), patience_s) as connection:
        connection.settimeout(patience_s)
        try:
            connection.sendall(request)
            told = b""
            while len(told) < SEEN_BYTES and b"text/event-stream" not in told:
                if not (data := connection.recv(65_536)):
                    break
                told += data
        except (ConnectionResetError, BrokenPipeError):
            return b""
    return told
