"""The samples of a run as k6 writes them: CSV with k6's columns, and JSON lines of k6's shape.

https://grafana.com/docs/k6/latest/results-output/real-time/csv/ and .../json/. A sample's time is
the end of the second in which it was counted. Columns and tags that only k6 knows are left empty.
"""

from array import array
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec

from devnest.load.messages import Second
from devnest.load.result import Point

__all__ = ["Sample", "csv_head", "csv_lines", "json_head", "json_lines", "samples_of", "vus_sample"]

# A metric's name, its time in seconds since 1970, its value and its tags.
Sample = tuple[str, float, float, dict[str, str]]

_TAG_COLUMNS = (
    "check", "error", "error_code", "expected_response", "group", "method", "name", "proto",
    "scenario", "service", "status", "subproto", "tls_version", "url", "extra_tags", "metadata",
)  # fmt: skip
_NO_TAGS: dict[str, str] = {}
# k6's kinds, and what the values are.
_METRICS = {
    "checks": ("rate", "default"),
    "data_received": ("counter", "data"),
    "data_sent": ("counter", "data"),
    "dropped_iterations": ("counter", "default"),
    "http_req_connecting": ("trend", "time"),
    "http_req_duration": ("trend", "time"),
    "http_req_failed": ("rate", "default"),
    "http_reqs": ("counter", "default"),
    "iteration_duration": ("trend", "time"),
    "iterations": ("counter", "default"),
    "vus": ("gauge", "default"),
}


def samples_of(second: Second, at: float) -> Iterator[Sample]:
    """Yield what a generator counted in a second. Durations are milliseconds, as in k6."""
    counts = second.counts
    for name, status, expected, packed in counts.durations:
        tags = {
            "name": name,
            "status": str(status),
            "expected_response": "true" if expected else "false",
        }
        for duration in array("d", packed):
            yield "http_reqs", at, 1, tags
            yield "http_req_duration", at, duration * 1e3, tags
            yield "http_req_failed", at, 0 if expected else 1, tags
    for duration in array("d", counts.connecting):
        yield "http_req_connecting", at, duration * 1e3, _NO_TAGS
    for duration in array("d", counts.iterations):
        yield "iterations", at, 1, _NO_TAGS
        yield "iteration_duration", at, duration * 1e3, _NO_TAGS
    for name, passes, fails in counts.checks:
        tags = {"check": name}
        for number in range(passes + fails):
            yield "checks", at, 1 if number < passes else 0, tags
    for name, value in (
        ("dropped_iterations", counts.dropped),
        ("data_sent", counts.sent_bytes),
        ("data_received", counts.received_bytes),
    ):
        if value:
            yield name, at, value, _NO_TAGS


def vus_sample(point: Point, at: float) -> Sample:
    """Return the number of VUs in a second of the run."""
    return "vus", at, point.vus, _NO_TAGS


def csv_head() -> str:
    """Return the line of the columns."""
    return ",".join(("metric_name", "timestamp", "metric_value", *_TAG_COLUMNS)) + "\n"


def csv_lines(samples: Iterator[Sample]) -> Iterator[str]:
    """Yield a line for each sample."""
    known: dict[int, tuple[dict[str, str], str]] = {}  # the tags of a second are few objects
    for metric, at, value, tags in samples:
        if id(tags) not in known:
            known[id(tags)] = (tags, ",".join(_cell(tags.get(name, "")) for name in _TAG_COLUMNS))
        yield f"{metric},{at:.0f},{value:.6f},{known[id(tags)][1]}\n"


def _cell(text: str) -> str:
    if not any(char in text for char in ',"\r\n'):
        return text
    return '"' + text.replace('"', '""') + '"'


def json_head() -> str:
    """Return a line for each metric, which says what its values are."""
    return "".join(
        _json(
            {
                "type": "Metric",
                "data": {
                    "name": name,
                    "type": kind,
                    "contains": contains,
                    "thresholds": [],
                    "submetrics": None,
                },
                "metric": name,
            }
        )
        for name, (kind, contains) in _METRICS.items()
    )


def json_lines(samples: Iterator[Sample]) -> Iterator[str]:
    """Yield a line for each sample."""
    for metric, at, value, tags in samples:
        data = {
            "time": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds"),
            "value": round(value, 6),
            "tags": tags or None,
        }
        yield _json({"metric": metric, "type": "Point", "data": data})


def _json(line: dict[str, object]) -> str:
    return msgspec.json.encode(line).decode() + "\n"
