"""A result under k6's names: four kinds of metric, and which tags choose a part of which.

Names, kinds and the values of each kind are k6's, so that its users read ours, and their scripts do:
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
    "metric",
    "shown",
]

Tags = Mapping[str, str]
PERCENTILES = (90.0, 95.0, 99.0)


class Metric(Protocol):
    """What every kind has."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was measured, so that a threshold on it says nothing."""

    def value(self, aggregation: str) -> float:
        """One of its values; `aggregation` as in `values`, or any `p(N)` of a trend."""

    def values(self) -> dict[str, float]:
        """All of them, under the names k6 exports."""


@dataclass(frozen=True)
class TrendMetric:
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
    count: int
    elapsed_s: float
    is_empty = False  # none at all is a count like any other

    def value(self, aggregation: str) -> float:
        return self.values()[aggregation]

    def values(self) -> dict[str, float]:
        return {"count": self.count, "rate": self.count / self.elapsed_s if self.elapsed_s else 0.0}


@dataclass(frozen=True)
class Rate:
    passes: int  # samples that are true; of http_req_failed, the failed ones
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

# name: kind, and the tags that choose a part of it
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
    """A metric of `METRICS`, or the part of it that has `tags`."""
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


def shown(result: Result) -> dict[str, Metric]:
    """Every metric worth exporting, with a part for each request's name."""
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
