"""The report of a session: one HTML file that needs no network.

Its first page says what was gained, and why. The pages below it prove it.
"""

import html
from collections.abc import Callable

from devnest.experiment.session import Run, Session
from devnest.experiment.story import headline, pair, reason, role_of
from devnest.experiment.table import HEAD, PUBLISHED, compared, remarks
from devnest.load.charts import Bar, Bars, Chart, Line, Lines, Role
from devnest.load.page import figure, page, table, tiles
from devnest.load.summary import milliseconds
from devnest.load.target_charts import TargetRun, target_charts, target_figures

__all__ = ["report"]

_TITLES = {"experiment": "The published experiment", "stress": "The published stress test"}


def report(session: Session, command: str) -> str:
    """Return the report as HTML.

    Args:
        session: The session.
        command: The command that was run, for the section on the session.
    """
    measured = [design for design in session.conditions.designs if session.valid_runs(design)]
    title = f"{_TITLES[session.conditions.profile]} on this machine"
    charts: dict[str, Chart] = {
        "rates": _rates(session, measured),
        "slowest": _slowest(session, measured),
        "rate-over-time": _over_time(session, measured, "requests_per_s", "req/s"),
        "p95-over-time": _over_time(session, measured, "p95_ms", "ms"),
        "percentiles": _percentiles(session, measured),
    }
    reasons = _target_charts(session)
    charts |= reasons
    body = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p class='quiet'>{html.escape(_when(session))}</p>",
        *_lead(session),
        *(f"<p class='notice' role='alert'>{html.escape(line)}</p>" for line in _notices(session)),
        figure(
            "rates",
            "Requests per second",
            "Longer is better. Medians of the runs; published figures are of another machine.",
        ),
        figure(
            "slowest",
            "95 of 100 responses within",
            "Shorter is better. Medians of the runs; published figures are of another machine.",
        ),
        *_why(session, reasons),
        "<h2>The proof</h2>",
        figure(
            "percentiles",
            "How long the slowest took",
            "For each share of the responses, the time within which they arrived. Of each design, "
            "the run with the median rate.",
        ),
        figure(
            "rate-over-time",
            "Requests per second over time",
            "Of each design, the run with the median rate.",
        ),
        figure(
            "p95-over-time",
            "95th percentile over time",
            "95 of 100 responses in that second took at most this long.",
        ),
        "<h3>The table</h3>",
        table(HEAD, compared(session)),
        "<h3>Every run</h3>",
        _every_run(session),
        "<h3>This session</h3>",
        _about(session, command),
    ]
    return page(title, body, charts)


def _when(session: Session) -> str:
    if not session.runs:
        return "No run was finished."
    starts = sorted(run.started_at[:16].replace("T", " ") for run in session.runs)
    machine = session.machine
    return (
        f"{machine.processor}, {machine.cores} cores; runs begun from {starts[0]} to {starts[-1]} "
        f"UTC; bcrypt cost {session.conditions.hash_cost}"
    )


def _lead(session: Session) -> list[str]:
    designs = pair(session)
    if designs is None:
        return []
    # A number and its unit stay on one line.
    first, *others = (phrase.replace(" s", "\u00a0s") for phrase in headline(session))
    before, after = (session.titles[design] for design in designs)
    return [
        f"<p class='lead'><b>{html.escape(first)}</b>; {html.escape('; '.join(others))}.</p>",
        f"<p class='quiet'>{html.escape(after)}, compared with {html.escape(before)}.</p>",
        _tiles(session, designs[0], "before"),
        _tiles(session, designs[1], "after"),
    ]


def _tiles(session: Session, design: str, when: str) -> str:
    def median_of(name: str) -> float:
        return session.median_of(design, name) or 0.0

    failed = sum(run.failed for run in session.valid_runs(design))
    return tiles(
        [
            (f"requests per second, {when}", f"{median_of('requests_per_s'):,.1f}"),
            (f"median, {when}", milliseconds(median_of("med_ms"))),
            (f"95th percentile, {when}", milliseconds(median_of("p95_ms"))),
            (f"failed, {when}", f"{failed:,}"),
        ]
    )


def _notices(session: Session) -> list[str]:
    troubles = [
        f"{session.titles[trouble.design]}: {trouble.kind}, {trouble.reason}"
        for trouble in session.troubles
    ]
    left = f"{len(session.pending)} runs are missing." if session.pending else ""
    return [line for line in (left, *remarks(session), *troubles) if line]


def _target_charts(session: Session) -> dict[str, Lines]:
    designs = pair(session) or ()
    return target_charts(
        [
            TargetRun(
                role_of(session, each), _median_run(session, each).samples, role_of(session, each)
            )
            for each in designs
        ]
    )


def _why(session: Session, charts: dict[str, Lines]) -> list[str]:
    if not charts:
        return []
    words = f"<p>{html.escape(reason(session))}</p>" if reason(session) else ""
    return ["<h2>Why</h2>", words, *target_figures(charts)]


def _rates(session: Session, measured: list[str]) -> Bars:
    entries = PUBLISHED[session.conditions.profile]
    published = [(entry.title, entry.requests_per_s) for entry in entries]
    return _bars(session, measured, published, "requests_per_s", lambda rate: f"{rate:,.1f}")


def _slowest(session: Session, measured: list[str]) -> Bars:
    entries = PUBLISHED[session.conditions.profile]
    published = [(entry.title, entry.p95_ms) for entry in entries]
    return _bars(session, measured, published, "p95_ms", milliseconds)


def _bars(
    session: Session,
    measured: list[str],
    published: list[tuple[str, float]],
    name: str,
    text_of: Callable[[float], str],
) -> Bars:
    own = [
        Bar(session.titles[design], value, text_of(value), role_of(session, design))
        for design in measured
        if (value := session.median_of(design, name)) is not None
    ]
    others = [
        Bar(f"{title} (another machine)", value, text_of(value), "published")
        for title, value in published
    ]
    return Bars([*own, *others])


def _median_run(session: Session, design: str) -> Run:
    run = session.median_run(design)
    assert run is not None  # it is among those measured
    return run


def _line_role(session: Session, design: str) -> Role:
    """Return a colour that tells the line from all others; bars have their names beside them."""
    role = role_of(session, design)
    return list(session.titles).index(design) if role == "other" else role


def _over_time(session: Session, measured: list[str], name: str, unit: str) -> Lines:
    lines = []
    for design in measured:
        run = _median_run(session, design)
        # 0 means a second without a response; it becomes a gap in the line.
        values = [round(getattr(moment, name), 3) or None for moment in run.seconds]
        times = [moment.second for moment in run.seconds]
        lines.append(Line(session.titles[design], times, values, _line_role(session, design)))
    return Lines(unit, lines)


def _percentiles(session: Session, measured: list[str]) -> Lines:
    lines = []
    for design in measured:
        curve = _median_run(session, design).percentiles
        percents, values = [at for at, _ in curve], [value for _, value in curve]
        role = _line_role(session, design)
        lines.append(Line(session.titles[design], percents, values, role))
    return Lines("ms", lines, x="share of the responses", scale="percentile")


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
