"""The metrics of one process, as they are written to the shared memory."""

from bisect import bisect_left

import msgspec

__all__ = ["Histogram", "Numbers", "Sample"]


class Histogram(msgspec.Struct, array_like=True):
    """A histogram of durations in seconds.

    Attributes:
        bounds_s: The upper bounds of the buckets, ascending.
        counts: One count for each bound, and a last one for everything above.
        sum_s: The sum of all durations.
    """

    name: str
    labels: dict[str, str]
    bounds_s: tuple[float, ...]
    counts: list[int]
    sum_s: float = 0.0

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.bounds_s) + 1:
            raise ValueError("a histogram has one count more than bounds")

    def record(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(self.bounds_s, seconds)] += 1
        self.sum_s += seconds


class Sample(msgspec.Struct, array_like=True):
    """A single number with its labels."""

    name: str
    labels: dict[str, str]
    value: float = 0.0


class Numbers(msgspec.Struct, array_like=True):
    """All metrics of one process.

    Attributes:
        meanings: The help text of each metric, by name.
        gauges: Current values, which are shown only while the process lives.
    """

    process: str
    pid: int
    meanings: dict[str, str]
    histograms: list[Histogram]
    counters: list[Sample]
    gauges: list[Sample]
