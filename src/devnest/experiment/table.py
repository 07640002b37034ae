"""The comparison in words: one table beside the published figures, and how many times better."""

from dataclasses import dataclass

from devnest.experiment.busy import BUSY
from devnest.experiment.designs import AFTER, BEFORE, REFERENCE
from devnest.experiment.session import Session
from devnest.load.summary import milliseconds

__all__ = ["HEAD", "PUBLISHED", "Published", "compared", "ratios", "remarks", "void_runs"]

NONE = "-"


@dataclass(frozen=True)
class Published:
    """What the post says of its own machine; None where it says nothing."""

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


def compared(session: Session) -> list[list[str]]:
    """The rows under `HEAD`: the published figures, then the median of each design's runs."""
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
    runs = session.sound(design)
    durations = [session.typical(design, figure) for figure in ("avg_ms", "med_ms", "p95_ms")]
    return [
        session.titles[design],
        str(len(runs)),
        _number(session.typical(design, "requests"), 0),
        _number(session.typical(design, "requests_per_s"), 1),
        _number(session.typical(design, "peak_requests_per_s"), 0),
        *map(_duration, [*durations, session.typical_p95(design, "post")]),
        _failed(session, design),
    ]


def _failed(session: Session, design: str) -> str:
    """Said beside every rate: who refuses much answers fast."""
    runs = session.sound(design)
    return f"{sum(run.failed for run in runs):,}" if runs else NONE


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:,.{digits}f}"


def _duration(value: float | None) -> str:
    return NONE if value is None else milliseconds(value)


def ratios(session: Session) -> list[str]:
    """ "After" beside "before", and beside the published design in Node, where both were measured."""
    lines = []
    for other in (BEFORE, REFERENCE):
        rates = [session.typical(design, "requests_per_s") for design in (AFTER, other)]
        slowest = [session.typical(design, "p95_ms") for design in (AFTER, other)]
        if rates[0] and rates[1] and slowest[0] and slowest[1]:
            lines.append(
                f"{session.titles[AFTER]}, beside {session.titles[other]}: {rates[0] / rates[1]:.2f} times the "
                f"requests per second, {slowest[0] / slowest[1]:.2f} times the p95 of all requests; "
                f"failed {_failed(session, AFTER)}, and {_failed(session, other)}."
            )
    return lines


def neighbours(session: Session) -> list[str]:
    """What to say where something else used the machine before runs."""
    shares = [
        run.busy_before
        for run in session.runs
        if run.busy_before is not None and run.busy_before > BUSY
    ]
    if not shares:
        return []
    return [
        f"Before {len(shares)} of {len(session.runs)} runs something else used more than {BUSY:.0%} of the cores (up "
        f"to {max(shares):.0%}): such figures are lower than the machine's own."
    ]


def remarks(session: Session) -> list[str]:
    """What to say beside the figures: of a quick session, of runs that do not count, of neighbours."""
    quick = (
        ["A quick session: it shows that everything works, not how fast."]
        if session.conditions.quick
        else []
    )
    return [*quick, *void_runs(session), *neighbours(session)]


def void_runs(session: Session) -> list[str]:
    """What to say of each run that does not count."""
    return [
        f"{session.titles[run.design]}, run {run.round}, is void: the generator used {run.generator_cpu_peak:.0%} of a "
        "core in its busiest ten seconds."
        for run in session.runs
        if run.void
    ]
