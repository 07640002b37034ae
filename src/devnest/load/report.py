"""The HTML report of one run: over time, by route, and how busy the generator was."""

import html
from collections.abc import Sequence
from typing import Literal

from devnest.load.charts import Area, Limit, Line, Lines
from devnest.load.page import figure, page, table, tiles
from devnest.load.result import MAX_CPU_SHARE, MIN_SECOND_S, Point, Result
from devnest.load.summary import milliseconds, notices
from devnest.load.target_charts import TargetRun, target_charts, target_figures
from devnest.load.thresholds import Verdict

__all__ = ["content", "report"]

_SHOWN_PERCENTILES = (50, 90, 95, 99)


def report(result: Result, verdicts: Sequence[Verdict], command: str) -> str:
    """Return the whole HTML file.

    Args:
        result: The run.
        verdicts: Of its thresholds.
        command: The command line that started it.
    """
    title = f"Load on {result.url}"
    body, charts = content(result, verdicts)
    head = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p class='quiet'>{result.started_at:%Y-%m-%d %H:%M:%S} UTC, "
        f"profile {html.escape(result.profile)}</p>",
    ]
    return page(title, [*head, *body, "<h2>This run</h2>", _about(result, command)], charts)


def content(result: Result, verdicts: Sequence[Verdict]) -> tuple[list[str], dict[str, Lines]]:
    """Return what a report has of a run: the pieces of HTML, and the charts in them.

    Args:
        result: The run, which may still go on.
        verdicts: Of its thresholds.
    """
    charts: dict[str, Lines] = {
        "rate": _over_time(result, "req/s", [_line(result, "requests", _rates(result), 0)]),
        "p95": _over_time(result, "ms", _p95_lines(result)),
        "percentiles": _percentiles(result),
        "cpu": _cpu(result),
    }
    of_target = target_charts([TargetRun("target", result.samples)])
    charts |= of_target
    if result.failed:
        failed = [point.failed for point in _points(result)]
        charts["failures"] = _over_time(
            result, "requests", [_line(result, "failed", failed, "bad")]
        )
    body = [
        *_notices(result),
        tiles(_headline(result)),
        *_thresholds(verdicts),
        figure(
            "rate",
            "Requests per second",
            "Responses in each second, and the number of virtual users behind them.",
        ),
        figure(
            "p95",
            "95th percentile by route",
            "95 of 100 responses in that second took at most this long.",
        ),
        figure(
            "percentiles",
            "How long the slowest took",
            "For each share of the responses, the time within which they arrived. The slowest "
            "have the most room.",
        ),
        *_target(result, of_target),
        "<h2>Routes</h2>",
        _routes(result),
        *_failures(result),
        "<h2>Checks</h2>",
        _checks(result),
        figure(
            "cpu",
            "The load generator itself",
            "CPU of its busiest process. Above the limit, the run is void.",
        ),
    ]
    return body, charts


def _target(result: Result, charts: dict[str, Lines]) -> list[str]:
    reason = result.watch.reason if result.watch is not None else ""
    if not (charts or reason):
        return []
    words = [f"<p class='quiet'>{html.escape(reason)}</p>"] if reason else []
    return ["<h2>The target meanwhile</h2>", *words, *target_figures(charts)]


def _notices(result: Result) -> list[str]:
    return [f"<p class='notice' role='alert'>{html.escape(text)}</p>" for text in notices(result)]


def _headline(result: Result) -> list[tuple[str, str]]:
    trend = result.trend()
    share = result.failed / result.requests if result.requests else 0.0
    return [
        ("requests", f"{result.requests:,}"),
        ("requests per second", f"{result.requests_per_s:,.1f}"),
        ("in the best second", f"{result.peak_requests_per_s:,.0f}"),
        ("median", milliseconds(trend.med)),
        ("95th percentile", milliseconds(trend.percentile(95))),
        ("failed", f"{share:.2%}"),
        ("virtual users at most", f"{result.vus_max:,}"),
        ("dropped iterations", f"{result.dropped:,}"),
    ]


def _thresholds(verdicts: Sequence[Verdict]) -> list[str]:
    if not verdicts:
        return []
    lines = (
        f"<li class='{'good' if verdict.ok else 'bad'}'>{html.escape(str(verdict))}</li>"
        for verdict in verdicts
    )
    return ["<h2>Thresholds</h2>", f"<ul>{''.join(lines)}</ul>"]


def _routes(result: Result) -> str:
    rows = []
    for name in result.names:
        trend = result.trend(name)
        durations = [
            trend.avg,
            *(trend.percentile(percent) for percent in _SHOWN_PERCENTILES),
            trend.max,
        ]
        failed = result.trend(name, expected=False).count
        rows.append(
            [
                name,
                f"{trend.count:,}",
                f"{failed:,}",
                *map(milliseconds, durations),
                _answers(result, name),
            ]
        )
    head = [
        "route",
        "requests",
        "failed",
        "avg",
        *(f"p{percent}" for percent in _SHOWN_PERCENTILES),
        "max",
        "answers",
    ]
    return table(head, rows)


def _answers(result: Result, name: str) -> str:
    return ", ".join(
        f"{status or 'none'}: {count:,}" for status, count in result.statuses(name).items()
    )


def _failures(result: Result) -> list[str]:
    rows = [[name, reason, f"{count:,}"] for (name, reason), count in result.errors.most_common()]
    reasons = [table(["route", "reason", "times"], rows, words=True)] if rows else []
    if not result.failed:
        return ["<h2>Failures</h2>", "<p>No request failed.</p>", *reasons]
    return [
        figure(
            "failures",
            "Failures",
            "Requests in each second that did not get an expected response.",
        ),
        *reasons,
    ]


def _checks(result: Result) -> str:
    rows = [[name, f"{passes:,}", f"{fails:,}"] for name, (passes, fails) in result.checks.items()]
    return table(["check", "passed", "failed"], rows)


def _about(result: Result, command: str) -> str:
    machine = result.machine
    rows = [
        ["command", command],
        [
            "machine",
            f"{machine.processor}, {machine.cores} cores, {machine.system}, "
            f"Python {machine.python}",
        ],
        ["seed", str(result.seed)],
        ["duration", f"{result.elapsed_s:.1f} s"],
        [
            "generator",
            f"{result.generators} process(es), {result.cpu_mean:.0%} of a core on average, "
            f"{result.cpu_peak:.0%} in the busiest ten seconds, "
            f"{result.cpu_ms_per_request:.3f} ms of CPU per request",
        ],
        [
            "prepared before",
            ", ".join(f"{name} {value:,.1f}" for name, value in result.prepared.items())
            or "nothing",
        ],
        ["interrupted iterations", f"{result.interrupted:,}"],
    ]
    return table([], rows, words=True)


def _points(result: Result) -> list[Point]:
    """Return the seconds to draw: without a short last one, whose rates would be noise."""
    return [point for point in result.points if point.wall_s > MIN_SECOND_S] or result.points


def _line(
    result: Result, name: str, values: Sequence[float | None], role: int | Literal["bad"]
) -> Line:
    return Line(name, [point.second for point in _points(result)], values, role)


def _rates(result: Result) -> list[float]:
    return [round(point.requests_per_s, 1) for point in _points(result)]


def _p95_lines(result: Result) -> list[Line]:
    # None, where a second has no request of that name, is a gap in the line.
    return [
        _line(result, name, [_rounded(point.p95_ms_by_name.get(name)) for point in points], index)
        for points in [_points(result)]
        for index, name in enumerate(result.names)
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _over_time(result: Result, unit: str, lines: list[Line]) -> Lines:
    """Return lines over the seconds of the run, with the number of VUs as an area behind them."""
    points = _points(result)
    vus = Area("virtual users", [p.second for p in points], [p.vus for p in points])
    return Lines(unit, lines, behind=vus)


def _percentiles(result: Result) -> Lines:
    lines = []
    for index, name in enumerate(result.names):
        curve = result.trend(name).curve()
        lines.append(Line(name, [at for at, _ in curve], [value for _, value in curve], index))
    return Lines("ms", lines, x="share of the responses", scale="percentile")


def _cpu(result: Result) -> Lines:
    used = [round(point.cpu * 100, 1) for point in _points(result)]
    limit = Limit("limit", MAX_CPU_SHARE * 100)
    return Lines("% of a core", [_line(result, "generator", used, 0)], limit=limit)
