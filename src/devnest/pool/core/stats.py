"""What a pool counts and times: totals since its start, and histograms also over the last minute."""

import dataclasses
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from typing import Any

__all__ = ["BATCH_BOUNDS", "BOUNDS_S", "Histogram", "Recorder", "Stats"]

# Upper bounds of the histograms' buckets: 1, 2.5 and 5 of each decade from 10 microseconds to 100 seconds.
BOUNDS_S = (*(digit * 10.0**power for power in range(-5, 2) for digit in (1.0, 2.5, 5.0)), 100.0)

# Upper bounds of a batch's size in tasks: every lane count of a hash, and what larger batches need.
BATCH_BOUNDS = (1, 2, 3, 4, 5, 6, 8, 16, 32, 64, 128, 256)

WINDOW_S = 60.0
SLICES = 12  # the window moves in steps of 5 seconds


@dataclasses.dataclass(frozen=True)
class Histogram:
    """How long something took: ``counts[i]`` times up to ``BOUNDS_S[i]`` seconds, the last beyond."""

    counts: tuple[int, ...]
    sum_s: float

    @property
    def count(self) -> int:
        """How many times were recorded."""
        return sum(self.counts)

    def quantile(self, share: float) -> float:
        """Return an upper bound, in seconds, of the given share of the times; 0 where there are none."""
        wanted = share * self.count
        seen = 0
        for count, bound in zip(self.counts, (*BOUNDS_S, float("inf")), strict=True):
            seen += count
            if count and seen >= wanted:
                return bound
        return 0.0


@dataclasses.dataclass(frozen=True)
class Stats:
    """One reading of a pool. ``docs/reference/pool.md`` says what each field means."""

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
    batch_counts: tuple[int, ...]  # batches of up to BATCH_BOUNDS[i] tasks, the last beyond
    batched: int  # tasks in all of them
    wait: Histogram
    run: Histogram
    wait_last_minute: Histogram
    run_last_minute: Histogram

    def as_dict(self) -> dict[str, Any]:
        """Return the reading as what JSON can hold; priorities become strings there."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Stats":
        """Return the reading that :meth:`as_dict` gave, also after a trip through JSON."""
        fields = dict(data)
        fields["queued_by_priority"] = {
            int(key): value for key, value in data["queued_by_priority"].items()
        }
        fields["batch_counts"] = tuple(data["batch_counts"])
        for name in ("wait", "run", "wait_last_minute", "run_last_minute"):
            fields[name] = Histogram(tuple(data[name]["counts"]), data[name]["sum_s"])
        return cls(**fields)

    def prometheus(self, prefix: str = "pool") -> str:
        """Return the reading in Prometheus' text format."""
        lines: list[str] = []
        for name in ("workers", "idle", "busy", "starting", "running", "utilisation", "mean_batch"):
            lines += [f"# TYPE {prefix}_{name} gauge", f"{prefix}_{name} {getattr(self, name)}"]
        lines += _labelled(f"{prefix}_queued", "gauge", "priority", self.queued_by_priority)
        for name in ("done", "failed", "cancelled", "retried"):
            lines += [
                f"# TYPE {prefix}_{name}_total counter",
                f"{prefix}_{name}_total {getattr(self, name)}",
            ]
        lines += _labelled(f"{prefix}_refused_total", "counter", "reason", self.refused)
        lines += _labelled(f"{prefix}_restarts_total", "counter", "reason", self.restarts)
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
    """What was seen in one step of the window."""

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
    """Collects what :class:`Stats` reports. The scheduler owns it and tells it the time."""

    def __init__(self, now: float) -> None:
        self.done = self.failed = self.cancelled = self.retried = 0
        self.batches = self.batched = 0
        self._batch_counts = [0] * (len(BATCH_BOUNDS) + 1)
        self.refused: Counter[str] = Counter()
        self.restarts: Counter[str] = Counter()
        self._busy = self._workers = 0
        self._at = now
        self._past = _Slice(now)  # all that has left the window
        self._slices = [_Slice(now + WINDOW_S / SLICES)]

    def sizes(self, busy: int, workers: int, now: float) -> None:
        """Note how many workers there are and how many of them run something, from now on."""
        self._integrate(self._newest(now), now)
        self._busy, self._workers = busy, workers

    def sent(self, waits_s: list[float], now: float) -> None:
        """Note a batch that was sent, by how long each of its tasks had waited."""
        newest = self._newest(now)
        for wait_s in waits_s:
            newest.wait[bisect_left(BOUNDS_S, wait_s)] += 1
            newest.wait_s += wait_s
        self.batches += 1
        self.batched += len(waits_s)
        self._batch_counts[bisect_left(BATCH_BOUNDS, len(waits_s))] += 1

    def ran(self, run_s: float, now: float) -> None:
        """Note a batch that was answered."""
        newest = self._newest(now)
        newest.run[bisect_left(BOUNDS_S, run_s)] += 1
        newest.run_s += run_s

    def read(self, now: float, **sizes: Any) -> Stats:
        """Return everything noted so far, with the sizes of the moment that the caller knows."""
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
        if (
            now - newest.until > WINDOW_S
        ):  # nothing happened for a whole window: start it anew, just before now
            self._drop(len(self._slices))
            self._slices = [newest := _Slice(now)]
            newest.worker_s, newest.busy_s = WINDOW_S * self._workers, WINDOW_S * self._busy
            self._at = now
        while now >= newest.until:
            self._integrate(newest, newest.until)
            newest = _Slice(newest.until + WINDOW_S / SLICES)
            self._slices.append(newest)
        self._integrate(newest, now)
        self._drop(len(self._slices) - SLICES)

    def _integrate(self, part: _Slice, until: float) -> None:
        elapsed = max(0.0, until - self._at)
        part.busy_s += elapsed * self._busy
        part.worker_s += elapsed * self._workers
        self._at = max(self._at, until)

    def _drop(self, count: int) -> None:
        for part in self._slices[: max(0, count)]:
            self._past.add(part)
        del self._slices[: max(0, count)]
