"""Sends spans to an OpenTelemetry collector: on a thread, in batches, never waited for.

A collector that does not answer costs the memory of `MAX_WAITING_SPANS` and one line of the log.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from devnest import __version__
from devnest.api.tracing import Ended, Tracer
from devnest.metrics import Metrics

__all__ = ["exporting"]

MAX_WAITING_SPANS = 2048  # in each server; further ones are lost, and counted
MAX_BATCH_SPANS = 512
BATCH_INTERVAL_MS = 2000.0
EXPORT_TIMEOUT_S = 10.0  # with the retries of a batch
FLUSH_TIMEOUT_S = 1.0  # for the last batches when a server stops
POLL_INTERVAL_S = 0.02
log = structlog.get_logger("devnest.tracing")


class Exporter(SpanExporter):
    """Counts the spans that another exporter delivers or loses, and logs when that changes.

    Only the thread of the processor changes its fields.
    """

    def __init__(self, exporter: SpanExporter, collector: str) -> None:
        self.delivered = 0
        self.lost = 0
        self._exporter = exporter
        self._collector = collector
        self._is_failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch."""
        result = self._exporter.export(spans)
        has_failed = result is not SpanExportResult.SUCCESS
        if has_failed:
            self.lost += len(spans)
        else:
            self.delivered += len(spans)
        if has_failed and not self._is_failing:
            log.warning("the collector takes no spans; they are lost", collector=self._collector)
        elif self._is_failing and not has_failed:
            log.info("the collector takes spans again", collector=self._collector)
        self._is_failing = has_failed
        return result

    def shutdown(self) -> None:
        """Stop to repeat a batch."""
        self._exporter.shutdown()


class Processor(BatchSpanProcessor):
    """Hands ended spans to its thread, as long as not too many wait."""

    def __init__(self, exporter: Exporter) -> None:
        super().__init__(exporter, MAX_WAITING_SPANS, BATCH_INTERVAL_MS, MAX_BATCH_SPANS)
        self._counted = exporter
        self._taken = 0
        self._refused = 0

    @property
    def lost(self) -> int:
        """How many spans will never reach the collector."""
        return self._refused + self._counted.lost

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span, or lose it at once."""
        if self._taken - self._counted.delivered - self._counted.lost >= MAX_WAITING_SPANS:
            self._refused += 1
            return
        self._taken += 1
        super().on_end(span)


@asynccontextmanager
async def exporting(
    url: str, sampling: float, name: str, metrics: Metrics
) -> AsyncIterator[Tracer]:
    """Yield the tracer of this process; at the end send what waits, for a second at most.

    Args:
        url: Where the collector takes spans by OTLP over HTTP.
        sampling: As for `Tracer`.
        name: The name of this process.
        metrics: Where spans are counted.
    """
    # They log each batch that fails, and may quote the URL.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)
    logging.getLogger("urllib3").setLevel(logging.CRITICAL + 1)
    host = urlsplit(url).hostname or ""  # and not its user and password
    exporter = Exporter(OTLPSpanExporter(url, timeout=EXPORT_TIMEOUT_S), host)
    processor = Processor(exporter)
    resource = Resource.create(
        {
            "service.name": "devnest",
            "service.version": __version__,
            "service.instance.id": f"{os.uname().nodename}:{name}",
            "process.pid": os.getpid(),
        }
    ).merge(OTELResourceDetector().detect())  # the operator's OTEL_SERVICE_NAME and attributes win
    scope = InstrumentationScope("devnest", __version__)

    def take(span: Ended) -> None:
        processor.on_end(
            ReadableSpan(**span._asdict(), resource=resource, instrumentation_scope=scope)
        )

    meaning, total = "Spans by what became of them", "trace_spans_total"
    metrics.counter(total, meaning, {"result": "delivered"}, lambda: exporter.delivered)
    metrics.counter(total, meaning, {"result": "lost"}, lambda: processor.lost)
    try:
        yield Tracer(take, sampling)
    finally:
        # A thread of its own that dies with the process: it may wait for the collector longer.
        flushing = threading.Thread(target=processor.shutdown, daemon=True)
        flushing.start()
        until = time.monotonic() + FLUSH_TIMEOUT_S
        while flushing.is_alive() and time.monotonic() < until:  # noqa: ASYNC110 (no event for it)
            await asyncio.sleep(POLL_INTERVAL_S)
