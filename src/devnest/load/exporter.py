"""Shows the running totals of a run as a Prometheus endpoint: `--out prometheus=HOST:PORT`."""

import asyncio
import contextlib
from array import array
from bisect import bisect_right
from collections import Counter

from devnest.load.errors import BadPlan
from devnest.load.messages import Second
from devnest.load.result import Point
from devnest.load.tally import Key

__all__ = ["Exporter"]

_BUCKETS_S = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0,
)  # fmt: skip
_MAX_CLIENTS = 16  # connections at once; further ones are closed at once
_MAX_REQUEST_S = 5.0
_MAX_HEAD_BYTES = 16 * 1024
_PREFIX = "devnest_load"


class _Histogram:
    """The counts of durations within each bucket, and their sum."""

    def __init__(self) -> None:
        self.within = [0] * len(_BUCKETS_S)
        self.count = 0
        self.sum_s = 0.0

    def add(self, seconds: "array[float]") -> None:
        ordered = sorted(seconds)
        for index, bound in enumerate(_BUCKETS_S):
            self.within[index] += bisect_right(ordered, bound)
        self.count += len(ordered)
        self.sum_s += sum(ordered)


class Exporter:
    """Serves `GET /metrics` while the run lasts.

    Args:
        host: The address or name to listen on.
        port: The port; 0 for any free one.

    Attributes:
        failure: Always empty: nothing is lost where nobody asks.
        port: The port it listens on.
    """

    def __init__(self, host: str, port: int) -> None:
        self.failure = ""
        self.port = port
        self._host = host
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._durations: dict[Key, _Histogram] = {}
        self._iterations = _Histogram()
        self._counts: Counter[str] = Counter()
        self._checks: Counter[tuple[str, str]] = Counter()
        self._vus = 0

    @classmethod
    def parse(cls, where: str) -> "Exporter":
        """Return an exporter for `HOST:PORT` or `[IPV6]:PORT`.

        Raises:
            BadPlan: It is anything else.
        """
        host, colon, port = where.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not (colon and host and port.isascii() and port.isdigit() and int(port) <= 65535):
            raise BadPlan(f"not an address: {where!r} (write prometheus=127.0.0.1:9091)")
        return cls(host, int(port))

    async def open(self) -> None:
        """Listen.

        Raises:
            BadPlan: The address cannot be used.
        """
        try:
            self._server = await asyncio.start_server(
                self._connected, self._host, self.port, limit=_MAX_HEAD_BYTES
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise BadPlan(f"cannot listen on {self._host}:{self.port}: {reason}") from None
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        """Where the metrics are."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}/metrics"

    async def close(self) -> None:
        """Stop listening, and close all connections."""
        if self._server is not None:
            self._server.close()
            for client in list(self._clients):
                client.cancel()
            if self._clients:
                await asyncio.wait(self._clients)

    def second(self, second: Second, point: Point | None) -> None:
        """Add one second of one generator."""
        counts = second.counts
        for name, status, expected, packed in counts.durations:
            key = (name, status, expected)
            self._durations.setdefault(key, _Histogram()).add(array("d", packed))
        self._iterations.add(array("d", counts.iterations))
        for name, passes, fails in counts.checks:
            self._checks[name, "pass"] += passes
            self._checks[name, "fail"] += fails
        self._counts["dropped_iterations"] += counts.dropped
        self._counts["data_sent_bytes"] += counts.sent_bytes
        self._counts["data_received_bytes"] += counts.received_bytes
        self._counts["connections"] += len(counts.connecting) // array("d").itemsize
        if point is not None:
            self._vus = point.vus

    def text(self) -> str:
        """Return the metrics in Prometheus' text format."""
        lines = [f"# TYPE {_PREFIX}_vus gauge", f"{_PREFIX}_vus {self._vus}"]
        for name in ("connections", "data_received_bytes", "data_sent_bytes", "dropped_iterations"):
            metric = f"{_PREFIX}_{name}_total"
            lines += [f"# TYPE {metric} counter", f"{metric} {self._counts[name]}"]
        metric = f"{_PREFIX}_checks_total"
        lines.append(f"# TYPE {metric} counter")
        lines += [
            f'{metric}{{check="{_escaped(name)}",result="{how}"}} {count}'
            for (name, how), count in self._checks.items()
        ]
        metric = f"{_PREFIX}_http_req_duration_seconds"
        lines.append(f"# TYPE {metric} histogram")
        for (name, status, expected), histogram in self._durations.items():
            labels = (
                f'name="{_escaped(name)}",status="{status}",'
                f'expected_response="{str(expected).lower()}"'
            )
            lines += _histogram_lines(metric, labels, histogram)
        metric = f"{_PREFIX}_iteration_duration_seconds"
        lines.append(f"# TYPE {metric} histogram")
        lines += _histogram_lines(metric, "", self._iterations)
        return "\n".join(lines) + "\n"

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._clients) < _MAX_CLIENTS:
                self._clients.add(task)
                with contextlib.suppress(
                    OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
                ):
                    async with asyncio.timeout(_MAX_REQUEST_S):  # TimeoutError is an OSError
                        writer.write(self._answer(await reader.readuntil(b"\r\n\r\n")))
                        await writer.drain()
        except asyncio.CancelledError:
            pass  # the run has ended; asyncio would log a cancelled connection as an error
        finally:
            self._clients.discard(task)
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        status, body = "200 OK", ""
        if path != b"/metrics":
            status, body = "404 Not Found", "the metrics are at /metrics\n"
        elif method not in (b"GET", b"HEAD"):
            status = "405 Method Not Allowed"
        else:
            body = self.text()
        content = body.encode()
        lines = (
            f"HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
            f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
        )
        return lines.encode() + (b"" if method == b"HEAD" else content)


def _histogram_lines(metric: str, labels: str, histogram: _Histogram) -> list[str]:
    before = f"{labels}," if labels else ""
    only = f"{{{labels}}}" if labels else ""
    bounds = [f"{bound:g}" for bound in _BUCKETS_S]
    return [
        *(
            f'{metric}_bucket{{{before}le="{bound}"}} {count}'
            for bound, count in zip(bounds, histogram.within, strict=True)
        ),
        f'{metric}_bucket{{{before}le="+Inf"}} {histogram.count}',
        f"{metric}_sum{only} {histogram.sum_s:.6f}",
        f"{metric}_count{only} {histogram.count}",
    ]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
