"""A distribution of durations: an HDR histogram, with the exact sum, minimum and maximum."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate

from hdrh.histogram import HdrHistogram

__all__ = ["Trend"]

# From a microsecond to an hour, the longest timeout of a request; with errors of at most 0.1 %.
_MIN_US, _MAX_US, _SIGNIFICANT_DIGITS = 1, 3_600_000_000, 3
# Of `Trend.curve`: closer together towards the slowest samples.
_CURVE_PERCENTS = (*range(0, 90, 5), *range(90, 99), *(99 + tenth / 10 for tenth in range(10)))


class Trend:
    """A distribution: `add` takes seconds; all values are milliseconds, k6's unit.

    Percentiles are exact to 0.1 %. Without a sample every value is 0.
    """

    def __init__(self) -> None:
        self._histogram = HdrHistogram(_MIN_US, _MAX_US, _SIGNIFICANT_DIGITS)
        self._sum_s = 0.0
        self._min_s = float("inf")
        self._max_s = 0.0
        self.count = 0
        self._sums: list[int] = []  # of the counts up to each index; empty where they are unknown

    @classmethod
    def of(cls, trends: Iterable["Trend"]) -> "Trend":
        """Return the samples of all `trends` together."""
        whole = cls()
        for trend in trends:
            whole._histogram.add(trend._histogram)
            whole._sum_s += trend._sum_s
            whole._min_s = min(whole._min_s, trend._min_s)
            whole._max_s = max(whole._max_s, trend._max_s)
            whole.count += trend.count
        return whole

    def add(self, seconds: "array[float]") -> None:
        """Add samples."""
        if not seconds:
            return
        self._sums = []
        record = self._histogram.record_value
        for value in seconds:
            record(min(_MAX_US, max(_MIN_US, round(value * 1e6))))
        self._sum_s += sum(seconds)
        self._min_s = min(self._min_s, min(seconds))
        self._max_s = max(self._max_s, max(seconds))
        self.count += len(seconds)

    @property
    def avg(self) -> float:
        """The mean."""
        return self._sum_s / self.count * 1e3 if self.count else 0.0

    @property
    def min(self) -> float:
        """The smallest sample."""
        return self._min_s * 1e3 if self.count else 0.0

    @property
    def med(self) -> float:
        """The median."""
        return self.percentile(50)

    @property
    def max(self) -> float:
        """The largest sample."""
        return self._max_s * 1e3

    def percentile(self, percent: float) -> float:
        """Return the value that `percent` % of the samples do not exceed."""
        if not self.count:
            return 0.0
        # As the histogram's own method, which walks all its counts in Python for each percentile.
        histogram = self._histogram
        self._sums = self._sums or list(accumulate(histogram.counts[:]))
        target = histogram.get_target_count_at_percentile(percent)
        value: int = histogram.get_value_from_index(bisect_left(self._sums, target))
        if percent:
            value = histogram.get_highest_equivalent_value(value)
        else:
            value = histogram.get_lowest_equivalent_value(value)
        return min(value / 1e3, self.max)

    def curve(self) -> list[tuple[float, float]]:
        """Return percents and their percentiles, from the fastest sample to the slowest 0.1 %."""
        if not self.count:
            return []
        return [(percent, round(self.percentile(percent), 3)) for percent in _CURVE_PERCENTS]
