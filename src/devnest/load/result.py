"""The results of a run, during it and at its end."""

import math
import os
import platform
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from devnest.load.messages import Second
from devnest.load.neighbours import Neighbours
from devnest.load.tally import Counts, Key
from devnest.load.trend import Trend
from devnest.load.watch import Sample, Watch

__all__ = [
    "MAX_CPU_SHARE",
    "MAX_STALL_S",
    "MIN_SECOND_S",
    "Machine",
    "Point",
    "Result",
    "exact_percentile",
]

# Of a core, in the busiest ten seconds. Above it requests wait for the generator, not the target,
# and the run is void.
MAX_CPU_SHARE = 0.8
MAX_STALL_S = 0.1  # a longer block of a generator's event loop is reported: it is in the durations
_CPU_WINDOW_S = 10
MIN_SECOND_S = 0.5  # a shorter last second is not shown: its rates would be noise


@dataclass(slots=True)
class Point:
    """One second of the run."""

    second: int
    requests: int = 0
    failed: int = 0
    requests_per_s: float = 0.0
    vus: int = 0
    cpu: float = 0.0  # share of a core, of the busiest generator
    wall_s: float = 0.0
    stall_s: float = 0.0  # the longest time in which a generator's event loop was blocked
    med_ms: float = 0.0
    p95_ms: float = 0.0
    p95_ms_by_name: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine of the generator; the target may run on another."""

    system: str
    processor: str
    cores: int
    python: str

    @classmethod
    def here(cls) -> "Machine":
        """Return this machine."""
        processor = platform.processor() or platform.machine()
        cpuinfo = Path("/proc/cpuinfo")
        if cpuinfo.exists():
            models = [
                line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
            ]
            processor = models[0].partition(":")[2].strip() if models else processor
        return cls(
            f"{platform.system()} {platform.release()}",
            processor,
            _cores(),
            platform.python_version(),
        )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _OpenSecond:
    """A second that not every generator has reported yet."""

    def __init__(self, ordinal: int) -> None:
        self.point = Point(ordinal)
        self.reports = 0
        self._durations: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))

    def add(self, name: str, expected: bool, seconds: "array[float]") -> None:
        self._durations[name].extend(seconds)
        self.point.requests += len(seconds)
        self.point.failed += 0 if expected else len(seconds)

    def closed(self) -> Point:
        point = self.point
        point.requests_per_s = point.requests / point.wall_s if point.wall_s else 0.0
        whole = sorted(value for durations in self._durations.values() for value in durations)
        point.med_ms = exact_percentile(whole, 50) * 1e3
        point.p95_ms = exact_percentile(whole, 95) * 1e3
        point.p95_ms_by_name = {
            name: exact_percentile(sorted(durations), 95) * 1e3
            for name, durations in self._durations.items()
        }
        return point


def exact_percentile(ordered: list[float], percent: float) -> float:
    """Return the smallest value that `percent` % of the sorted values do not exceed; 0 of none."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else 0.0


class Result:
    """Everything measured in a run. `absorb` adds a second, `finish` ends it.

    Args:
        url: The target.
        profile: The name of the profile.
        generators: The number of generator processes.
        seed: The seed of the VUs' random numbers.
    """

    def __init__(self, *, url: str, profile: str, generators: int, seed: int) -> None:
        self.url = url
        self.profile = profile
        self.generators = generators
        self.seed = seed
        self.started_at = datetime.now(UTC)
        self.machine = Machine.here()
        self.durations: dict[Key, Trend] = {}
        self.connecting = Trend()
        self.iterations = Trend()
        self.checks: dict[str, tuple[int, int]] = {}  # name: passes, fails
        self.errors: Counter[tuple[str, str]] = Counter()  # request name and reason
        self.dropped = 0
        self.interrupted = 0
        self.sent_bytes = 0
        self.received_bytes = 0
        self.prepared: dict[str, float] = {}
        self.points: list[Point] = []
        self.watch: Watch | None = None  # what the target did meanwhile; None before the start
        self.neighbours: Neighbours | None = None  # None before the start
        self.elapsed_s = 0.0
        self.stopped = False  # whether the user stopped it before its end
        self._open_seconds: dict[int, _OpenSecond] = {}
        # For each generator, the CPU and the wall time of each second.
        self._cpu: list[list[tuple[float, float]]] = [[] for _ in range(generators)]
        self._wall_s = [0.0] * generators

    def prepare(self, figures: Mapping[str, float]) -> None:
        """Add what one generator prepared.

        Generators prepare at the same time, so of their `seconds` the largest counts.
        """
        for name, value in figures.items():
            so_far = self.prepared.get(name, 0.0)
            self.prepared[name] = max(so_far, value) if name == "seconds" else so_far + value

    def absorb(self, generator: int, second: Second) -> Point | None:
        """Add one second of one generator.

        Returns:
            The second of the run, once all generators have reported it.
        """
        whole = self._open_seconds.setdefault(second.ordinal, _OpenSecond(second.ordinal))
        whole.reports += 1
        whole.point.vus += second.vus
        whole.point.wall_s = max(whole.point.wall_s, second.wall_s)
        whole.point.cpu = max(
            whole.point.cpu, second.cpu_s / second.wall_s if second.wall_s else 0.0
        )
        whole.point.stall_s = max(whole.point.stall_s, second.stall_s)
        self._cpu[generator].append((second.cpu_s, second.wall_s))
        self._wall_s[generator] += second.wall_s
        self.elapsed_s = max(self._wall_s)
        self._count(second.counts, whole)
        return self._close(second.ordinal) if whole.reports == self.generators else None

    def finish(self) -> None:
        """Close the seconds that not every generator reported, and end the result."""
        for ordinal in sorted(self._open_seconds):
            self._close(ordinal)
        self.points.sort(key=lambda point: point.second)

    def _close(self, ordinal: int) -> Point:
        point = self._open_seconds.pop(ordinal).closed()
        self.points.append(point)
        return point

    def _count(self, counts: Counts, second: _OpenSecond) -> None:
        for name, status, expected, packed in counts.durations:
            seconds = array("d", packed)
            self.durations.setdefault((name, status, expected), Trend()).add(seconds)
            second.add(name, expected, seconds)
        self.connecting.add(array("d", counts.connecting))
        self.iterations.add(array("d", counts.iterations))
        for name, passes, fails in counts.checks:
            so_far = self.checks.get(name, (0, 0))
            self.checks[name] = (so_far[0] + passes, so_far[1] + fails)
        for name, reason, count in counts.errors:
            self.errors[name, reason] += count
        self.dropped += counts.dropped
        self.interrupted += counts.interrupted
        self.sent_bytes += counts.sent_bytes
        self.received_bytes += counts.received_bytes

    @property
    def samples(self) -> list[Sample]:
        """What the target did, second by second; nothing if it is no DevNest."""
        return self.watch.samples if self.watch is not None else []

    @property
    def names(self) -> list[str]:
        """The names of the requests, in the order of their first answers."""
        return list(dict.fromkeys(name for name, _, _ in self.durations))

    @property
    def requests(self) -> int:
        """The number of all requests."""
        return sum(trend.count for trend in self.durations.values())

    @property
    def failed(self) -> int:
        """The number of requests without an expected answer."""
        return self.trend(expected=False).count

    @property
    def requests_per_s(self) -> float:
        """The mean rate over the run."""
        return self.requests / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def peak_requests_per_s(self) -> float:
        """The rate of the best second."""
        return max(
            (point.requests_per_s for point in self.points if point.wall_s > MIN_SECOND_S),
            default=0.0,
        )

    @property
    def vus_max(self) -> int:
        """The most VUs at once."""
        return max((point.vus for point in self.points), default=0)

    def trend(
        self, name: str | None = None, status: int | None = None, expected: bool | None = None
    ) -> Trend:
        """Return the durations of the requests that match.

        Args:
            name: Only requests of this name.
            status: Only answers of this status.
            expected: Only answers that were expected, or only those that were not.
        """
        matching = [
            trend
            for (its_name, its_status, its_expected), trend in self.durations.items()
            if name in (None, its_name)
            and status in (None, its_status)
            and expected in (None, its_expected)
        ]
        return matching[0] if len(matching) == 1 else Trend.of(matching)

    def statuses(self, name: str) -> dict[int, int]:
        """Return how often each status answered `name`; 0 stands for no complete response."""
        counts: Counter[int] = Counter()
        for (its_name, status, _), trend in self.durations.items():
            counts[status] += trend.count if its_name == name else 0
        return {status: count for status, count in sorted(counts.items()) if count}

    @property
    def cpu_s(self) -> float:
        """The CPU time of all generators."""
        return sum(cpu for seconds in self._cpu for cpu, _ in seconds)

    @property
    def cpu_mean(self) -> float:
        """The share of a core that the busiest generator used over the run."""
        return max((_share(seconds) for seconds in self._cpu), default=0.0)

    @property
    def cpu_peak(self) -> float:
        """The share of a core that the busiest generator used in its busiest ten seconds."""
        return max(
            (
                _share(seconds[begin : begin + _CPU_WINDOW_S])
                for seconds in self._cpu
                for begin in range(max(1, len(seconds) - _CPU_WINDOW_S + 1))
            ),
            default=0.0,
        )

    @property
    def cpu_ms_per_request(self) -> float:
        """The CPU time of the generators per request, in milliseconds."""
        return self.cpu_s / self.requests * 1e3 if self.requests else 0.0

    @property
    def stall_s(self) -> float:
        """The longest time in which a generator's event loop was blocked."""
        return max((point.stall_s for point in self.points), default=0.0)

    @property
    def is_void(self) -> bool:
        """Whether a generator was so busy that the durations include its own delays."""
        return self.cpu_peak > MAX_CPU_SHARE


def _share(seconds: list[tuple[float, float]]) -> float:
    wall = sum(wall for _, wall in seconds)
    return sum(cpu for cpu, _ in seconds) / wall if wall else 0.0
