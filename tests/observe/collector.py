"""A small OTLP/HTTP collector: takes what a tracer posts, and keeps it."""

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

PATIENCE_S = 60.0


class Collector:
    """Listens on a free port until it is closed."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def spans(self, trace_id: str) -> list[tuple[str, Span]]:
        """(Name of the service, span) of one trace, as far as they have come."""
        found = []
        for body in list(self.bodies):
            for part in ExportTraceServiceRequest.FromString(body).resource_spans:
                attributes = {one.key: one.value for one in part.resource.attributes}
                service = attributes["service.name"].string_value
                spans = (span for scope in part.scope_spans for span in scope.spans)
                found += [(service, one) for one in spans if one.trace_id.hex() == trace_id]
        return found

    def wait(
        self, trace_id: str, enough: Callable[[set[str]], bool]
    ) -> dict[str, tuple[str, Span]]:
        """Spans of a trace by name, once their names are enough."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            found = {span.name: (service, span) for service, span in self.spans(trace_id)}
            if enough(set(found)):
                return found
            assert time.monotonic() < deadline, sorted(found)
            time.sleep(0.05)
