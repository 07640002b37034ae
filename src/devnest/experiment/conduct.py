"""Does the pending runs of a session: start a design, warm it up, load it, stop it."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Protocol

import msgspec
import uvloop

from devnest.busy import busy
from devnest.experiment.designs import Design
from devnest.experiment.messages import Failed, Job, Ready, Skipped, decode_reply
from devnest.experiment.remaining import RemainingTime
from devnest.experiment.session import Conditions, Kind, Run, Session, Trouble
from devnest.load import LoadError, Plan, Result, constant, run
from devnest.load.run import OnPrepared, OnSecond

__all__ = ["DesignFailed", "Observer", "Stopped", "conduct", "started"]

WARM_VUS, WARM_S = 10, 3.0
# How long to measure, before each start, how busy other programs keep the machine.
SAMPLE_S = 1.0
# A shorter load has a shorter warm-up and sample.
MIN_WHOLE_LOAD_S = 20.0
# Of a demonstration: the time after the last stage in which responses still count.
MAX_DEMO_DRAIN_S = 8.0
# Longer than a guard needs to stop a design and a database that do not react to SIGTERM.
MAX_GUARD_STOP_S = 120.0


class Stopped(Exception):
    """The user pressed Ctrl-C. The runs that had finished are in the session's file."""


class Observer(Protocol):
    """Is told about the progress of a session."""

    def run_begins(self, design: Design, round_number: int, left: int, left_s: float) -> None:
        """A design is about to start.

        Args:
            design: The design.
            round_number: Which of the design's runs this is, from 1.
            left: The number of runs still to do, this one included.
            left_s: An estimate of the seconds that they take together.
        """

    def load_begins(
        self, conditions: Conditions, left_s: float
    ) -> AbstractContextManager[tuple[OnPrepared, OnSecond]]:
        """The design is ready and warm, and its load is about to start.

        Args:
            conditions: What the session measures.
            left_s: An estimate of the seconds that this run and those after it still take.

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
    pending = session.pending
    clock = RemainingTime(session.conditions, len(pending))
    try:
        for round_number, name in pending:
            if all(trouble.design != name for trouble in session.troubles):
                observer.run_begins(designs[name], round_number, clock.runs, clock.left_s)
                _add_run(session, designs[name], round_number, observer, port, postgres_bin, clock)
                session.save(path)
            clock.run_ended()
    except KeyboardInterrupt:
        raise Stopped from None


def _add_run(
    session: Session,
    design: Design,
    round_number: int,
    observer: Observer,
    port: int,
    postgres_bin: Path | None,
    clock: RemainingTime,
) -> None:
    try:
        busy_before = busy(SAMPLE_S * _share(session.conditions))
        result = _measure(session.conditions, design, observer, port, postgres_bin, clock)
    except DesignFailed as error:
        session.troubles.append(Trouble(design.name, error.kind, error.reason, error.log))
        observer.design_failed(session.troubles[-1])
    else:
        session.add(Run.of(design.name, round_number, result, busy_before))
        observer.run_ended(session.runs[-1])


def _share(conditions: Conditions) -> float:
    """Return how much of the usual warm-up a load gets."""
    return min(1.0, conditions.load_s / MIN_WHOLE_LOAD_S)


def _measure(
    conditions: Conditions,
    design: Design,
    observer: Observer,
    port: int,
    postgres_bin: Path | None,
    clock: RemainingTime,
) -> Result:
    warming = constant(WARM_VUS, WARM_S * _share(conditions))
    max_s = conditions.load_s + MAX_DEMO_DRAIN_S if conditions.demo else None
    with started(design, conditions.hash_cost, port, postgres_bin) as url:
        _run_load(Plan(url, stages=warming), None, None)
        with observer.load_begins(conditions, clock.left_s) as (on_prepared, on_second):
            plan = replace(conditions.plan, url=url)
            result = _run_load(plan, on_prepared, on_second, max_s)
    return result


def _run_load(
    plan: Plan,
    on_prepared: OnPrepared | None,
    on_second: OnSecond | None,
    max_s: float | None = None,
) -> Result:
    """Run the load, for at most `max_s` seconds.

    After Ctrl-C the result is dropped and `KeyboardInterrupt` raised.
    """
    end, ctrl_c = asyncio.Event(), asyncio.Event()

    def interrupt() -> None:
        ctrl_c.set()
        end.set()

    async def load() -> Result:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, interrupt)
        if max_s is not None:
            loop.call_later(max_s, end.set)
        return await run(plan, on_prepared=on_prepared, on_second=on_second, stop=end)

    try:
        result = uvloop.run(load())
    finally:
        # The event loop has removed its own handlers.
        _end_on_signals()
    if ctrl_c.is_set():
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
