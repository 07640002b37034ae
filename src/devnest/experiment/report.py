"""The report of a session: charts and tables in one HTML file that needs no network."""

import html
import math
from typing import Any

from devnest.experiment.designs import AFTER, BEFORE
from devnest.experiment.session import Run, Session
from devnest.experiment.table import HEAD, PUBLISHED, compared, ratios, remarks
from devnest.load.charts import COLOURS, LOGARITHMIC, curve, time_layout
from devnest.load.page import Figure, figure, page, table, tiles
from devnest.load.summary import milliseconds

__all__ = ["report"]

PUBLISHED_COLOUR = "#80868f"


def report(session: Session, command: str) -> str:
    """Return the report as HTML.

    Args:
        session: The session.
        command: The command that was run, for the section on the session.
    """
    measured = [design for design in session.conditions.designs if session.valid_runs(design)]
    shown = len(PUBLISHED[session.conditions.profile]) + len(measured)
    title = f"The experiment on this machine: {session.conditions.profile}"
    body = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p class='quiet'>{html.escape(_when(session))}</p>",
        *(f"<p class='notice' role='alert'>{html.escape(line)}</p>" for line in _notices(session)),
        *(_headline(session, design) for design in (BEFORE, AFTER) if design in measured),
        *(f"<p>{html.escape(line)}</p>" for line in ratios(session)),
        figure(
            "rates",
            "Requests per second",
            "Medians of the runs, with the published figures.",
            bars=shown,
        ),
        figure(
            "slowest",
            "95th percentile",
            "In milliseconds on a logarithmic scale, for all requests and for posts.",
            bars=2 * shown,
        ),
        figure(
            "rate-over-time",
            "Requests per second over time",
            "For each design, the run with the median rate.",
            lines=len(measured),
        ),
        figure(
            "p95-over-time",
            "95th percentile over time",
            "In milliseconds on a logarithmic scale.",
            lines=len(measured),
        ),
        "<h2>The table</h2>",
        table(HEAD, compared(session)),
        "<h2>Every run</h2>",
        _every_run(session),
        "<h2>This session</h2>",
        _about(session, command),
    ]
    figures = {
        "rates": _rates(session, measured),
        "slowest": _slowest(session, measured),
        "rate-over-time": _over_time(session, measured, "requests_per_s", "req/s"),
        "p95-over-time": _over_time(session, measured, "p95_ms", "ms"),
    }
    figures["p95-over-time"]["layout"]["yaxis"].update(LOGARITHMIC)
    return page(title, body, figures)


def _when(session: Session) -> str:
    if not session.runs:
        return "No run was finished."
    starts = sorted(run.started_at for run in session.runs)
    return f"{starts[0]} to {starts[-1]}, bcrypt cost {session.conditions.hash_cost}"


def _notices(session: Session) -> list[str]:
    troubles = [
        f"{session.titles[trouble.design]}: {trouble.kind}, {trouble.reason}"
        for trouble in session.troubles
    ]
    left = f"{len(session.pending)} runs are missing." if session.pending else ""
    return [line for line in (left, *remarks(session), *troubles) if line]


def _headline(session: Session, design: str) -> str:
    def median_of(name: str) -> float:
        return session.median_of(design, name) or 0.0

    failed = sum(run.failed for run in session.valid_runs(design))
    return f"<h2>{html.escape(session.titles[design])}</h2>" + tiles(
        [
            ("requests per second", f"{median_of('requests_per_s'):,.1f}"),
            ("requests", f"{median_of('requests'):,.0f}"),
            ("average", milliseconds(median_of("avg_ms"))),
            ("median", milliseconds(median_of("med_ms"))),
            ("95th percentile", milliseconds(median_of("p95_ms"))),
            ("failed", f"{failed:,}"),
        ]
    )


def _bars(
    name: str, labels: list[str], values: list[float | None], colours: list[str] | str
) -> dict[str, Any]:
    """Return horizontal bars, which leave room for long names."""
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "x": values,
        "y": labels,
        "marker": {"color": colours},
        "texttemplate": "%{x:,.3~r}",
        "textposition": "outside",
        "cliponaxis": False,
    }


def _bar_layout(unit: str) -> dict[str, Any]:
    layout = time_layout("")
    layout["hovermode"] = "closest"
    layout["uniformtext"] = {"minsize": 10, "mode": "show"}
    layout["xaxis"] = {"title": {"text": unit}, "rangemode": "tozero"}
    layout["yaxis"] = {"autorange": "reversed", "automargin": True, "type": "category"}
    return layout


def _rates(session: Session, measured: list[str]) -> Figure:
    published = PUBLISHED[session.conditions.profile]
    labels = [entry.title for entry in published] + [session.titles[design] for design in measured]
    values = [entry.requests_per_s for entry in published]
    colours = [PUBLISHED_COLOUR] * len(published) + [COLOURS[0]] * len(measured)
    rates = [*values, *(session.median_of(design, "requests_per_s") for design in measured)]
    return {"data": [_bars("req/s", labels, rates, colours)], "layout": _bar_layout("req/s")}


def _slowest(session: Session, measured: list[str]) -> Figure:
    published = PUBLISHED[session.conditions.profile]
    labels = [entry.title for entry in published] + [session.titles[design] for design in measured]
    of_all = [
        *(entry.p95_ms for entry in published),
        *(session.median_of(design, "p95_ms") for design in measured),
    ]
    of_post = [
        *(None for _ in published),
        *(session.median_p95_of(design, "post") for design in measured),
    ]
    layout = _bar_layout("ms")
    most = max(value for value in of_all if value is not None)
    # The axis begins at 1 ms.
    layout["xaxis"].update(type="log", dtick=1, range=[0, math.log10(max(most, 10)) + 0.2])
    bars = [_bars("all", labels, of_all, COLOURS[0]), _bars("post", labels, of_post, COLOURS[1])]
    return {"data": bars, "layout": layout}


def _over_time(session: Session, measured: list[str], name: str, unit: str) -> dict[str, Any]:
    lines = []
    for number, design in enumerate(measured):
        run = session.median_run(design)
        assert run is not None
        # 0 means a second without a response; it becomes a gap in the line.
        values = [round(getattr(moment, name), 3) or None for moment in run.seconds]
        lines.append(
            curve(session.titles[design], [moment.second for moment in run.seconds], values, number)
        )
    return {"data": lines, "layout": time_layout(unit)}


def _every_run(session: Session) -> str:
    head = [
        "design",
        "run",
        "requests",
        "req/s",
        "avg",
        "median",
        "p95",
        "p99",
        "failed",
        "checks failed",
        "generator",
    ]
    order = list(session.titles)
    runs = sorted(session.runs, key=lambda run: (order.index(run.design), run.round))
    return table(head, [_run_row(session, run) for run in runs])


def _run_row(session: Session, run: Run) -> list[str]:
    return [
        session.titles[run.design],
        f"{run.round}{' (void)' if run.void else ''}",
        f"{run.requests:,}",
        f"{run.requests_per_s:,.1f}",
        *map(milliseconds, (run.avg_ms, run.med_ms, run.p95_ms, run.p99_ms)),
        f"{run.failed:,}",
        f"{run.failed_checks:,}",
        f"{run.generator_cpu_peak:.0%}",
    ]


def _about(session: Session, command: str) -> str:
    machine = session.machine
    rows = [
        ["command", command],
        ["repeat with", session.conditions.command],
        [
            "machine",
            f"{machine.processor}, {machine.cores} cores, {machine.system}, "
            f"Python {machine.python}",
        ],
        [
            "versions",
            ", ".join(
                [f"DevNest {session.devnest}", *([f"Node {session.node}"] if session.node else [])]
            ),
        ],
        ["generator", "share of a core in its busiest ten seconds; above 80 % a run is void"],
    ]
    return table([], rows, words=True)
