"""`devnest bench`: repeats the published experiment on this machine."""

import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from devnest.cli.files import refuse_unwritable
from devnest.cli.options import PostgresBin
from devnest.experiment import (
    DEFAULT_DESIGNS,
    HEAD,
    Conditions,
    Design,
    Run,
    Session,
    Stopped,
    Trouble,
    check_section,
    choose,
    compared,
    conduct,
    every_design,
    ratios,
    remarks,
    stages_of,
    void_runs,
    write_section,
)
from devnest.experiment import report as html_report
from devnest.load import BadPlan, Plan
from devnest.load.limits import need_descriptors
from devnest.load.progress import Progress
from devnest.load.result import Machine
from devnest.load.run import OnPrepared, OnSecond
from devnest.load.summary import milliseconds
from devnest.passwords import MAX_COST, MIN_COST

__all__ = ["bench"]

_FAILED, _BAD_OPTION, _STOPPED = 1, 2, 130
_COST, _QUICK_COST = 10, 4
_RUNS, _QUICK_RUNS = 3, 1
# Columns of the table if standard output is not a terminal.
_PIPE_WIDTH = 160


class Profile(StrEnum):
    """The load of the published experiment, or of its stress test."""

    EXPERIMENT = "experiment"
    STRESS = "stress"


def bench(
    profile: Annotated[
        Profile | None,
        typer.Option(
            help="The load. experiment: 100 virtual users register, sign in and post. stress: "
            "5,000 read and post.",
            show_default="experiment",
        ),
    ] = None,
    designs: Annotated[
        str | None,
        typer.Option(
            help=f"The designs to measure, separated by commas: {', '.join(DEFAULT_DESIGNS)}, or "
            "the name of a peer.",
            show_default="the designs of DevNest",
        ),
    ] = None,
    peers: Annotated[
        bool,
        typer.Option(
            "--peers",
            help="Also measure the designs in benchmarks/peers: Node in three variants, and "
            "FastAPI.",
        ),
    ] = False,
    runs: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="Number of runs of each design.", show_default="3"),
    ] = None,
    hash_cost: Annotated[
        int | None,
        typer.Option(
            min=MIN_COST, max=MAX_COST, help="The bcrypt cost in all designs.", show_default="10"
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Run each design once, for a few seconds, with cost 4. Shows that it works, not "
            "how fast.",
        ),
    ] = False,
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, help="The port that the designs listen on; 0 takes a free one."
        ),
    ] = 0,
    json: Annotated[
        Path | None,
        typer.Option(
            help="Write the figures of every run to this JSON file.",
            show_default="devnest-bench.json",
        ),
    ] = None,
    report: Annotated[Path, typer.Option(help="Write the report to this HTML file.")] = Path(
        "devnest-bench.html"
    ),
    write_docs: Annotated[
        list[Path] | None,
        typer.Option(
            help="Replace the section between two comments in this Markdown page. May be repeated."
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Continue the unfinished session in this JSON file, or show a finished one again.",
        ),
    ] = None,
    postgres_bin: PostgresBin = None,
) -> None:
    """Repeat the published experiment on this machine: start and load each design, and compare.

    Exit status: 0 success, 1 a design did not start or a run does not count, 2 a wrong option,
    130 stopped by Ctrl-C.
    """
    options = _Options(profile, designs, peers, runs, hash_cost, quick)
    try:
        path = json or resume or Path("devnest-bench.json")
        session = _session(options, path) if resume is None else _resumed(options, resume)
        pages = write_docs or []
        _check_files(path, report, pages, session)
        known = every_design()
        if unknown := [
            name for name in session.conditions.designs if name not in known and session.pending
        ]:
            raise BadPlan(f"unknown design {unknown[0]!r}; the designs are {', '.join(known)}")
        _check_port(port)
        _check_load(session)
    except BadPlan as error:
        _print_error(str(error))
        raise typer.Exit(_BAD_OPTION) from None
    stopped = False
    console = Console(stderr=True)
    try:
        conduct(session, known, path, _ConsoleObserver(console), port, postgres_bin)
    except Stopped:
        stopped = True
        advice = f"continue with: devnest bench --resume {shlex.quote(str(path))}"
        _print_error(f"stopped; {advice if session.runs else 'nothing was measured'}")
    except OSError as error:
        _print_error(f"cannot write {path}: {error.strerror}")
        raise typer.Exit(_FAILED) from None
    _print_results(session)
    written = bool(session.runs) and _write(session, report, pages)
    if stopped:
        raise typer.Exit(_STOPPED)
    failed = any(trouble.kind == "failed" for trouble in session.troubles) or bool(
        void_runs(session)
    )
    raise typer.Exit(_FAILED if failed or not written else 0)


@dataclass(frozen=True)
class _Options:
    """The options that say what a session measures. Those not given are None or False."""

    profile: Profile | None
    designs: str | None
    peers: bool
    runs: int | None
    hash_cost: int | None
    quick: bool


def _session(options: _Options, path: Path) -> Session:
    """Make a new session.

    It may overwrite a file whose runs all count, but not one with runs still to do. Void, skipped
    and failed runs are still to do.
    """
    names = choose(options.designs, peers=options.peers)
    if path.exists() and path.stat().st_size and Session.load(path).pending:
        raise BadPlan(
            f"{path} holds an unfinished session: continue it with --resume {path}, remove it, or "
            "name another file with --json"
        )
    conditions = Conditions(
        profile=(options.profile or Profile.EXPERIMENT).value,
        hash_cost=options.hash_cost or (_QUICK_COST if options.quick else _COST),
        runs=options.runs or (_QUICK_RUNS if options.quick else _RUNS),
        designs=names,
        quick=options.quick,
    )
    known = every_design()
    return Session(
        conditions,
        {name: known[name].title for name in names},
        Machine.here(),
        node=_node_version(),
    )


def _resumed(options: _Options, path: Path) -> Session:
    if options != _Options(None, None, False, None, None, False):
        raise BadPlan(
            f"--resume repeats the options in {path}: leave out --profile, --designs, --peers, "
            "--runs, --hash-cost and --quick"
        )
    session = Session.load(path)
    if session.pending and session.machine != Machine.here():
        raise BadPlan(
            f"{path} was measured on another machine; its figures cannot be compared with new ones"
        )
    return session


def _node_version() -> str:
    """Return the version of Node for the record, or an empty string if there is none."""
    if shutil.which("node") is None:
        return ""
    command = ["node", "--version"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip().removeprefix("v")


def _check_files(path: Path, report: Path, pages: Sequence[Path], session: Session) -> None:
    if len({path, report, *pages}) < 2 + len(pages):
        raise BadPlan("--json, --report and --write-docs name the same file")
    for file in (path, report, *pages):
        refuse_unwritable(file)
    for page in pages:
        check_section(page, session.conditions.profile)


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise BadPlan(f"port {port} of 127.0.0.1: {error.strerror}") from None


def _check_load(session: Session) -> None:
    """Check, before the first design starts, that this machine has enough file descriptors."""
    conditions = session.conditions
    plan = Plan("http://127.0.0.1:1", conditions.profile, stages=stages_of(conditions))
    vus = sum(scenario.max_vus for scenario in plan.checked().scenarios("127.0.0.1"))
    need_descriptors(vus, plan.generators, may_spread=False)


class _ConsoleObserver:
    """Shows the progress on a console: a line for each run, and that of `devnest load`."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def run_begins(self, design: Design, round_number: int, left: int) -> None:
        self._say(f"{design.title}, run {round_number} ({left} left)")

    @contextmanager
    def load_begins(self, conditions: Conditions) -> Iterator[tuple[OnPrepared, OnSecond]]:
        plan = Plan("http://127.0.0.1:1", conditions.profile, stages=stages_of(conditions))
        duration_s = max(scenario.duration_s for scenario in plan.checked().scenarios("127.0.0.1"))
        with Progress(sys.stderr, duration_s) as progress:
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


def _print_results(session: Session) -> None:
    """Print the table."""
    table = Table(
        title=f"{session.conditions.profile}, bcrypt cost {session.conditions.hash_cost}: "
        "medians of the runs"
    )
    for column, heading in enumerate(HEAD):
        table.add_column(heading, justify="right" if column else "left", overflow="fold")
    for row in compared(session):
        table.add_row(*map(escape, row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, _PIPE_WIDTH)
    console.print(table)
    for line in (*ratios(session), *remarks(session)):
        console.print(line, markup=False, soft_wrap=True)


def _write(session: Session, report: Path, pages: Sequence[Path]) -> bool:
    """Write the report and the pages, and return whether all could be written."""
    try:
        report.write_text(
            html_report(session, shlex.join(["devnest", *sys.argv[1:]])), encoding="utf-8"
        )
        for page in pages:
            write_section(page, session)
    except (OSError, BadPlan) as error:
        _print_error(str(error))
        return False
    return True


def _print_error(words: str) -> None:
    sys.stderr.write(f"devnest: {words}\n")
