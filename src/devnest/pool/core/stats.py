"""Counters and latency histograms of a pool, since its start and over the last minute."""

import dataclasses
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from typing import Any

__all__ = ["BATCH_BOUNDS", "BOUNDS_S", "Histogram", "Recorder", "Stats"]

# Upper bounds of the buckets of wait and run times: 1, 2.5 and 5 of each decade, 10 µs to 100 s.
BOUNDS_S = (*(digit * 10.0**power for power in range(-5, 2) for digit in (1.0, 2.5, 5.0)), 100.0)

# Upper bounds of the buckets of batch sizes, in tasks: each small size, then powers of two.
BATCH_BOUNDS = (1, 2, 3, 4, 5, 6, 8, 16, 32, 64, 128, 256)

# Every reason has a series from the start: Prometheus cannot see the increase that creates one.
REFUSAL_REASONS = ("full", "estimate", "deadline", "expired", "closed")
RESTART_REASONS = ("crash", "boot", "timeout", "cancel", "deadline", "tasks", "age", "rss")

WINDOW_S = 60.0
WINDOW_SLICES = 12  # the window of `WINDOW_S` moves in steps of a twelfth of it: 5 s


@dataclasses.dataclass(frozen=True)
class Histogram:
    """A latency histogram.

    Attributes:
        counts: The number of times in each bucket. `counts[i]` has times up to
            `devnest.pool.core.stats.BOUNDS_S[i]` seconds, and the last one has all longer times.
        sum_s: The sum of all times, in seconds.
    """

    counts: tuple[int, ...]
    sum_s: float

    @property
    def count(self) -> int:
        """The number of recorded times."""
        return sum(self.counts)

    def quantile(self, share: float) -> float:
        """Return an upper bound for a share of the times.

        Args:
            share: The share of the times, from 0 to 1: 0.99 for the 99th percentile.

        Returns:
            The upper bound of the bucket in which that share is reached, in seconds; infinity in
            the last bucket, 0 for an empty histogram.
        """
        wanted = share * self.count
        seen = 0
        for count, bound in zip(self.counts, (*BOUNDS_S, float("inf")), strict=True):
            seen += count
            if count and seen >= wanted:
                return bound
        return 0.0


@dataclasses.dataclass(frozen=True)
class Stats:
    """The statistics of a pool at one moment.

    Counters count since the start of the pool.

    Attributes:
        workers: Workers that are starting, idle or busy.
        idle: Workers that wait for a task.
        busy: Workers that run a batch.
        starting: Workers that are not ready yet.
        queued: Waiting tasks.
        queued_by_priority: Waiting tasks of each priority that has any.
        running: Tasks of the batches that are running.
        done: Tasks that were answered.
        failed: Answered tasks that ended in an exception of their own or of the pool.
        cancelled: Tasks that their callers gave up.
        retried: Tasks that were sent to a worker once more.
        refused: Tasks that were not run to their end, by reason: `full`, `estimate` (of the wait),
            `deadline` (passed before the call), `expired` (later), `closed`.
        restarts: Workers that were replaced, by reason: `crash`, `boot`, `timeout`, `cancel`,
            `deadline`, `tasks`, `age`, `rss`.
        utilisation: The busy share of the workers' time in the last minute, from 0 to 1.
        mean_batch: The mean number of tasks in a batch.
        batch_counts: The number of batches by size. `batch_counts[i]` has batches of up to
            `devnest.pool.core.stats.BATCH_BOUNDS[i]` tasks, and the last one has all larger ones.
        batched: The number of tasks in all these batches.
        wait: Times from the call to the start of the run.
        run: Run times of batches.
        wait_last_minute: The same as `wait`, for the last minute.
        run_last_minute: The same as `run`, for the last minute.
    """

    workers: int
    idle: int
    busy: int
    starting: int
    queued: int
    queued_by_priority: Mapping[int, int]
    running: int
    done: int
    failed: int
    cancelled: int
    retried: int
    refused: Mapping[str, int]
    restarts: Mapping[str, int]
    utilisation: float
    mean_batch: float
    batch_counts: tuple[int, ...]
    batched: int
    wait: Histogram
    run: Histogram
    wait_last_minute: Histogram
    run_last_minute: Histogram

    def as_dict(self) -> dict[str, Any]:
        """Return the statistics as a dictionary that JSON can represent.

        JSON turns the keys of `queued_by_priority` into strings; `from_dict` turns them back.
        """
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Stats":
        """Return the statistics from a dictionary that `as_dict` made.

        Args:
            data: The dictionary, which may have been converted to JSON and back.
        """
        fields = dict(data)
        fields["queued_by_priority"] = {
            int(key): value for key, value in data["queued_by_priority"].items()
        }
        fields["batch_counts"] = tuple(data["batch_counts"])
        for name in ("wait", "run", "wait_last_minute", "run_last_minute"):
            fields[name] = Histogram(tuple(data[name]["counts"]), data[name]["sum_s"])
        return cls(**fields)

    def prometheus(self, prefix: str = "pool") -> str:
        """Return the statistics in the Prometheus text format.

        Args:
            prefix: The first part of each metric's name, before an underscore.
        """
        lines: list[str] = []
        for name in ("workers", "idle", "busy", "starting", "running", "utilisation", "mean_batch"):
            lines += [f"# TYPE {prefix}_{name} gauge", f"{prefix}_{name} {getattr(self, name)}"]
        lines += _labelled(f"{prefix}_queued", "gauge", "priority", self.queued_by_priority)
        for name in ("done", "failed", "cancelled", "retried"):
            lines += [
                f"# TYPE {prefix}_{name}_total counter",
                f"{prefix}_{name}_total {getattr(self, name)}",
            ]
        refused = {**dict.fromkeys(REFUSAL_REASONS, 0), **self.refused}
        restarts = {**dict.fromkeys(RESTART_REASONS, 0), **self.restarts}
        lines += _labelled(f"{prefix}_refused_total", "counter", "reason", refused)
        lines += _labelled(f"{prefix}_restarts_total", "counter", "reason", restarts)
        lines += _buckets(f"{prefix}_batch_size", BATCH_BOUNDS, self.batch_counts, self.batched)
        lines += _buckets(f"{prefix}_wait_seconds", BOUNDS_S, self.wait.counts, self.wait.sum_s)
        lines += _buckets(f"{prefix}_run_seconds", BOUNDS_S, self.run.counts, self.run.sum_s)
        return "\n".join(lines) + "\n"


def _labelled(name: str, kind: str, label: str, values: Mapping[Any, int]) -> list[str]:
    return [
        f"# TYPE {name} {kind}",
        *(f'{name}{{{label}="{key}"}} {value}' for key, value in values.items()),
    ]


def _buckets(
    name: str, bounds: tuple[float, ...], counts: tuple[int, ...], whole: float
) -> list[str]:
    lines = [f"# TYPE {name} histogram"]
    total = 0
    for count, bound in zip(counts, (*(f"{bound:g}" for bound in bounds), "+Inf"), strict=True):
        total += count
        lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
    return [*lines, f"{name}_sum {whole:.9g}", f"{name}_count {total}"]


class _Slice:
    """Everything recorded in one step of the window."""

    __slots__ = ("busy_s", "run", "run_s", "until", "wait", "wait_s", "worker_s")

    def __init__(self, until: float) -> None:
        self.until = until
        self.wait = [0] * (len(BOUNDS_S) + 1)
        self.run = [0] * (len(BOUNDS_S) + 1)
        self.wait_s = self.run_s = 0.0
        self.busy_s = self.worker_s = 0.0

    def add(self, other: "_Slice") -> None:
        self.wait = [a + b for a, b in zip(self.wait, other.wait, strict=True)]
        self.run = [a + b for a, b in zip(self.run, other.run, strict=True)]
        self.wait_s += other.wait_s
        self.run_s += other.run_s
        self.busy_s += other.busy_s
        self.worker_s += other.worker_s


class Recorder:
    """Collects what `Stats` reports; the scheduler owns it and passes the time in."""

    def __init__(self, now: float) -> None:
        self.done = self.failed = self.cancelled = self.retried = 0
        self.batches = self.batched = 0
        self._batch_counts = [0] * (len(BATCH_BOUNDS) + 1)
        self.refused: Counter[str] = Counter()
        self.restarts: Counter[str] = Counter()
        self._busy = self._workers = 0
        self._at = now
        self._past = _Slice(now)  # the sum of all slices that have left the window
        self._slices = [_Slice(now + WINDOW_S / WINDOW_SLICES)]

    def sizes(self, busy: int, workers: int, now: float) -> None:
        """Record the number of workers and of busy workers from now on."""
        self._integrate(self._newest(now), now)
        self._busy, self._workers = busy, workers

    def sent(self, waits_s: list[float], now: float) -> None:
        """Record a batch that was sent, by how long each of its tasks had waited."""
        newest = self._newest(now)
        for wait_s in waits_s:
            newest.wait[bisect_left(BOUNDS_S, wait_s)] += 1
            newest.wait_s += wait_s
        self.batches += 1
        self.batched += len(waits_s)
        self._batch_counts[bisect_left(BATCH_BOUNDS, len(waits_s))] += 1

    def ran(self, run_s: float, now: float) -> None:
        """Record a batch that was answered."""
        newest = self._newest(now)
        newest.run[bisect_left(BOUNDS_S, run_s)] += 1
        newest.run_s += run_s

    def read(self, now: float, **sizes: Any) -> Stats:
        """Return everything recorded so far, with the present numbers of workers and tasks."""
        self._advance(now)
        window = _Slice(now)
        for part in self._slices:
            window.add(part)
        total = _Slice(now)
        total.add(self._past)
        total.add(window)
        return Stats(
            done=self.done,
            failed=self.failed,
            cancelled=self.cancelled,
            retried=self.retried,
            refused=dict(self.refused),
            restarts=dict(self.restarts),
            utilisation=window.busy_s / window.worker_s if window.worker_s else 0.0,
            mean_batch=self.batched / self.batches if self.batches else 0.0,
            batch_counts=tuple(self._batch_counts),
            batched=self.batched,
            wait=Histogram(tuple(total.wait), total.wait_s),
            run=Histogram(tuple(total.run), total.run_s),
            wait_last_minute=Histogram(tuple(window.wait), window.wait_s),
            run_last_minute=Histogram(tuple(window.run), window.run_s),
            **sizes,
        )

    def _newest(self, now: float) -> _Slice:
        if now >= self._slices[-1].until:
            self._advance(now)
        return self._slices[-1]

    def _advance(self, now: float) -> None:
        newest = self._slices[-1]
        if now - newest.until > WINDOW_S:  # the whole window has passed: restart it just before now
            self._drop(len(self._slices))
            self._slices = [newest := _Slice(now)]
            newest.worker_s, newest.busy_s = WINDOW_S * self._workers, WINDOW_S * self._busy
            self._at = now
        while now >= newest.until:
            self._integrate(newest, newest.until)
            newest = _Slice(newest.until + WINDOW_S / WINDOW_SLICES)
            self._slices.append(newest)
        self._integrate(newest, now)
        self._drop(len(self._slices) - WINDOW_SLICES)

    def _integrate(self, part: _Slice, until: float) -> None:
        elapsed = max(0.0, until - self._at)
        part.busy_s += elapsed * self._busy
        part.worker_s += elapsed * self._workers
        self._at = max(self._at, until)

    def _drop(self, count: int) -> None:
        for part in self._slices[: max(0, count)]:
            self._past.add(part)
        del self._slices[: max(0, count)]
