"""A distribution of durations: an HDR histogram, and what it would round."""

from array import array
from collections.abc import Iterable

from hdrh.histogram import HdrHistogram

__all__ = ["Trend"]

_LOWEST_US, _HIGHEST_US, _DIGITS = 1, 3_600_000_000, 3


class Trend:
    """Durations in seconds go in, milliseconds come out: k6's unit. Percentiles are exact to 0.1 %."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(_LOWEST_US, _HIGHEST_US, _DIGITS)
        self._sum_s = 0.0
        self._min_s = float("inf")
        self._max_s = 0.0
        self.count = 0

    @classmethod
    def of(cls, trends: Iterable["Trend"]) -> "Trend":
        """All of them together."""
        whole = cls()
        for trend in trends:
            whole._histogram.add(trend._histogram)
            whole._sum_s += trend._sum_s
            whole._min_s = min(whole._min_s, trend._min_s)
            whole._max_s = max(whole._max_s, trend._max_s)
            whole.count += trend.count
        return whole

    def add(self, seconds: "array[float]") -> None:
        if not seconds:
            return
        record = self._histogram.record_value
        for value in seconds:
            record(min(_HIGHEST_US, max(_LOWEST_US, round(value * 1e6))))
        self._sum_s += sum(seconds)
        self._min_s = min(self._min_s, min(seconds))
        self._max_s = max(self._max_s, max(seconds))
        self.count += len(seconds)

    @property
    def avg(self) -> float:
        return self._sum_s / self.count * 1e3 if self.count else 0.0

    @property
    def min(self) -> float:
        return self._min_s * 1e3 if self.count else 0.0

    @property
    def med(self) -> float:
        return self.percentile(50)

    @property
    def max(self) -> float:
        return self._max_s * 1e3

    def percentile(self, percent: float) -> float:
        if not self.count:
            return 0.0
        value: int = self._histogram.get_value_at_percentile(percent)
        return min(value / 1e3, self.max)
