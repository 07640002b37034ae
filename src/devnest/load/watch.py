"""Samples the metrics of the target while a run goes on: what its processes do meanwhile.

The sampler has a connection of its own and belongs to no virtual user. A target whose event loop
stands still answers late; rates are by the time that has really passed. Whatever goes wrong ends
the sampling and never the run.
"""

import asyncio
import contextlib
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import perf_counter

import httptools
import msgspec

from devnest.load.errors import connect_failure
from devnest.load.target import Target

__all__ = ["Sample", "Watch"]

INTERVAL_S = 1.0
MAX_ANSWER_S = 15.0  # a target that needs longer is sampled no more
MAX_ANSWER_BYTES = 4 << 20
MAX_SAMPLES = 24 * 3600  # those of the longest run

_LINE = re.compile(rb"^(\w+)(?:\{([^}\n]*)\})? (\S+)", re.MULTILINE)
_LABELS = (b"process", b"pid")
_LABEL = re.compile(rb'(\w+)="([^"]*)"')


class Sample(msgspec.Struct, frozen=True):
    """What the target did between two looks at its metrics.

    Attributes:
        second: The end of that time, in seconds of the run.
        lag_ms: How late the timers of an event loop fired on average, in the slowest server; None
            without a timer in that time.
        cores: CPU time per second, by kind of process: servers, pool, workers and so on.
        queued: Calls that waited in the pool, at the end of that time.
        batch: Calls in a batch on average; None without a batch in that time.
        refused: Calls that the pool refused.
    """

    second: float
    lag_ms: float | None
    cores: dict[str, float]
    queued: float
    batch: float | None
    refused: float


class NoMetrics(Exception):
    """The target gave no metrics of a DevNest. The text says why, as the rest of a sentence."""


@dataclass(slots=True)
class _Reading:
    """The counters of one look at the metrics."""

    at: float = 0.0
    lag: defaultdict[str, list[float]] = field(
        default_factory=lambda: defaultdict(lambda: [0.0] * 2)
    )
    cpu_s: dict[tuple[str, str], float] = field(default_factory=dict)
    queued: float = 0.0
    batches: list[float] = field(default_factory=lambda: [0.0] * 2)
    refused: float = 0.0


class Watch:
    """Samples the metrics of a target once a second.

    Args:
        target: Where the metrics are; its base path is their path.

    Attributes:
        samples: Those taken so far.
        reason: Why there is none, or no further one, as a sentence; empty while all is well.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self.samples: list[Sample] = []
        self.reason = ""

    async def run(self) -> None:
        """Take samples until this is cancelled, or until the target gives none."""
        begin = perf_counter()
        before: _Reading | None = None
        try:
            while len(self.samples) < MAX_SAMPLES:
                reading = _read(await self._fetch())
                reading.at = perf_counter() - begin
                if before is not None:
                    self.samples.append(_between(before, reading))
                before = reading
                # A whole interval after an answer that came late, or its rates would be spikes.
                await asyncio.sleep(INTERVAL_S)
        except NoMetrics as error:
            self.reason = f"No metrics of the target: {error}."

    async def _fetch(self) -> bytes:
        try:
            async with asyncio.timeout(MAX_ANSWER_S):
                return await _get(self._target)
        except OSError as error:  # TimeoutError is one
            raise NoMetrics(connect_failure(error)) from None
        except httptools.HttpParserError:
            raise NoMetrics("it answered with something other than HTTP") from None


class _Answer:
    """Receives a response from httptools' parser."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.is_whole = False

    def on_body(self, piece: bytes) -> None:
        self.body += piece

    def on_message_complete(self) -> None:
        self.is_whole = True


async def _get(target: Target) -> bytes:
    reader, writer = await asyncio.open_connection(
        target.address,
        target.port,
        ssl=target.ssl_context(),
        server_hostname=target.host if target.tls else None,
    )
    try:
        head = f"GET {target.base_path} HTTP/1.1\r\nHost: {target.authority}\r\n"
        writer.write(f"{head}Accept: text/plain\r\nConnection: close\r\n\r\n".encode())
        answer = _Answer()
        parser = httptools.HttpResponseParser(answer)
        while not answer.is_whole and (piece := await reader.read(1 << 16)):
            parser.feed_data(piece)
            if len(answer.body) > MAX_ANSWER_BYTES:
                raise NoMetrics(f"more than {MAX_ANSWER_BYTES >> 20} MiB at {target.base_path}")
        if not answer.is_whole:
            raise NoMetrics("the connection was closed within the answer")
        if parser.get_status_code() != 200:
            raise NoMetrics(f"status {parser.get_status_code()} at {target.base_path}")
        return bytes(answer.body)
    finally:
        writer.transport.abort()


def _read(body: bytes) -> _Reading:
    reading = _Reading()
    for name, process, pid, value in _values(body):
        match name:
            case b"event_loop_lag_seconds_sum":
                reading.lag[process][0] = value
            case b"event_loop_lag_seconds_count":
                reading.lag[process][1] = value
            case b"process_cpu_seconds_total":
                reading.cpu_s[process, pid] = value
            case b"pool_queued":
                reading.queued += value
            case b"pool_batch_size_sum":
                reading.batches[0] = value
            case b"pool_batch_size_count":
                reading.batches[1] = value
            case b"pool_refused_total":
                reading.refused += value
    if not reading.lag:
        raise NoMetrics("it is no DevNest")
    return reading


def _values(body: bytes) -> Iterator[tuple[bytes, str, str, float]]:
    """Yield each metric's name, its labels `process` and `pid`, and its value."""
    for name, labels, number in _LINE.findall(body):
        by_name = dict(_LABEL.findall(labels))
        process, pid = (by_name.get(each, b"").decode(errors="replace") for each in _LABELS)
        with contextlib.suppress(ValueError):
            value = float(number)
            if math.isfinite(value):
                yield name, process, pid, value


def _between(before: _Reading, now: _Reading) -> Sample:
    elapsed_s = max(now.at - before.at, 1e-3)
    lags = []
    for process, (late_s, timers) in now.lag.items():
        earlier_s, earlier = before.lag.get(process, (0.0, 0.0))
        if process.startswith("server") and (fired := _grown(earlier, timers)):
            lags.append(1000 * _grown(earlier_s, late_s) / fired)
    cores: defaultdict[str, float] = defaultdict(float)
    for (process, pid), cpu_s in now.cpu_s.items():
        spent_s = _grown(before.cpu_s.get((process, pid), 0.0), cpu_s)
        cores[_kind(process)] += spent_s / elapsed_s
    batches = _grown(before.batches[1], now.batches[1])
    return Sample(
        second=round(now.at, 3),
        lag_ms=round(max(lags), 3) if lags else None,
        cores={kind: round(used, 3) for kind, used in cores.items()},
        queued=now.queued,
        batch=round(_grown(before.batches[0], now.batches[0]) / batches, 2) if batches else None,
        refused=_grown(before.refused, now.refused),
    )


def _grown(before: float, now: float) -> float:
    """Return the growth of a counter, which starts again from 0 when its process does."""
    return now - before if now >= before else now


def _kind(process: str) -> str:
    return {"worker": "workers"}.get(
        process, "servers" if process.startswith("server") else process
    )
