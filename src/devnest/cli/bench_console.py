"""What `devnest bench` shows: the progress of a session, then its results."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from devnest.experiment import (
    DEFAULT_DESIGNS,
    HEAD,
    Conditions,
    Design,
    Run,
    Session,
    Trouble,
    compared,
    fitting,
    picture,
    ratios,
    remarks,
    whole_s,
)
from devnest.load.progress import Progress, clock
from devnest.load.run import OnPrepared, OnSecond
from devnest.load.summary import milliseconds

__all__ = ["ConsoleObserver", "print_error", "print_results"]

# Columns if standard output is not a terminal.
_PIPE_WIDTH = 160


class ConsoleObserver:
    """Shows the progress on standard error: a line for each run, and that of `devnest load`."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def run_begins(self, design: Design, round_number: int, left: int, left_s: float) -> None:
        self._say(f"{design.title}, run {round_number} ({left} left, about {clock(left_s)})")
        if design.installs_first:
            self._say("  installs itself first, which takes some minutes")

    @contextmanager
    def load_begins(
        self, conditions: Conditions, left_s: float
    ) -> Iterator[tuple[OnPrepared, OnSecond]]:
        load_s = conditions.load_s
        with Progress(sys.stderr, load_s, max(0.0, left_s - load_s)) as progress:
            yield progress.prepared, progress.second

    def run_ended(self, run: Run) -> None:
        self._say(
            f"  {run.requests:,} requests, {run.requests_per_s:,.1f} req/s, "
            f"p95 {milliseconds(run.p95_ms)}, failed {run.failed:,}, "
            f"generator {run.generator_cpu_peak:.0%} of a core"
            f"{': void' if run.void else ''}"
        )

    def design_failed(self, trouble: Trouble) -> None:
        self._say(f"  {trouble.kind}: {trouble.reason}")
        for line in trouble.log:
            self._say(f"    {line}")


def print_results(session: Session, report: Path | None) -> None:
    """Print the table and the picture of a session; of a demonstration the picture alone.

    Args:
        session: The session.
        report: The file that holds its report, if it could be written.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, _PIPE_WIDTH)
    drawn = picture(session, console.width, bar="█" if _can_draw(console) else "#")
    if not (session.conditions.demo and drawn):
        console.print(_table(session, console.width))
    if drawn:
        console.print()
    for text in drawn:
        console.print(text, soft_wrap=True)
    if drawn:
        console.print()
    lines = remarks(session) if session.conditions.demo else [*ratios(session), *remarks(session)]
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
    if report is not None:
        console.print(f"report: {report}", markup=False, soft_wrap=True)
    if session.conditions.demo:
        console.print(f"the whole experiment: devnest bench (about {clock(_whole_s())})")


def _whole_s() -> float:
    return whole_s(Conditions("experiment", 10, 3, list(DEFAULT_DESIGNS)))


def _can_draw(console: Console) -> bool:
    return console.encoding.lower().startswith("utf")


def _table(session: Session, width: int) -> Table:
    table = Table(
        title=f"{session.conditions.profile}, bcrypt cost {session.conditions.hash_cost}: "
        "medians of the runs"
    )
    rows = compared(session)
    columns = fitting(rows, width)
    for column in columns:
        table.add_column(
            HEAD[column],
            justify="right" if column else "left",
            overflow="fold",
            no_wrap=bool(column),
        )
    for row in rows:
        table.add_row(*(escape(row[column]) for column in columns))
    return table


def print_error(words: str) -> None:
    """Print one line to standard error."""
    sys.stderr.write(f"devnest: {words}\n")
