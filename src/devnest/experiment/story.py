"""The result of a session in words that need no glossary: "before", "after", and their ratio."""

from typing import Literal

from devnest.experiment.designs import AFTER, BEFORE, REFERENCE
from devnest.experiment.session import Session
from devnest.load.target_charts import why

__all__ = ["headline", "pair", "reason", "role_of", "seconds"]


def pair(session: Session) -> tuple[str, str] | None:
    """Return the designs that the headline compares, or None if one of them has no valid run.

    "After" is DevNest's pool with lanes. "Before" is hashing on the event loop, or Node's pool of
    threads in a session without that.
    """
    for before in (BEFORE, REFERENCE):
        if session.valid_runs(before) and session.valid_runs(AFTER):
            return before, AFTER
    return None


def role_of(session: Session, design: str) -> Literal["before", "after", "other"]:
    """Return `before`, `after` or `other`: a design's colour in charts."""
    before, after = pair(session) or (BEFORE, AFTER)
    return "before" if design == before else "after" if design == after else "other"


def headline(session: Session) -> list[str]:
    """Return the result as three phrases: requests, durations, failures; or nothing.

    They join with "; " to a sentence without its full stop.
    """
    designs = pair(session)
    if designs is None:
        return []
    rates, slowest = (
        [session.median_of(design, figure) or 0.0 for design in designs]
        for figure in ("requests_per_s", "p95_ms")
    )
    ratio = f"{rates[1] / rates[0]:.1f}" if rates[0] else "infinitely many"
    return [
        f"{ratio} times as many requests",
        f"95 of 100 answers within {seconds(slowest[1])} instead of {seconds(slowest[0])}",
        _failures(session, designs),
    ]


def reason(session: Session) -> str:
    """Return why "after" is faster, as a sentence, or nothing if no metrics were taken."""
    runs = [session.median_run(design) for design in pair(session) or ()]
    return why(*(run.samples for run in runs if run is not None)) if runs else ""


def _failures(session: Session, designs: tuple[str, str]) -> str:
    failed = [sum(run.failed for run in session.valid_runs(design)) for design in designs]
    requests = [sum(run.requests for run in session.valid_runs(design)) for design in designs]
    if not any(failed):
        return "none failed"
    before, after = (f"{part:,} of {whole:,}" for part, whole in zip(failed, requests, strict=True))
    return f"failed before: {before}, after: {after}"


def seconds(milliseconds: float) -> str:
    """Return a duration in seconds, with two significant digits or more."""
    value = milliseconds / 1000
    digits = 1 if value >= 10 else 2 if value >= 0.1 else 3
    return f"{value:.{digits}f} s"
