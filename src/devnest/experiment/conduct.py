"""Does the pending runs of a session: start a design, warm it up, load it, stop it."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol

import msgspec
import uvloop

from devnest.experiment.busy import busy
from devnest.experiment.designs import Design
from devnest.experiment.messages import Failed, Job, Ready, Skipped, decode_reply
from devnest.experiment.session import Conditions, Kind, Run, Session, Trouble
from devnest.load import LoadError, Plan, Result, Stage, constant, run
from devnest.load.run import OnPrepared, OnSecond

__all__ = ["DesignFailed", "Observer", "Stopped", "conduct", "stages_of", "started"]

WARM_VUS, WARM_S = 10, 3.0
QUICK_WARM_S = 0.3
# How long to measure, before each start, how busy other programs keep the machine.
SAMPLE_S, QUICK_SAMPLE_S = 1.0, 0.1
QUICK_STAGES = (Stage(0.5, 10), Stage(1.5, 10), Stage(0.2, 0))
# Longer than a guard needs to stop a design and a database that do not react to SIGTERM.
MAX_GUARD_STOP_S = 120.0


class Stopped(Exception):
    """The user pressed Ctrl-C. The runs that had finished are in the session's file."""


class Observer(Protocol):
    """Is told about the progress of a session."""

    def run_begins(self, design: Design, round_number: int, left: int) -> None:
        """A design is about to start.

        Args:
            design: The design.
            round_number: Which of the design's runs this is, from 1.
            left: The number of runs still to do, this one included.
        """

    def load_begins(
        self, conditions: Conditions
    ) -> AbstractContextManager[tuple[OnPrepared, OnSecond]]:
        """The design is ready and warm, and its load is about to start.

        Args:
            conditions: What the session measures.

        Returns:
            A context that is held during the load, with the callbacks for its progress.
        """

    def run_ended(self, run: Run) -> None:
        """A run is finished and added to the session."""

    def design_failed(self, trouble: Trouble) -> None:
        """A design could not be measured."""


class DesignFailed(Exception):
    """A design is not installed, did not start, or exited during a run.

    Args:
        kind: `skipped` if something is not installed, otherwise `failed`.
        reason: Why, in words for the user.
        log: The last lines of the design's output.
    """

    def __init__(self, kind: Kind, reason: str, log: list[str]) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.log = log


def stages_of(conditions: Conditions) -> tuple[Stage, ...] | None:
    """Return the stages of `--quick`, or None for those of the profile."""
    return QUICK_STAGES if conditions.quick else None


def conduct(
    session: Session,
    designs: dict[str, Design],
    path: Path,
    observer: Observer,
    port: int,
    postgres_bin: Path | None,
) -> None:
    """Do the pending runs of a session and save the session after each.

    The designs take turns. A design that fails is left out from then on; the others continue.

    Args:
        session: The session; runs and failures are added to it.
        designs: All known designs, by name.
        path: The session's file.
        observer: Is told about the progress.
        port: The port that the designs listen on; 0 takes a free one.
        postgres_bin: The directory of PostgreSQL's programs, or None to look for them.

    Raises:
        Stopped: The user pressed Ctrl-C. All processes have ended by then.
        OSError: The session's file cannot be written.
    """
    _end_on_signals()
    session.troubles = []
    try:
        for left, (round_number, name) in _countdown(session.pending):
            if all(trouble.design != name for trouble in session.troubles):
                observer.run_begins(designs[name], round_number, left)
                _add_run(session, designs[name], round_number, observer, port, postgres_bin)
                session.save(path)
    except KeyboardInterrupt:
        raise Stopped from None


def _countdown(pending: list[tuple[int, str]]) -> Iterator[tuple[int, tuple[int, str]]]:
    return zip(range(len(pending), 0, -1), pending, strict=True)


def _add_run(
    session: Session,
    design: Design,
    round_number: int,
    observer: Observer,
    port: int,
    postgres_bin: Path | None,
) -> None:
    try:
        busy_before = busy(QUICK_SAMPLE_S if session.conditions.quick else SAMPLE_S)
        result = _measure(session.conditions, design, observer, port, postgres_bin)
    except DesignFailed as error:
        session.troubles.append(Trouble(design.name, error.kind, error.reason, error.log))
        observer.design_failed(session.troubles[-1])
    else:
        session.add(Run.of(design.name, round_number, result, busy_before))
        observer.run_ended(session.runs[-1])


def _measure(
    conditions: Conditions, design: Design, observer: Observer, port: int, postgres_bin: Path | None
) -> Result:
    warming = constant(WARM_VUS, QUICK_WARM_S if conditions.quick else WARM_S)
    with started(design, conditions.hash_cost, port, postgres_bin) as url:
        _run_load(Plan(url, stages=warming), None, None)
        with observer.load_begins(conditions) as (on_prepared, on_second):
            plan = Plan(url, conditions.profile, stages=stages_of(conditions))
            result = _run_load(plan, on_prepared, on_second)
    return result


def _run_load(plan: Plan, on_prepared: OnPrepared | None, on_second: OnSecond | None) -> Result:
    """Run the load. After Ctrl-C the result is dropped and `KeyboardInterrupt` raised."""
    stop = asyncio.Event()

    async def load() -> Result:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        return await run(plan, on_prepared=on_prepared, on_second=on_second, stop=stop)

    try:
        result = uvloop.run(load())
    finally:
        # The event loop has removed its own handlers.
        _end_on_signals()
    if stop.is_set():
        raise KeyboardInterrupt
    return result


def _end_on_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


@contextmanager
def started(design: Design, hash_cost: int, port: int, postgres_bin: Path | None) -> Iterator[str]:
    """Run a design for the time of a `with` block, then stop it and remove its files.

    Args:
        design: The design.
        hash_cost: The bcrypt cost.
        port: The port that it listens on; 0 takes a free one.
        postgres_bin: The directory of PostgreSQL's programs, or None to look for them.

    Yields:
        The design's URL.

    Raises:
        DesignFailed: The design is not installed, did not start, exited in the block, or could not
            be loaded.
    """
    guard = subprocess.Popen(
        [sys.executable, "-P", "-m", "devnest.experiment.guard"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        # Ctrl-C must reach this process only.
        start_new_session=True,
    )
    assert guard.stdin is not None
    assert guard.stdout is not None
    programs = None if postgres_bin is None else str(postgres_bin.absolute())
    job = Job(
        command=[
            *design.command,
            *(["--postgres-bin", programs] if programs and not design.needs_database else []),
        ],
        environment=dict(design.environment),
        ready=design.ready,
        needs_database=design.needs_database,
        max_start_s=design.max_start_s,
        hash_cost=hash_cost,
        port=port,
        postgres_bin=programs,
    )
    unloaded: LoadError | None = None
    with guard.stdin, guard.stdout:
        try:
            # If the guard has ended, reading its reply below reports that.
            with suppress(BrokenPipeError):
                guard.stdin.write(msgspec.json.encode(job) + b"\n")
            yield _read_reply(guard.stdout).url
        except LoadError as error:
            unloaded = error
        finally:
            guard.stdin.close()
            _wait_for(guard)
        # If the design exited, that explains more than the error of the load.
        _read_reply(guard.stdout, at_the_end=True)
    if unloaded is not None:
        raise DesignFailed("failed", str(unloaded), [])


def _wait_for(guard: subprocess.Popen[bytes]) -> None:
    try:
        guard.wait(MAX_GUARD_STOP_S)
    except subprocess.TimeoutExpired:
        raise DesignFailed(
            "failed", f"the guard (process {guard.pid}) could not stop the design", []
        ) from None


def _read_reply(stream: IO[bytes], *, at_the_end: bool = False) -> Ready:
    """Read the guard's reply. Only `at_the_end` may it be missing, which means success."""
    line = stream.readline()
    if not line:
        if at_the_end:
            return Ready("")
        raise DesignFailed("failed", "the guard process ended; its messages are above", [])
    match decode_reply(line):
        case Ready() as ready:
            return ready
        case Skipped(reason):
            raise DesignFailed("skipped", reason, [])
        case Failed(reason, log):
            raise DesignFailed("failed", reason, log)
