"""A collector of traces: an HTTP server on a free port, which decodes what OTLP sends."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

__all__ = ["Collector", "attributes_of", "collecting"]


def attributes_of(holder: Any) -> dict[str, Any]:
    """The attributes of a span or of a resource, as Python's values."""
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value")) for each in holder.attributes
    }


class Collector:
    """What a collector has received.

    Attributes:
        url: Where it takes spans.
        status: With which it answers.
        spans: The spans, in the order in which they came.
        resources: The attributes of the processes that sent them.
        headers: The headers of each request.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.status = 200
        self.spans: list[Span] = []
        self.resources: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []

    def take(self, body: bytes, headers: dict[str, str]) -> None:
        """Decode a request."""
        self.headers.append(headers)
        request = ExportTraceServiceRequest.FromString(body)
        for group in request.resource_spans:
            self.resources.append(attributes_of(group.resource))
            for scope in group.scope_spans:
                self.spans += scope.spans

    def trace(self, trace_id: str) -> list[Span]:
        """The spans of one trace."""
        return [span for span in self.spans if span.trace_id.hex() == trace_id]


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that answers until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces" and collector.status == 200:
                collector.take(body, {name.lower(): value for name, value in self.headers.items()})
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(collector.status if self.path == "/v1/traces" else 404)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
