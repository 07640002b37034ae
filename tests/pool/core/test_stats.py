"""The recorder: sums that hold over time, and a window that forgets."""

import json

import pytest

from devnest.pool.core.stats import BOUNDS_S, WINDOW_S, Histogram, Recorder, Stats

SIZES = {
    "workers": 2,
    "idle": 1,
    "busy": 1,
    "starting": 0,
    "queued": 3,
    "queued_by_priority": {-1: 1, 0: 2},
    "running": 1,
}


def test_window_forgets_and_totals_do_not() -> None:
    """What is older than the window is in the totals alone."""
    recorder = Recorder(0.0)
    recorder.ran(0.5, 1.0)
    recorder.sent([0.1, 0.2], 1.0)
    stats = recorder.read(2.0, **SIZES)
    assert (stats.run.count, stats.run_last_minute.count, stats.wait_last_minute.count) == (1, 1, 2)
    recorder.ran(0.5, 1.0 + WINDOW_S)
    stats = recorder.read(2.0 + WINDOW_S * 1.2, **SIZES)
    assert (stats.run.count, stats.run_last_minute.count) == (2, 1)
    assert (stats.wait.count, stats.wait_last_minute.count) == (2, 0)
    assert stats.run.sum_s == 1.0
    assert stats.mean_batch == 2.0


def test_utilisation_is_the_share_of_the_workers_time() -> None:
    """Half the workers busy for half the window is a quarter; and a long quiet time is nothing."""
    recorder = Recorder(0.0)
    recorder.sizes(1, 2, 0.0)
    recorder.sizes(0, 2, 25.0)
    assert recorder.read(50.0, **SIZES).utilisation == pytest.approx(0.25)
    assert recorder.read(1000.0, **SIZES).utilisation == 0.0
    recorder.sizes(2, 2, 1000.0)
    assert recorder.read(1000.0 + 10 * WINDOW_S, **SIZES).utilisation == 1.0


def test_long_uptime_keeps_few_slices() -> None:
    """The window is bounded, whatever the uptime."""
    recorder = Recorder(0.0)
    for second in range(0, 10_000, 3):
        recorder.ran(0.01, float(second))
    assert len(recorder._slices) <= 13
    assert recorder.read(10_000.0, **SIZES).run.count == len(range(0, 10_000, 3))


def test_quantiles_are_upper_bounds() -> None:
    """By bucket, the way a histogram can know them."""
    counts = [0] * (len(BOUNDS_S) + 1)
    counts[3], counts[6], counts[-1] = 50, 49, 1
    histogram = Histogram(tuple(counts), 1.0)
    assert histogram.count == 100
    assert histogram.quantile(0.5) == BOUNDS_S[3]
    assert histogram.quantile(0.99) == BOUNDS_S[6]
    assert histogram.quantile(1.0) == float("inf")
    assert Histogram((0,) * (len(BOUNDS_S) + 1), 0.0).quantile(0.5) == 0.0


def test_stats_survive_json_and_print_for_prometheus() -> None:
    """The way they reach a client and a scraper."""
    recorder = Recorder(0.0)
    recorder.refused["full"] += 2
    recorder.ran(0.3, 1.0)
    for size in (5, 5, 1, 1000):
        recorder.sent([0.0] * size, 1.0)
    stats = recorder.read(2.0, **SIZES)
    assert Stats.from_dict(json.loads(json.dumps(stats.as_dict()))) == stats
    lines = stats.prometheus().splitlines()
    assert 'pool_queued{priority="-1"} 1' in lines
    assert 'pool_refused_total{reason="full"} 2' in lines
    for untold in ('refused_total{reason="expired"}', 'restarts_total{reason="crash"}'):
        assert f"pool_{untold} 0" in lines, "a rate needs the zero before the first event"
    assert 'pool_run_seconds_bucket{le="0.25"} 0' in lines
    assert 'pool_run_seconds_bucket{le="0.5"} 1' in lines
    assert "pool_run_seconds_sum 0.3" in lines
    for bound, count in (("4", 1), ("5", 3), ("256", 3), ("+Inf", 4)):
        assert f'pool_batch_size_bucket{{le="{bound}"}} {count}' in lines
    assert "pool_batch_size_sum 1011" in lines
    assert "pool_batch_size_count 4" in lines
    assert len([line for line in lines if line.startswith("# TYPE")]) == len(
        {line for line in lines if "# TYPE" in line}
    )
