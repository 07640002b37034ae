"""The comparison as a table with the published figures, and as ratios."""

from dataclasses import dataclass

from devnest.busy import MAX_BUSY_SHARE
from devnest.experiment.designs import AFTER, BEFORE, REFERENCE
from devnest.experiment.session import Session
from devnest.load.summary import milliseconds

__all__ = [
    "HEAD",
    "PUBLISHED",
    "Published",
    "compared",
    "fitting",
    "ratios",
    "remarks",
    "void_runs",
]

NONE = "-"


@dataclass(frozen=True)
class Published:
    """Published figures from another machine. A figure that was not published is None."""

    title: str
    requests: int
    requests_per_s: float
    p95_ms: float
    avg_ms: float | None = None
    med_ms: float | None = None
    failed: int | None = None


PUBLISHED = {
    "experiment": (
        Published("published, before", 2592, 62, 1520, avg_ms=263, med_ms=69.5),
        Published("published, after", 4702, 114, 96, avg_ms=51.3),
    ),
    "stress": (Published("published", 157_528, 1945, 66, failed=0),),
}
HEAD = [
    "design",
    "runs",
    "requests",
    "req/s",
    "best second",
    "avg",
    "median",
    "p95",
    "p95 of post",
    "failed",
]

# Where the table is too wide, the columns that come last here are left out first.
BY_IMPORTANCE = [
    "design",
    "req/s",
    "p95",
    "failed",
    "median",
    "p95 of post",
    "runs",
    "requests",
    "best second",
    "avg",
]
# A design's name is folded to no less than this.
MIN_NAME_CHARS = 20


def fitting(rows: list[list[str]], width: int) -> list[int]:
    """Return the columns of a table of `HEAD` and `rows` that a terminal of `width` can show.

    No figure is ever broken; only the names in the first column are folded.
    """
    widths = [
        max(map(len, column)) + 3 for column in zip(HEAD, *rows, strict=True)
    ]  # a space on both sides, and a line
    left = width - 1 - MIN_NAME_CHARS - 3
    shown = [0]
    for name in BY_IMPORTANCE[1:]:
        column = HEAD.index(name)
        if widths[column] > left:
            break
        left -= widths[column]
        shown.append(column)
    return sorted(shown)


def compared(session: Session) -> list[list[str]]:
    """Return the table's rows, in the columns of `HEAD`.

    The published figures come first, then the medians of each design's valid runs.
    """
    rows = [
        [
            entry.title,
            NONE,
            f"{entry.requests:,}",
            f"{entry.requests_per_s:,.0f}",
            NONE,
            *(_duration(value) for value in (entry.avg_ms, entry.med_ms, entry.p95_ms)),
            NONE,
            NONE if entry.failed is None else f"{entry.failed:,}",
        ]
        for entry in PUBLISHED[session.conditions.profile]
    ]
    return rows + [_row(session, design) for design in session.conditions.designs]


def _row(session: Session, design: str) -> list[str]:
    runs = session.valid_runs(design)
    durations = [session.median_of(design, figure) for figure in ("avg_ms", "med_ms", "p95_ms")]
    return [
        session.titles[design],
        str(len(runs)),
        _number(session.median_of(design, "requests"), 0),
        _number(session.median_of(design, "requests_per_s"), 1),
        _number(session.median_of(design, "peak_requests_per_s"), 0),
        *map(_duration, [*durations, session.median_p95_of(design, "post")]),
        _failed(session, design),
    ]


def _failed(session: Session, design: str) -> str:
    """Sum the failures. Every row has them, because a design that refuses requests is fast."""
    runs = session.valid_runs(design)
    return f"{sum(run.failed for run in runs):,}" if runs else NONE


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:,.{digits}f}"


def _duration(value: float | None) -> str:
    return NONE if value is None else milliseconds(value)


def ratios(session: Session) -> list[str]:
    """Return lines that compare "after" with "before" and with Node, if both were measured."""
    lines = []
    for other in (BEFORE, REFERENCE):
        rates = [session.median_of(design, "requests_per_s") for design in (AFTER, other)]
        slowest = [session.median_of(design, "p95_ms") for design in (AFTER, other)]
        if rates[0] and rates[1] and slowest[0] and slowest[1]:
            lines.append(
                f"{session.titles[AFTER]}, compared with {session.titles[other]}: "
                f"{rates[0] / rates[1]:.2f} times the requests per second and "
                f"{slowest[0] / slowest[1]:.2f} times the p95 of all requests; "
                f"{_failed(session, AFTER)} and {_failed(session, other)} requests failed."
            )
    return lines


def busy_starts(session: Session) -> list[str]:
    """Return a warning if other programs were busy before some of the runs, or nothing."""
    shares = [
        run.busy_before
        for run in session.runs
        if run.busy_before is not None and run.busy_before > MAX_BUSY_SHARE
    ]
    if not shares:
        return []
    return [
        f"Before {len(shares)} of {len(session.runs)} runs, other programs used more than "
        f"{MAX_BUSY_SHARE:.0%} of the cores (up to {max(shares):.0%}). The figures of these runs "
        "may be too low."
    ]


def remarks(session: Session) -> list[str]:
    """Return warnings: about a load of other stages, void runs, and busy neighbours."""
    other = session.conditions.stages or session.conditions.quick
    short = ["The load is not the published one: compare these figures only with each other."]
    return [
        *(short if other and not session.conditions.demo else []),
        *void_runs(session),
        *busy_starts(session),
    ]


def void_runs(session: Session) -> list[str]:
    """Return a line for each void run, with the reason."""
    return [
        f"{session.titles[run.design]}, run {run.round}, is void: the generator used "
        f"{run.generator_cpu_peak:.0%} of a core in its busiest ten seconds."
        for run in session.runs
        if run.void
    ]
