"""The figures of a run, as they grow and at its end."""

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
from devnest.load.tally import Figures, Key
from devnest.load.trend import Trend

__all__ = [
    "CPU_LIMIT",
    "SHORTEST_S",
    "STALL_LIMIT_S",
    "Machine",
    "Point",
    "Result",
    "exact_percentile",
]

CPU_LIMIT = 0.8  # of a core; above it a generator measures itself
STALL_LIMIT_S = 0.1  # a longer one is told: it is in the durations
_CPU_WINDOW_S = 10
SHORTEST_S = 0.5  # a shorter last second has no rate worth showing


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
    stall_s: float = 0.0  # the longest time in which a generator's event loop did not turn
    med_ms: float = 0.0
    p95_ms: float = 0.0
    p95_ms_by_name: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the generator ran; the target may be elsewhere."""

    system: str
    processor: str
    cores: int
    python: str

    @classmethod
    def here(cls) -> "Machine":
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
    """A second that some generator has not yet told of."""

    def __init__(self, ordinal: int) -> None:
        self.point = Point(ordinal)
        self.told = 0
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
    """The smallest value that `percent` of the sorted values do not exceed; 0 of none."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else 0.0


class Result:
    """Everything known about a run; `absorb` makes it grow, `finish` closes it."""

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
        self.elapsed_s = 0.0
        self.stopped = False  # by the person, before its end
        self._open: dict[int, _OpenSecond] = {}
        self._cpu: list[list[tuple[float, float]]] = [
            [] for _ in range(generators)
        ]  # CPU and wall time, by second

    def prepare(self, figures: Mapping[str, float]) -> None:
        """Add what one generator prepared; they work at the same time, so their seconds do not add up."""
        for name, value in figures.items():
            so_far = self.prepared.get(name, 0.0)
            self.prepared[name] = max(so_far, value) if name == "seconds" else so_far + value

    def absorb(self, generator: int, second: Second) -> Point | None:
        """Add one generator's second; gives the point once all generators have told of that second."""
        moment = self._open.setdefault(second.ordinal, _OpenSecond(second.ordinal))
        moment.told += 1
        moment.point.vus += second.vus
        moment.point.wall_s = max(moment.point.wall_s, second.wall_s)
        moment.point.cpu = max(
            moment.point.cpu, second.cpu_s / second.wall_s if second.wall_s else 0.0
        )
        moment.point.stall_s = max(moment.point.stall_s, second.stall_s)
        self._cpu[generator].append((second.cpu_s, second.wall_s))
        self._count(second.figures, moment)
        return self._close(second.ordinal) if moment.told == self.generators else None

    def finish(self) -> None:
        """Close the seconds that not every generator reached."""
        for ordinal in sorted(self._open):
            self._close(ordinal)
        self.points.sort(key=lambda point: point.second)
        self.elapsed_s = max(
            (sum(wall for _, wall in seconds) for seconds in self._cpu), default=0.0
        )

    def _close(self, ordinal: int) -> Point:
        point = self._open.pop(ordinal).closed()
        self.points.append(point)
        return point

    def _count(self, figures: Figures, moment: _OpenSecond) -> None:
        for name, status, expected, packed in figures.durations:
            seconds = array("d", packed)
            self.durations.setdefault((name, status, expected), Trend()).add(seconds)
            moment.add(name, expected, seconds)
        self.connecting.add(array("d", figures.connecting))
        self.iterations.add(array("d", figures.iterations))
        for name, passes, fails in figures.checks:
            so_far = self.checks.get(name, (0, 0))
            self.checks[name] = (so_far[0] + passes, so_far[1] + fails)
        for name, reason, count in figures.errors:
            self.errors[name, reason] += count
        self.dropped += figures.dropped
        self.interrupted += figures.interrupted
        self.sent_bytes += figures.sent_bytes
        self.received_bytes += figures.received_bytes

    @property
    def names(self) -> list[str]:
        """Of the requests, in the order they were first seen."""
        return list(dict.fromkeys(name for name, _, _ in self.durations))

    @property
    def requests(self) -> int:
        return sum(trend.count for trend in self.durations.values())

    @property
    def failed(self) -> int:
        return self.trend(expected=False).count

    @property
    def requests_per_s(self) -> float:
        return self.requests / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def peak_requests_per_s(self) -> float:
        """Of the best second."""
        return max(
            (point.requests_per_s for point in self.points if point.wall_s > SHORTEST_S),
            default=0.0,
        )

    @property
    def vus_max(self) -> int:
        return max((point.vus for point in self.points), default=0)

    def trend(
        self, name: str | None = None, status: int | None = None, expected: bool | None = None
    ) -> Trend:
        """Durations of the requests that fit."""
        return Trend.of(
            trend
            for (its_name, its_status, its_expected), trend in self.durations.items()
            if name in (None, its_name)
            and status in (None, its_status)
            and expected in (None, its_expected)
        )

    def statuses(self, name: str) -> dict[int, int]:
        """How many answers of each status the requests of that name got; 0 is no whole answer."""
        counts: Counter[int] = Counter()
        for (its_name, status, _), trend in self.durations.items():
            counts[status] += trend.count if its_name == name else 0
        return {status: count for status, count in sorted(counts.items()) if count}

    @property
    def cpu_s(self) -> float:
        return sum(cpu for seconds in self._cpu for cpu, _ in seconds)

    @property
    def cpu_mean(self) -> float:
        """Share of a core, of the busiest generator, over the run."""
        return max((_share(seconds) for seconds in self._cpu), default=0.0)

    @property
    def cpu_peak(self) -> float:
        """Share of a core, of the busiest generator, in its busiest ten seconds."""
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
        return self.cpu_s / self.requests * 1e3 if self.requests else 0.0

    @property
    def stall_s(self) -> float:
        """The longest time in which a generator's event loop did not turn."""
        return max((point.stall_s for point in self.points), default=0.0)

    @property
    def is_void(self) -> bool:
        """Whether a generator was so busy that the durations are partly its own."""
        return self.cpu_peak > CPU_LIMIT


def _share(seconds: list[tuple[float, float]]) -> float:
    wall = sum(wall for _, wall in seconds)
    return sum(cpu for cpu, _ in seconds) / wall if wall else 0.0
