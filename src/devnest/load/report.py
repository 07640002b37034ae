"""The HTML report of one run: over time, by route, and how busy the generator was."""

import html
import math
from collections.abc import Sequence
from typing import Any

from devnest.load.charts import COLOURS, LOGARITHMIC, curve, time_layout
from devnest.load.page import Figure, figure, page, table, tiles
from devnest.load.result import MAX_CPU_SHARE, MIN_SECOND_S, Point, Result
from devnest.load.summary import milliseconds, notices
from devnest.load.thresholds import Verdict

__all__ = ["report"]

_VUS_COLOUR = "rgba(128,140,155,0.22)"
_BAD = "#c9423a"
_SHOWN_PERCENTILES = (50, 90, 95, 99)


def report(result: Result, verdicts: Sequence[Verdict], command: str) -> str:
    """Return the whole HTML file.

    Args:
        result: The run.
        verdicts: Of its thresholds.
        command: The command line that started it.
    """
    figures = {
        "rate": _over_time(
            result, "req/s", [curve("requests", _seconds(result), _rates(result), 0)]
        ),
        "p95": _over_time(result, "p95, ms", _p95_lines(result)),
        "percentiles": _percentiles(result),
        "cpu": _cpu(result),
    }
    if result.failed:
        figures["failures"] = _over_time(result, "failed requests", [_failure_bars(result)])
    body = [
        f"<h1>Load on {html.escape(result.url)}</h1>",
        f"<p class='quiet'>{result.started_at:%Y-%m-%d %H:%M:%S} UTC, "
        f"profile {html.escape(result.profile)}</p>",
        *_notices(result),
        tiles(_headline(result)),
        *_thresholds(verdicts),
        figure(
            "rate", "Requests per second", "Answers a second, with the virtual users behind them."
        ),
        figure(
            "p95",
            "95th percentile",
            "Milliseconds, of each second, by route, with the virtual users behind.",
        ),
        figure(
            "percentiles",
            "Percentiles by route",
            "Milliseconds on a logarithmic scale, over the whole run.",
        ),
        "<h2>Routes</h2>",
        _routes(result),
        *_failures(result),
        "<h2>Checks</h2>",
        _checks(result),
        figure(
            "cpu", "The generator itself", "Share of a core used by the busiest generator process."
        ),
        "<h2>This run</h2>",
        _about(result, command),
    ]
    return page(f"Load on {result.url}", body, figures)


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
            "Requests by the second that did not get the answer they should.",
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


def _seconds(result: Result) -> list[int]:
    return [point.second for point in _points(result)]


def _rates(result: Result) -> list[float]:
    return [round(point.requests_per_s, 1) for point in _points(result)]


def _p95_lines(result: Result) -> list[dict[str, Any]]:
    lines = []
    for index, name in enumerate(result.names):
        # None, where a second has no request of that name, is a gap in the line.
        values = [point.p95_ms_by_name.get(name) for point in _points(result)]
        lines.append(curve(name, _seconds(result), values, index))
    return lines


def _failure_bars(result: Result) -> dict[str, Any]:
    failed = [point.failed for point in _points(result)]
    return {
        "type": "bar",
        "name": "failed",
        "x": _seconds(result),
        "y": failed,
        "marker": {"color": _BAD},
    }


def _over_time(result: Result, unit: str, traces: list[dict[str, Any]]) -> Figure:
    """Return traces over the seconds of the run, with the number of VUs as an area behind them."""
    vus = {
        "type": "scatter",
        "mode": "lines",
        "name": "VUs",
        "x": _seconds(result),
        "y": [point.vus for point in _points(result)],
        "fill": "tozeroy",
        "fillcolor": _VUS_COLOUR,
        "line": {"width": 0, "shape": "hv"},
    }
    on_top = [{**trace, "yaxis": "y2"} for trace in traces]
    layout = time_layout(unit)
    if len(seconds := _seconds(result)) > 1:
        # Given, since dots make Plotly's axis longer, and all charts of the page are to match.
        layout["xaxis"]["range"] = [seconds[0], seconds[-1]]
    # Plotly draws the second axis over the first, so the first is that of the VUs, on the right.
    layout["yaxis"] = {
        "title": {"text": "VUs"},
        "side": "right",
        "showgrid": False,
        "rangemode": "tozero",
    }
    layout["yaxis2"] = {
        "title": {"text": unit},
        "overlaying": "y",
        "side": "left",
        "rangemode": "tozero",
        "automargin": True,
    }
    layout["yaxis2"]["tickmode"] = "auto"  # else Plotly aligns the ticks with those of the VUs
    return {"data": [vus, *on_top], "layout": layout}


def _percentiles(result: Result) -> Figure:
    values = {
        percent: [round(result.trend(name).percentile(percent), 3) for name in result.names]
        for percent in _SHOWN_PERCENTILES
    }
    data = [
        {
            "type": "bar",
            "name": f"p{percent}",
            "x": result.names,
            "y": heights,
            "marker": {"color": COLOURS[index]},
        }
        for index, (percent, heights) in enumerate(values.items())
    ]
    layout = time_layout("ms")
    layout["xaxis"] = {"type": "category"}
    layout["yaxis"].update(LOGARITHMIC)
    if shown := [height for heights in values.values() for height in heights if height > 0]:
        # Plotly's own range would begin at the smallest value, and its bar would have no height.
        layout["yaxis"]["range"] = [math.log10(min(shown) / 2), math.log10(max(shown) * 1.2)]
    return {"data": data, "layout": layout}


def _cpu(result: Result) -> Figure:
    layout = time_layout("% of a core")
    most = max([100.0, *(point.cpu * 100 for point in _points(result))])
    layout["yaxis"]["range"] = [0, most]
    limit = {"color": _BAD, "width": 1, "dash": "dash"}
    layout["shapes"] = [
        {
            "type": "line",
            "xref": "paper",
            "x0": 0,
            "x1": 1,
            "y0": MAX_CPU_SHARE * 100,
            "y1": MAX_CPU_SHARE * 100,
            "line": limit,
        }
    ]
    used = [round(point.cpu * 100, 1) for point in _points(result)]
    return {"data": [curve("generator", _seconds(result), used, 0)], "layout": layout}
