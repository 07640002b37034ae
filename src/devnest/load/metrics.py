"""A result as k6's metrics: four kinds, and the tags that select a part of each metric.

The names, kinds and values are k6's, so that its users and their scripts can read them:
https://grafana.com/docs/k6/latest/using-k6/metrics/reference/
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from devnest.load.result import Result
from devnest.load.trend import Trend

__all__ = [
    "METRICS",
    "Counter",
    "Gauge",
    "Metric",
    "Rate",
    "Tags",
    "TrendMetric",
    "all_metrics",
    "metric",
]

Tags = Mapping[str, str]
PERCENTILES = (90.0, 95.0, 99.0)


class Metric(Protocol):
    """What all four kinds have in common."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was measured. A threshold on such a metric fails."""

    def value(self, aggregation: str) -> float:
        """Return one value. `aggregation` is a name in `values`, or any `p(N)` of a trend."""

    def values(self) -> dict[str, float]:
        """Return all values under the names that k6 exports."""


@dataclass(frozen=True)
class TrendMetric:
    """A distribution of durations, in milliseconds."""

    trend: Trend

    @property
    def is_empty(self) -> bool:
        return self.trend.count == 0

    def value(self, aggregation: str) -> float:
        if aggregation.startswith("p("):
            return self.trend.percentile(float(aggregation[2:-1]))
        return {
            "avg": self.trend.avg,
            "min": self.trend.min,
            "med": self.trend.med,
            "max": self.trend.max,
        }[aggregation]

    def values(self) -> dict[str, float]:
        names = ["avg", "min", "med", "max", *(f"p({percent:g})" for percent in PERCENTILES)]
        return {name: self.value(name) for name in names}


@dataclass(frozen=True)
class Counter:
    """A sum over the run, with its rate per second."""

    count: int
    elapsed_s: float
    is_empty = False  # 0 is a count like any other

    def value(self, aggregation: str) -> float:
        return self.values()[aggregation]

    def values(self) -> dict[str, float]:
        return {"count": self.count, "rate": self.count / self.elapsed_s if self.elapsed_s else 0.0}


@dataclass(frozen=True)
class Rate:
    """The share of samples that are true."""

    passes: int  # samples that are true: for `http_req_failed` the requests that failed
    fails: int

    @property
    def is_empty(self) -> bool:
        return self.passes + self.fails == 0

    def value(self, aggregation: str) -> float:
        assert aggregation == "rate"
        return self.values()["value"]

    def values(self) -> dict[str, float]:
        return {
            "passes": self.passes,
            "fails": self.fails,
            "value": 0.0 if self.is_empty else self.passes / (self.passes + self.fails),
        }


@dataclass(frozen=True)
class Gauge:
    """The last value of a series, with its minimum and maximum."""

    last: float
    least: float
    most: float
    is_empty = False

    def value(self, aggregation: str) -> float:
        assert aggregation == "value"
        return self.last

    def values(self) -> dict[str, float]:
        return {"value": self.last, "min": self.least, "max": self.most}


_REQUEST_TAGS = frozenset({"name", "status", "expected_response"})

# For each name its kind, and the tags that select a part of it.
METRICS: dict[str, tuple[type[TrendMetric | Counter | Rate | Gauge], frozenset[str]]] = {
    "checks": (Rate, frozenset({"check"})),
    "data_received": (Counter, frozenset()),
    "data_sent": (Counter, frozenset()),
    "dropped_iterations": (Counter, frozenset()),
    "http_req_connecting": (TrendMetric, frozenset()),
    "http_req_duration": (TrendMetric, _REQUEST_TAGS),
    "http_req_failed": (Rate, _REQUEST_TAGS),
    "http_reqs": (Counter, _REQUEST_TAGS),
    "iteration_duration": (TrendMetric, frozenset()),
    "iterations": (Counter, frozenset()),
    "vus": (Gauge, frozenset()),
    "vus_max": (Gauge, frozenset()),
}


def metric(result: Result, name: str, tags: Tags | None = None) -> Metric:
    """Return the metric `name` of `METRICS`, or the part of it that has `tags`."""
    tags = tags or {}
    match name:
        case "http_req_duration":
            return TrendMetric(_tagged(result, tags))
        case "http_reqs":
            return Counter(_tagged(result, tags).count, result.elapsed_s)
        case "http_req_failed":
            whole = _tagged(result, tags).count
            if "expected_response" in tags:
                failed = 0 if tags["expected_response"] == "true" else whole
            else:
                failed = _tagged(result, {**tags, "expected_response": "false"}).count
            return Rate(failed, whole - failed)
        case "checks":
            counts = [
                both for check, both in result.checks.items() if tags.get("check") in (None, check)
            ]
            return Rate(sum(passes for passes, _ in counts), sum(fails for _, fails in counts))
        case "vus" | "vus_max":
            vus = [point.vus for point in result.points] or [0]
            return (
                Gauge(vus[-1], min(vus), max(vus))
                if name == "vus"
                else Gauge(max(vus), max(vus), max(vus))
            )
        case "http_req_connecting":
            return TrendMetric(result.connecting)
        case "iteration_duration":
            return TrendMetric(result.iterations)
    counts_by_name = {
        "data_received": result.received_bytes,
        "data_sent": result.sent_bytes,
        "dropped_iterations": result.dropped,
        "iterations": result.iterations.count,
    }
    return Counter(counts_by_name[name], result.elapsed_s)


def all_metrics(result: Result) -> dict[str, Metric]:
    """Return every metric to export, and the part of each request metric for each request name.

    `dropped_iterations` is left out where it is 0, as k6 does.
    """
    names = [name for name in METRICS if name != "dropped_iterations" or result.dropped]
    metrics = {name: metric(result, name) for name in names}
    metrics["http_req_duration{expected_response:true}"] = metric(
        result, "http_req_duration", {"expected_response": "true"}
    )
    for request in result.names:
        for name in ("http_req_duration", "http_req_failed", "http_reqs"):
            metrics[f"{name}{{name:{request}}}"] = metric(result, name, {"name": request})
    return metrics


def _tagged(result: Result, tags: Tags) -> Trend:
    expected = tags.get("expected_response")
    return result.trend(
        name=tags.get("name"),
        status=int(tags["status"]) if "status" in tags else None,
        expected=None if expected is None else expected == "true",
    )
