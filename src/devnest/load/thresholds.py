"""Thresholds in k6's syntax: `http_req_duration{name:login}: p(95)<500`.

The syntax: https://grafana.com/docs/k6/latest/using-k6/thresholds/. DevNest is stricter than k6 in
one thing: a trend or a rate without any sample fails its threshold, because a mistyped name must
not look like a success.
"""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from devnest.load.errors import BadPlan
from devnest.load.metrics import METRICS, Counter, Gauge, Rate, Tags, TrendMetric, metric
from devnest.load.result import Result

__all__ = ["Threshold", "Verdict", "parse_threshold"]

# The last brace before the condition closes the tags, since a name such as `GET /posts/{id}` has
# braces of its own.
_FORM = re.compile(r"\s*(?P<metric>\w+)\s*(?:\{(?P<tags>.*)\})?\s*:\s*(?P<condition>[^{}]+?)\s*")
# Quotes keep a comma, or a quote of the other kind, inside a value: {name:"first, second"}.
_TAG = re.compile(
    r"""\s*(?P<tag>\w+)\s*:\s*"""
    r"""(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^,]*?))\s*(?:,|$)"""
)
_CONDITION = re.compile(
    r"(?P<aggregation>[a-z]+|p\(\s*[\d.]+\s*\))\s*(?P<operator>[<>=!]+)\s*(?P<bound>\S+)"
)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "===": operator.eq,
    "!=": operator.ne,
}
_AGGREGATIONS = {
    TrendMetric: ("avg", "min", "med", "max", "p(N)"),
    Counter: ("count", "rate"),
    Rate: ("rate",),
    Gauge: ("value",),
}


@dataclass(frozen=True)
class Threshold:
    """A condition that a run must meet."""

    metric: str
    tags: Tags
    condition: str  # as written; k6 exports it under this name
    aggregation: str
    operator: str
    bound: float

    @property
    def key(self) -> str:
        """The metric with its tags, as k6 names it."""
        tags = ",".join(f"{name}:{_quoted(value)}" for name, value in self.tags.items())
        return f"{self.metric}{{{tags}}}" if tags else self.metric

    def judge(self, result: Result) -> "Verdict":
        """Return whether `result` meets the condition."""
        measured = metric(result, self.metric, self.tags)
        if measured.is_empty:
            return Verdict(self, None, False)
        value = measured.value(self.aggregation)
        return Verdict(self, value, _OPERATORS[self.operator](value, self.bound))


@dataclass(frozen=True)
class Verdict:
    """Whether a run met a threshold. `value` is None where nothing was measured."""

    threshold: Threshold
    value: float | None
    ok: bool = field(default=False)

    def __str__(self) -> str:
        found = (
            "nothing was measured"
            if self.value is None
            else f"{self.threshold.aggregation}={self.value:g}"
        )
        return (
            f"{'✓' if self.ok else '✗'} {self.threshold.key}: {self.threshold.condition} ({found})"
        )


def parse_threshold(text: str) -> Threshold:
    """Parse `METRIC{TAG:VALUE,...}: AGGREGATION OPERATOR NUMBER`.

    Raises:
        BadPlan: The text is no threshold, or the metric has no such tag or aggregation.
    """
    form = _FORM.fullmatch(text)
    condition = _CONDITION.fullmatch(form["condition"]) if form else None
    if form is None or condition is None:
        raise BadPlan(
            f"not a threshold: {text!r} (write 'http_req_duration{{name:login}}: p(95)<500')"
        )
    name = form["metric"]
    if name not in METRICS:
        raise BadPlan(f"no metric {name!r}; there are {', '.join(METRICS)}")
    kind, known_tags = METRICS[name]
    return Threshold(
        metric=name,
        tags=_tags(name, form["tags"] or "", known_tags),
        condition=form["condition"],
        aggregation=_aggregation(name, kind, condition["aggregation"]),
        operator=_operator(condition["operator"]),
        bound=_number(condition["bound"], text),
    )


def _tags(name: str, text: str, known: frozenset[str]) -> Tags:
    tags: dict[str, str] = {}
    place = 0
    while text[place:].strip():
        match = _TAG.match(text, place)
        if match is None:
            raise BadPlan(
                f"not tags: {text!r} (write name:value, and quotes around a value with a comma)"
            )
        place = match.end()
        tag, value = (
            match["tag"],
            next(found for found in match.group("double", "single", "bare") if found is not None),
        )
        if tag not in known:
            raise BadPlan(f"{name} has no tag {tag!r}; it has {', '.join(sorted(known)) or 'none'}")
        if tag == "status" and not re.fullmatch(r"\d{1,3}", value):
            raise BadPlan(f"a status is a number, not {value!r}")
        if tag == "expected_response" and value not in ("true", "false"):
            raise BadPlan(f"expected_response is true or false, not {value!r}")
        if tag in tags:
            raise BadPlan(f"two values for the tag {tag!r} of {name}: a sample has one")
        tags[tag] = value
    return tags


def _quoted(value: str) -> str:
    """Return a tag's value with the quotes that it needs in the syntax of thresholds."""
    if "," not in value and value == value.strip():
        return value
    return f"'{value}'" if '"' in value else f'"{value}"'


def _aggregation(name: str, kind: type, text: str) -> str:
    allowed = _AGGREGATIONS[kind]
    if text in allowed:
        return text
    if text.startswith("p(") and "p(N)" in allowed:
        percent = _number(text[2:-1], text)
        if 0 <= percent <= 100:
            return f"p({percent:g})"
        raise BadPlan(f"a percentile is from 0 to 100, not {percent:g}")
    raise BadPlan(f"{name} has no {text!r}; it has {', '.join(allowed)}")


def _operator(text: str) -> str:
    if text not in _OPERATORS:
        raise BadPlan(f"no operator {text!r}; there are {' '.join(_OPERATORS)}")
    return text


def _number(text: str, whole: str) -> float:
    if not _NUMBER.fullmatch(text.strip()):
        raise BadPlan(f"not a number: {text.strip()!r} in {whole!r}")
    return float(text)
