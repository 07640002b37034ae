"""The percentiles of a `Trend`, which are counted in one pass over the histogram."""

import random
from array import array

import pytest

from devnest.load.trend import Trend


@pytest.mark.parametrize("count", [1, 2, 3, 100, 20_000])
def test_percentiles_are_those_of_the_histogram(count: int) -> None:
    """The library's own method walks all its counts for each percentile; the values agree."""
    chosen = random.Random(count)  # noqa: S311 - durations, not secrets
    trend = Trend()
    for _ in range(3):  # the sums are made anew after each change
        trend.add(array("d", (chosen.expovariate(10) for _ in range(count))))
        for percent in (0, 0.1, 25, 50, 90, 95, 99, 99.9, 100):
            expected = trend._histogram.get_value_at_percentile(percent) / 1e3
            assert trend.percentile(percent) == min(expected, trend.max)
    assert trend.curve() == sorted(trend.curve())


def test_without_a_sample_there_is_neither_percentile_nor_curve() -> None:
    assert (Trend().percentile(95), Trend().curve()) == (0.0, [])
