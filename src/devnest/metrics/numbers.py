"""The numbers that a process puts into the shared memory."""

from bisect import bisect_left

import msgspec

__all__ = ["Histogram", "Numbers", "Sample"]


class Histogram(msgspec.Struct, array_like=True):
    """A histogram of seconds; the last count is of those beyond all bounds."""

    name: str
    labels: dict[str, str]
    bounds_s: tuple[float, ...]
    counts: list[int]
    sum_s: float = 0.0

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.bounds_s) + 1:
            raise ValueError("a histogram has one count more than bounds")

    def record(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(self.bounds_s, seconds)] += 1
        self.sum_s += seconds


class Sample(msgspec.Struct, array_like=True):
    """A single number."""

    name: str
    labels: dict[str, str]
    value: float = 0.0


class Numbers(msgspec.Struct, array_like=True):
    """All of one process. `meanings`: of each name, what is counted under it."""

    process: str
    pid: int
    meanings: dict[str, str]
    histograms: list[Histogram]
    counters: list[Sample]
    gauges: list[Sample]  # of the moment: worth nothing once the process has gone
