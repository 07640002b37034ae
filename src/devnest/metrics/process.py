"""The metrics of one process, shared so that any server can answer `/metrics` for all.

A process counts in plain Python objects and copies them into the shared memory four times a second.
So the page shows other servers as they were at most 0.25 s ago, and a killed server loses no more
than that. A process that replaces a dead one continues its counters. If no shared memory can be
had, a server shows its own metrics only.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from typing import Self

import msgspec
import structlog

from devnest.metrics.numbers import Histogram, Numbers, Sample
from devnest.metrics.page import DROPPED, DROPPED_MEANING, write_page
from devnest.process_registry import read_processes
from devnest.shared_memory import MAX_SLOTS, SharedMemory
from devnest.streams import dropped_lines

__all__ = ["METHODS", "NO_ROUTE", "OTHER_METHOD", "Metrics"]

SHARE_INTERVAL_S = 0.25  # the greatest age of what one server shows of another
# Upper bounds in seconds. 66 and 96 ms are the latencies of the published experiment.
REQUEST_BOUNDS_S = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.066,
    0.096,
    0.15,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
SHORT_BOUNDS_S = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
# A client may send any method and path. A label for each would fill the memory.
METHODS = frozenset(("GET", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS"))
OTHER_METHOD = "_OTHER"
NO_ROUTE = "none"
REQUESTS = "http_server_request_duration_seconds"
log = structlog.get_logger("devnest.metrics")


Key = tuple[str, tuple[tuple[str, str], ...]]


class Metrics:
    """The metrics of one process: `with Metrics(memory, slot, name) as metrics`.

    A timer on the running event loop shares them every `SHARE_INTERVAL_S`.

    Args:
        memory: The memory that all processes share.
        slot: The slot of this process; no other running process may use it.
        name: The name of this process.
    """

    def __init__(self, memory: SharedMemory, slot: int, name: str) -> None:
        self.active_requests = 0
        self._name = name
        self._memory = memory
        self._slot = slot
        self._meanings: dict[str, str] = {}
        self._histograms: dict[Key, Histogram] = {}
        self._counters: dict[Key, Sample] = {}
        self._read: list[tuple[Sample, float, Callable[[], float]]] = []
        self._gauges: list[tuple[Sample, Callable[[], float]]] = []
        self._requests: dict[tuple[str, str, int], Histogram] = {}
        self._warned_slots: set[int] = set()  # slots whose failed write or read has been logged
        self._page: asyncio.Task[bytes] | None = None
        self._timer: asyncio.TimerHandle
        self._take_over()
        self._lag = self.histogram(
            "event_loop_lag_seconds", "How late the event loop was for a timer", {"process": name}
        )

    def __enter__(self) -> Self:
        self._schedule_tick()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self.share()

    def histogram(
        self,
        name: str,
        meaning: str,
        labels: dict[str, str],
        bounds_s: tuple[float, ...] = SHORT_BOUNDS_S,
    ) -> Histogram:
        """Return a histogram of this process, created if it is missing.

        Args:
            name: Its name; the page adds up the histograms of all processes by name and labels.
            meaning: Its help text.
            labels: Its labels.
            bounds_s: The upper bounds of its buckets, in seconds.
        """
        self._meanings[name] = meaning
        found = self._histograms.get(_key(name, labels))
        if found is None or found.bounds_s != bounds_s:
            found = Histogram(name, labels, bounds_s, [0] * (len(bounds_s) + 1))
            self._histograms[_key(name, labels)] = found
        return found

    def counter(
        self, name: str, meaning: str, labels: dict[str, str], read: Callable[[], float]
    ) -> None:
        """Add a counter whose value is read four times a second.

        Args:
            name: Its name.
            meaning: Its help text.
            labels: Its labels.
            read: Returns the count since this process started. It is added to what earlier
                processes of this slot have counted.
        """
        self._meanings[name] = meaning
        sample = self._counters.setdefault(_key(name, labels), Sample(name, labels))
        self._read.append((sample, sample.value, read))

    def gauge(
        self, name: str, meaning: str, labels: dict[str, str], read: Callable[[], float]
    ) -> None:
        """Add a current value that is read four times a second and ends with this process.

        Args:
            name: Its name.
            meaning: Its help text.
            labels: Its labels.
            read: Returns the value.
        """
        self._meanings[name] = meaning
        self._gauges.append((Sample(name, labels), read))

    def watch_log(self) -> None:
        """Show how many log lines of this process were dropped."""
        self.counter(DROPPED, DROPPED_MEANING, {"process": self._name}, dropped_lines)

    def watch_requests(self) -> None:
        """Show how many requests are running."""
        self.gauge(
            "http_server_active_requests", "Requests that run", {}, lambda: self.active_requests
        )

    def request(self, method: str, route: str, status: int, elapsed_s: float) -> None:
        """Count a finished request.

        Args:
            method: The request's method; unusual ones are counted as `_OTHER`.
            route: The template of its path, or `NO_ROUTE`.
            status: The status of the response; 499 if the client left before it.
            elapsed_s: The time from its headers to the end of its response.
        """
        key = (method if method in METHODS else OTHER_METHOD, route, status)
        histogram = self._requests.get(key)
        if histogram is None:
            names = ("http_request_method", "http_route", "http_response_status_code")
            labels = dict(zip(names, map(str, key), strict=True))
            meaning = "From a request's headers to the end of its answer"
            histogram = self.histogram(REQUESTS, meaning, labels, REQUEST_BOUNDS_S)
            self._requests[key] = histogram
        histogram.record(elapsed_s)

    def share(self) -> bytes:
        """Copy all metrics into the shared memory, and return the same bytes."""
        for counter, before, read in self._read:
            counter.value = before + read()
        for gauge, read in self._gauges:
            gauge.value = read()
        numbers = Numbers(
            self._name,
            os.getpid(),
            self._meanings,
            list(self._histograms.values()),
            list(self._counters.values()),
            [gauge for gauge, _ in self._gauges],
        )
        content = msgspec.msgpack.encode(numbers)
        try:
            self._memory.write(self._slot, content)
        except OSError as error:
            self._warn_once(self._slot, "metrics not shared", error)
        return content

    async def page(self) -> bytes:
        """Return the Prometheus text for all processes. Concurrent calls share one page."""
        if self._page is None or self._page.done():
            self._page = asyncio.create_task(asyncio.to_thread(self._write_page, self.share()))
        return await asyncio.shield(self._page)

    def _write_page(self, own: bytes) -> bytes:
        return write_page(self._of_all(own), read_processes(self._memory), os.getpid())

    def _of_all(self, own: bytes) -> Iterator[Numbers]:
        """Yield the metrics of each process. Damaged ones are left out and logged once."""
        for slot in range(1, MAX_SLOTS):
            try:
                content = own if slot == self._slot else self._memory.read(slot)
                if content:
                    yield msgspec.msgpack.decode(content, type=Numbers)
            except (OSError, ValueError) as error:  # msgspec raises subclasses of ValueError
                self._warn_once(slot, "metrics of a process left out", error)

    def _take_over(self) -> None:
        """Continue the counters of the previous process in this slot."""
        try:
            content = self._memory.read(self._slot)
            numbers = msgspec.msgpack.decode(content, type=Numbers) if content else None
        except (OSError, ValueError) as error:
            self._warn_once(self._slot, "metrics begin anew", error)
            return
        if numbers is not None and numbers.process == self._name:
            self._meanings = numbers.meanings
            self._histograms = {_key(each.name, each.labels): each for each in numbers.histograms}
            self._counters = {_key(each.name, each.labels): each for each in numbers.counters}

    def _warn_once(self, slot: int, event: str, error: Exception) -> None:
        if slot not in self._warned_slots:
            self._warned_slots.add(slot)
            log.warning(event, slot=slot, reason=str(error))

    def _schedule_tick(self) -> None:
        due = time.perf_counter() + SHARE_INTERVAL_S
        self._timer = asyncio.get_running_loop().call_later(SHARE_INTERVAL_S, self._tick, due)

    def _tick(self, due: float) -> None:
        self._lag.record(max(0.0, time.perf_counter() - due))
        self.share()
        self._schedule_tick()


def _key(name: str, labels: dict[str, str]) -> Key:
    return name, tuple(sorted(labels.items()))
