"""`devnest bench`: repeats the published experiment on this machine."""

import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from devnest.cli.bench_console import ConsoleObserver, print_error, print_results
from devnest.cli.bench_dashboard import LiveObserver
from devnest.cli.dashboard import DashboardAddress, DashboardOption, finish, opened
from devnest.cli.files import refuse_unwritable
from devnest.cli.options import PostgresBin
from devnest.experiment import (
    DEFAULT_DESIGNS,
    DEMO,
    Conditions,
    Design,
    Session,
    Stopped,
    check_section,
    choose,
    conduct,
    every_design,
    void_runs,
    write_junit,
    write_section,
    write_summary,
)
from devnest.experiment import report as html_report
from devnest.load import BadPlan
from devnest.load.dashboard import Dashboard
from devnest.load.limits import need_descriptors
from devnest.load.result import Machine
from devnest.passwords import MAX_COST, MIN_COST

__all__ = ["bench"]

_FAILED, _BAD_OPTION, _STOPPED = 1, 2, 130
_COST, _RUNS = 10, 3


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
    stages: Annotated[
        str | None,
        typer.Option(
            help="Ramps of virtual users instead of the profile's, as DURATION:VUS,…. The figures "
            "then compare only with each other.",
        ),
    ] = None,
    demo: Annotated[
        bool,
        typer.Option(
            "--demo",
            help="Before and after in at most two minutes: hashing on the event loop, then "
            "DevNest's pool, each once under a shorter load.",
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
            show_default="devnest-bench.json, with --demo devnest-demo.json",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Write the report to this HTML file.",
            show_default="devnest-bench.html, with --demo devnest-demo.html",
        ),
    ] = None,
    summary: Annotated[
        Path | None,
        typer.Option(help="Write the result to this Markdown file, such as for a pull request."),
    ] = None,
    junit: Annotated[
        Path | None,
        typer.Option(help="Write a test case for each run to this JUnit XML file, for CI."),
    ] = None,
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
    dashboard: DashboardOption = False,
    dashboard_address: DashboardAddress = None,
) -> None:
    """Repeat the published experiment on this machine: start and load each design, and compare.

    Exit status: 0 success, 1 a design did not start or a run does not count, 2 a wrong option,
    130 stopped by Ctrl-C or on the dashboard.
    """
    options = _Options(profile, designs, peers, runs, hash_cost, stages, demo)
    name = "devnest-demo" if demo else "devnest-bench"
    path = json or resume or Path(f"{name}.json")
    files = _Files(path, report or Path(f"{name}.html"), write_docs or [], summary, junit)
    try:
        session = _session(options, path) if resume is None else _resumed(options, resume)
        files.check(session)
        known = every_design()
        if unknown := [
            name for name in session.conditions.designs if name not in known and session.pending
        ]:
            raise BadPlan(f"unknown design {unknown[0]!r}; the designs are {', '.join(known)}")
        _check_port(port)
        _check_load(session)
        with opened(dashboard, dashboard_address) as live:
            status = _conducted(session, known, path, files, live, port, postgres_bin, demo=demo)
    except BadPlan as error:
        print_error(str(error))
        raise typer.Exit(_BAD_OPTION) from None
    raise typer.Exit(status)


def _conducted(
    session: Session,
    known: dict[str, Design],
    path: Path,
    files: "_Files",
    live: Dashboard | None,
    port: int,
    postgres_bin: Path | None,
    *,
    demo: bool,
) -> int:
    """Do the session and show its results. Returns the exit status."""
    observer = ConsoleObserver() if live is None else LiveObserver(live, session)
    stopped = False
    try:
        conduct(session, known, path, observer, port, postgres_bin)
    except Stopped:
        stopped = True
        advice = (
            "start it again"
            if demo
            else f"continue with: devnest bench --resume {shlex.quote(str(path))}"
        )
        print_error(f"stopped; {advice if session.runs else 'nothing was measured'}")
    except OSError as error:
        print_error(f"cannot write {path}: {error.strerror}")
        return _FAILED
    finally:
        if live is not None:
            live.control(None)
    written = bool(session.runs) and files.write(session)
    print_results(session, files.report if written else None)
    if live is not None:
        finish(live, html_report(session, _command()))
    if stopped:
        return _STOPPED
    failed = any(trouble.kind == "failed" for trouble in session.troubles) or bool(
        void_runs(session)
    )
    return _FAILED if failed or not written else 0


def _command() -> str:
    return shlex.join(["devnest", *sys.argv[1:]])


@dataclass(frozen=True)
class _Options:
    """The options that say what a session measures. Those not given are None or False."""

    profile: Profile | None
    designs: str | None
    peers: bool
    runs: int | None
    hash_cost: int | None
    stages: str | None
    demo: bool

    @property
    def conditions(self) -> Conditions:
        """What a new session measures.

        Raises:
            BadPlan: An option cannot be used.
        """
        if self.demo:
            if self != replace(_NO_OPTIONS, demo=True):
                raise BadPlan(f"--demo has its own load and designs: leave out {_THE_OPTIONS}")
            return DEMO
        conditions = Conditions(
            profile=(self.profile or Profile.EXPERIMENT).value,
            hash_cost=self.hash_cost or _COST,
            runs=self.runs or _RUNS,
            designs=choose(self.designs, peers=self.peers),
            stages=self.stages,
        )
        conditions.plan.checked()
        return conditions


_NO_OPTIONS = _Options(None, None, False, None, None, None, False)
_THE_OPTIONS = "--profile, --designs, --peers, --runs, --hash-cost and --stages"


@dataclass(frozen=True)
class _Files:
    """What a session is written to, beside its own JSON file."""

    json: Path
    report: Path
    pages: Sequence[Path]
    summary: Path | None
    junit: Path | None

    def check(self, session: Session) -> None:
        """Check that all files can be written.

        Raises:
            BadPlan: One cannot be written, or is named twice.
        """
        others = [path for path in (self.summary, self.junit) if path is not None]
        every = [self.json, self.report, *self.pages, *others]
        if len({path.absolute() for path in every}) < len(every):
            raise BadPlan(
                "--json, --report, --summary, --junit and --write-docs name the same file"
            )
        for path in every:
            refuse_unwritable(path)
        for page in self.pages:
            check_section(page, session.conditions.profile)

    def write(self, session: Session) -> bool:
        """Write all but the session itself, and return whether all could be written."""
        try:
            self.report.write_text(html_report(session, _command()), encoding="utf-8")
            for page in self.pages:
                write_section(page, session)
            if self.summary is not None:
                write_summary(self.summary, session)
            if self.junit is not None:
                write_junit(self.junit, session)
        except (OSError, BadPlan) as error:
            print_error(str(error))
            return False
        return True


def _session(options: _Options, path: Path) -> Session:
    """Make a new session.

    It may overwrite a file whose runs all count, but not one with runs still to do. Void, skipped
    and failed runs are still to do. A demonstration is short, so its file may be overwritten.
    """
    conditions = options.conditions
    if path.exists() and path.stat().st_size:
        there = Session.load(path)
        if there.pending and not (there.conditions.demo and options.demo):
            raise BadPlan(
                f"{path} holds an unfinished session: continue it with --resume {path}, remove it, "
                "or name another file with --json"
            )
    known = every_design()
    titles = {name: known[name].title for name in conditions.designs}
    return Session(conditions, titles, Machine.here(), node=_node_version())


def _resumed(options: _Options, path: Path) -> Session:
    if options != _NO_OPTIONS:
        raise BadPlan(
            f"--resume repeats the options in {path}: leave out {_THE_OPTIONS}, and --demo"
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


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise BadPlan(f"port {port} of 127.0.0.1: {error.strerror}") from None


def _check_load(session: Session) -> None:
    """Check, before the first design starts, that this machine has enough file descriptors."""
    plan = session.conditions.plan
    vus = sum(scenario.max_vus for scenario in plan.checked().scenarios("127.0.0.1"))
    need_descriptors(vus, plan.generators, may_spread=False)
