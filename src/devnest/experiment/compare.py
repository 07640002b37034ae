"""Compares results of `devnest bench`, `devnest load` and k6, read from their JSON files."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from devnest.experiment.session import MAX_FILE_BYTES, Session
from devnest.load import BadPlan
from devnest.load.charts import Bar, Bars, Chart, Line, Lines, Role
from devnest.load.page import figure, page, table
from devnest.load.summary import milliseconds

__all__ = ["COLUMNS", "Entry", "compared_rows", "comparison", "read_entries"]

COLUMNS = ["result", "req/s", "ratio", "median", "p95", "ratio of p95", "failed"]


class Entry(msgspec.Struct, frozen=True):
    """One result: a load run, or the median run of a design.

    `curve` has percents of the requests and the milliseconds within which they were answered;
    `rates` has a number of requests for each second. Both are empty where the file has none.
    """

    name: str
    requests: int
    failed: int
    requests_per_s: float
    med_ms: float
    p95_ms: float
    p95_ms_by_route: dict[str, float] = {}
    curve: list[tuple[float, float]] = []
    seconds: list[tuple[float, float]] = []


def read_entries(paths: Sequence[Path]) -> list[Entry]:
    """Read the results in files.

    Args:
        paths: Files of `devnest bench`, `devnest load --summary-export` or k6.

    Returns:
        The entries of all files, in their order, each with a name of its own.

    Raises:
        BadPlan: A file cannot be read or holds no result.
    """
    entries = [entry for path in paths for entry in _read(path)]
    seen: dict[str, int] = {}
    named = []
    for entry in entries:
        seen[entry.name] = seen.get(entry.name, 0) + 1
        again = f" ({seen[entry.name]})" if seen[entry.name] > 1 else ""
        named.append(msgspec.structs.replace(entry, name=entry.name + again))
    return named


def _read(path: Path) -> list[Entry]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES)
        content = msgspec.json.decode(raw)
    except OSError as error:
        raise BadPlan(f"cannot read {path}: {error.strerror}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadPlan(f"{path} holds no result of a load test: {error}") from None
    if isinstance(content, dict) and "conditions" in content:
        return _of_session(path)
    try:
        return [_of_summary(path, msgspec.json.decode(raw, type=_Summary))]
    except KeyError as error:
        raise BadPlan(f"{path} holds no result of a load test: {error} is missing") from None
    except (msgspec.DecodeError, OverflowError) as error:
        raise BadPlan(f"{path} holds no result of a load test: {error}") from None


def _of_session(path: Path) -> list[Entry]:
    session = Session.load(path)
    entries = []
    for design in session.conditions.designs:
        run = session.median_run(design)
        if run is not None:
            entries.append(
                Entry(
                    f"{path.stem}: {session.titles[design]}",
                    run.requests,
                    run.failed,
                    run.requests_per_s,
                    run.med_ms,
                    run.p95_ms,
                    {name: route.p95_ms for name, route in run.routes.items()},
                    run.percentiles,
                    [(moment.second, moment.requests_per_s) for moment in run.seconds],
                )
            )
    if not entries:
        raise BadPlan(f"{path} holds no valid run")
    return entries


class _Second(msgspec.Struct):
    second: int
    requests_per_s: float


class _Extra(msgspec.Struct):
    """What only `devnest load` writes."""

    void: bool = False
    percentiles: list[tuple[float, float]] = []
    seconds: list[_Second] = []


class _Summary(msgspec.Struct):
    """The summary of k6 and of `devnest load`."""

    metrics: dict[str, dict[str, Any]]
    devnest: _Extra = msgspec.field(default_factory=_Extra)


def _of_summary(path: Path, summary: _Summary) -> Entry:
    metrics = summary.metrics

    def number(metric: str, value: str) -> float:
        return msgspec.convert(metrics[metric][value], float, strict=False)

    begin, end = "http_req_duration{name:", "}"
    return Entry(
        f"{path.stem} (void)" if summary.devnest.void else path.stem,
        int(number("http_reqs", "count")),
        int(number("http_req_failed", "passes")),
        number("http_reqs", "rate"),
        number("http_req_duration", "med"),
        number("http_req_duration", "p(95)"),
        {
            name[len(begin) : -len(end)]: number(name, "p(95)")
            for name in metrics
            if name.startswith(begin)
        },
        summary.devnest.percentiles,
        [(each.second, each.requests_per_s) for each in summary.devnest.seconds],
    )


def compared_rows(entries: Sequence[Entry]) -> list[list[str]]:
    """Return the rows of a table with `COLUMNS`. The ratios are to the first entry."""
    base = entries[0]
    return [
        [
            entry.name,
            f"{entry.requests_per_s:,.1f}",
            _ratio(entry.requests_per_s, base.requests_per_s),
            milliseconds(entry.med_ms),
            milliseconds(entry.p95_ms),
            _ratio(entry.p95_ms, base.p95_ms),
            f"{entry.failed:,}",
        ]
        for entry in entries
    ]


def _ratio(value: float, base: float) -> str:
    return f"{value / base:.2f}" if base else "-"


def comparison(entries: Sequence[Entry], command: str) -> str:
    """Return the comparison as an HTML page.

    Args:
        entries: The results; the first one is the base.
        command: The command that was run.
    """
    title = f"{len(entries)} results compared"
    charts: dict[str, Chart] = {
        "rates": Bars(
            [
                Bar(each.name, each.requests_per_s, f"{each.requests_per_s:,.1f}", _role(index))
                for index, each in enumerate(entries)
            ]
        ),
        "slowest": Bars(
            [
                Bar(each.name, each.p95_ms, milliseconds(each.p95_ms), _role(index))
                for index, each in enumerate(entries)
            ]
        ),
        "percentiles": _lines(
            "ms",
            [(each.name, each.curve) for each in entries],
            x="share of the responses",
            percentile=True,
        ),
        "rate-over-time": _lines("req/s", [(each.name, each.seconds) for each in entries]),
    }
    body = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p class='quiet'>Ratios are to {html.escape(entries[0].name)}.</p>",
        table(COLUMNS, compared_rows(entries)),
        figure("rates", "Requests per second", "Longer is better."),
        figure("slowest", "95 of 100 responses within", "Shorter is better."),
        figure(
            "percentiles",
            "How long the slowest took",
            "For each share of the responses, the time within which they arrived.",
        ),
        figure("rate-over-time", "Requests per second over time", "Responses in each second."),
        "<h2>95th percentile by route</h2>",
        _by_route(entries),
        f"<p class='quiet'><code>{html.escape(command)}</code></p>",
    ]
    return page(title, body, charts)


def _role(index: int) -> Role:
    """Return the colour of an entry: of two they are before and after."""
    return ("before", "after")[index] if index < 2 else index


def _lines(
    unit: str,
    curves: list[tuple[str, list[tuple[float, float]]]],
    *,
    x: str = "seconds",
    percentile: bool = False,
) -> Lines:
    lines = [
        Line(name, [at for at, _ in points], [value for _, value in points], _role(index))
        for index, (name, points) in enumerate(curves)
        if points
    ]
    return Lines(unit, lines, x=x, scale="percentile" if percentile else "linear")


def _by_route(entries: Sequence[Entry]) -> str:
    routes = dict.fromkeys(route for entry in entries for route in entry.p95_ms_by_route)
    rows = [
        [route]
        + [
            milliseconds(entry.p95_ms_by_route[route]) if route in entry.p95_ms_by_route else "-"
            for entry in entries
        ]
        for route in routes
    ]
    return table(["route", *(entry.name for entry in entries)], rows)
