"""What a process counts for `/metrics`, so that any server can tell for all.

prometheus-client's multi-process mode keeps a file for each process on a memory file system, and whoever is asked adds
the files up. Writing there takes some 8 µs a histogram, too much beside a light request of 300 µs. So a process counts
in plain numbers and moves them over four times a second: what one server tells of another is at most that old, and a
killed server takes no more with it. Whoever starts under a dead process's name goes on in its file.
"""

import asyncio
import math
import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from prometheus_client import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.values import MultiProcessValue

from devnest.census import read_roll, usages

__all__ = ["CONTENT_TYPE", "NO_ROUTE", "Metrics", "Times"]

CONTENT_TYPE = "text/plain; version=0.0.4"  # and Litestar says "charset=utf-8"
TICK_S = 0.25
# Upper bounds in seconds; 66 and 96 ms are what the published experiment came to.
REQUEST_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.066, 0.096, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SHORT_BOUNDS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# A client may invent methods and paths; a label of its own for each would fill the memory.
METHODS = frozenset(("GET", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS"))
OTHER_METHOD = "_OTHER"
NO_ROUTE = "none"


class Times:
    """A histogram of seconds. `record` is cheap; `flush` makes what was recorded visible."""

    def __init__(
        self, value: Any, name: str, meaning: str, labels: dict[str, str], bounds_s: tuple[float, ...]
    ) -> None:
        names, given = tuple(labels), tuple(labels.values())
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_s = 0.0
        self._is_flushed = True
        self._shared_sum = value("histogram", name, f"{name}_sum", names, given, meaning)
        self._shared_counts = [
            value("histogram", name, f"{name}_bucket", (*names, "le"), (*given, _le(bound)), meaning)
            for bound in (*bounds_s, math.inf)
        ]

    def record(self, seconds: float) -> None:
        """One more."""
        self._counts[bisect_left(self._bounds_s, seconds)] += 1
        self._sum_s += seconds
        self._is_flushed = False

    def flush(self) -> None:
        """Move what was recorded into the shared file."""
        if self._is_flushed:
            return
        for shared, count in zip(self._shared_counts, self._counts, strict=True):
            if count:
                shared.inc(count)
        self._shared_sum.inc(self._sum_s)
        self._counts = [0] * len(self._counts)
        self._sum_s = 0.0
        self._is_flushed = True


def _le(bound_s: float) -> str:
    return "+Inf" if bound_s == math.inf else repr(bound_s)  # as the library writes it again


class Metrics:
    """The numbers of one process, which ticks on its event loop: `with Metrics(directory, name) as metrics`.

    `name` is a file's name, without an underscore; no two living processes have the same.
    """

    def __init__(self, directory: Path, name: str) -> None:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)  # the library takes it from there alone
        self.active_requests = 0
        self._directory = directory
        self._value = MultiProcessValue(lambda: name)  # type: ignore[no-untyped-call]
        self._times: list[Times] = []
        self._gauges: list[tuple[Any, Callable[[], float]]] = []
        self._requests: dict[tuple[str, str, int], Times] = {}
        self._page: asyncio.Task[bytes] | None = None
        self._timer: asyncio.TimerHandle
        self._lag = self.times("event_loop_lag_seconds", "How late the event loop was for a timer", {"process": name})

    def __enter__(self) -> Self:
        self._tick_later()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self.flush()

    def times(
        self, name: str, meaning: str, labels: dict[str, str], bounds_s: tuple[float, ...] = SHORT_BOUNDS_S
    ) -> Times:
        """A histogram of this process, added to those of the same name and labels elsewhere."""
        times = Times(self._value, name, meaning, labels, bounds_s)
        self._times.append(times)
        return times

    def gauge(self, name: str, meaning: str, labels: dict[str, str], read: Callable[[], float]) -> None:
        """A number of the moment, asked for at every tick, and gone with this process."""
        value = self._value(
            "gauge", name, name, tuple(labels), tuple(labels.values()), meaning, multiprocess_mode="livesum"
        )
        self._gauges.append((value, read))

    def watch_requests(self) -> None:
        """Show how many requests run."""
        self.gauge("http_server_active_requests", "Requests that run", {}, lambda: self.active_requests)

    def request(self, method: str, route: str, status: int, elapsed_s: float) -> None:
        """A request is over; `status` is 499 where the client had gone before its answer."""
        key = (method if method in METHODS else OTHER_METHOD, route, status)
        times = self._requests.get(key)
        if times is None:
            names = ("http_request_method", "http_route", "http_response_status_code")
            labels = dict(zip(names, map(str, key), strict=True))
            meaning = "From a request's headers to the end of its answer"
            times = self.times("http_server_request_duration_seconds", meaning, labels, REQUEST_BOUNDS_S)
            self._requests[key] = times
        times.record(elapsed_s)

    def flush(self) -> None:
        """Make all numbers visible to the other processes."""
        for times in self._times:
            times.flush()
        for value, read in self._gauges:
            value.set(read())

    async def page(self) -> bytes:
        """Prometheus' text for the whole cluster; who asks while one is being written gets that one."""
        if self._page is None or self._page.done():
            self.flush()
            self._page = asyncio.create_task(asyncio.to_thread(self._write_page))
        return await asyncio.shield(self._page)

    def _write_page(self) -> bytes:
        return generate_latest(_Cluster(self._directory))

    def _tick_later(self) -> None:
        due = time.perf_counter() + TICK_S
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick, due)

    def _tick(self, due: float) -> None:
        self._lag.record(max(0.0, time.perf_counter() - due))
        self.flush()
        self._tick_later()


class _Cluster(Collector):
    """All that the files of the directory tell."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterator[Metric]:
        yield from MultiProcessCollector.merge(list(self._files()))  # type: ignore[no-untyped-call]
        roll = read_roll(self._directory)
        labels = ["process", "pid"]
        cpu = CounterMetricFamily("process_cpu_seconds", "CPU time, user and system", labels=labels)
        memory = GaugeMetricFamily("process_resident_memory_bytes", "Resident memory", labels=labels)
        for usage in usages(roll):
            cpu.add_metric([usage.name, str(usage.pid)], usage.cpu_s)
            memory.add_metric([usage.name, str(usage.pid)], usage.resident_bytes)
        restarts = CounterMetricFamily("process_restarts", "Children that died", labels=["process"])
        for name, count in roll.restarts.items():
            restarts.add_metric([name], count)
        yield from (cpu, memory, restarts)

    def _files(self) -> Iterator[str]:
        for file in self._directory.glob("*.db"):
            with suppress(FileNotFoundError):  # a gauge of a process that has just gone
                if file.stat().st_size:  # else its process is about to make it, or died on the way
                    yield str(file)
