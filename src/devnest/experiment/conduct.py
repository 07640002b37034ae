"""Carries out what is left of a session: start a design, warm it, load it, stop it, keep the figures."""

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
from devnest.experiment.messages import Dead, Job, Ready, Skipped, decode_word
from devnest.experiment.session import Conditions, Kind, Run, Session, Trouble
from devnest.load import LoadError, Plan, Result, Stage, constant, run
from devnest.load.run import OnPrepared, OnSecond

__all__ = ["NoDesign", "Stopped", "Teller", "conduct", "stages_of", "started"]

WARM_VUS, WARM_S = 10, 3.0
QUICK_WARM_S = 0.3
LOOK_S, QUICK_LOOK_S = 1.0, 0.1  # for neighbours, before each start
QUICK_STAGES = (Stage(0.5, 10), Stage(1.5, 10), Stage(0.2, 0))
SETTLE_S = 120.0  # more than a guard takes to stop a design and a database that do not want to


class Stopped(Exception):
    """The person pressed Ctrl-C; what was measured before is kept."""


class Teller(Protocol):
    """Whoever shows how it goes."""

    def begins(self, design: Design, round_number: int, left: int) -> None:
        """A design is about to be started; `left` runs are to be done, this one included."""

    def loads(self, conditions: Conditions) -> AbstractContextManager[tuple[OnPrepared, OnSecond]]:
        """It runs and is warm; gives what to call while it is loaded."""

    def ended(self, run: Run) -> None:
        """The run is kept."""

    def troubled(self, trouble: Trouble) -> None:
        """The design has no figures."""


class NoDesign(Exception):
    """A design is not here, did not start, or did not last."""

    def __init__(self, kind: Kind, reason: str, log: list[str]) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason
        self.log = log


def stages_of(conditions: Conditions) -> tuple[Stage, ...] | None:
    """The profile's own stages, as None, or those of `--quick`."""
    return QUICK_STAGES if conditions.quick else None


def conduct(
    session: Session,
    designs: dict[str, Design],
    path: Path,
    teller: Teller,
    port: int,
    postgres_bin: Path | None,
) -> None:
    """Do the runs that are pending, in turns; the session's file is written after each.

    A design in trouble is left out from then on and the others go on. Raises `Stopped` after Ctrl-C, once nothing
    runs any more, and `OSError` where the file cannot be written.
    """
    _end_on_signals()
    session.troubles = []
    try:
        for left, (round_number, name) in _countdown(session.pending):
            if all(trouble.design != name for trouble in session.troubles):
                teller.begins(designs[name], round_number, left)
                _add_run(session, designs[name], round_number, teller, port, postgres_bin)
                session.save(path)
    except KeyboardInterrupt:
        raise Stopped from None


def _countdown(pending: list[tuple[int, str]]) -> Iterator[tuple[int, tuple[int, str]]]:
    return zip(range(len(pending), 0, -1), pending, strict=True)


def _add_run(
    session: Session,
    design: Design,
    round_number: int,
    teller: Teller,
    port: int,
    postgres_bin: Path | None,
) -> None:
    try:
        busy_before = busy(QUICK_LOOK_S if session.conditions.quick else LOOK_S)
        result = _measured(session.conditions, design, teller, port, postgres_bin)
    except NoDesign as error:
        session.troubles.append(Trouble(design.name, error.kind, error.reason, error.log))
        teller.troubled(session.troubles[-1])
    else:
        session.add(Run.of(design.name, round_number, result, busy_before))
        teller.ended(session.runs[-1])


def _measured(
    conditions: Conditions, design: Design, teller: Teller, port: int, postgres_bin: Path | None
) -> Result:
    warming = constant(WARM_VUS, QUICK_WARM_S if conditions.quick else WARM_S)
    with started(design, conditions.hash_cost, port, postgres_bin) as url:
        _loaded(Plan(url, stages=warming), None, None)
        with teller.loads(conditions) as (on_prepared, on_second):
            plan = Plan(url, conditions.profile, stages=stages_of(conditions))
            result = _loaded(plan, on_prepared, on_second)
    return result


def _loaded(plan: Plan, on_prepared: OnPrepared | None, on_second: OnSecond | None) -> Result:
    """One load run; raises `KeyboardInterrupt` after Ctrl-C, and what it measured is dropped."""
    stop = asyncio.Event()

    async def load() -> Result:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        return await run(plan, on_prepared=on_prepared, on_second=on_second, stop=stop)

    try:
        result = uvloop.run(load())
    finally:
        _end_on_signals()  # the loop took its handlers with it
    if stop.is_set():
        raise KeyboardInterrupt
    return result


def _end_on_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


@contextmanager
def started(design: Design, hash_cost: int, port: int, postgres_bin: Path | None) -> Iterator[str]:
    """The design, running; its URL. Afterwards nothing of it is left. Raises `NoDesign`."""
    guard = subprocess.Popen(
        [sys.executable, "-P", "-m", "devnest.experiment.guard"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,  # Ctrl-C is ours to handle
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
        start_limit_s=design.start_limit_s,
        hash_cost=hash_cost,
        port=port,
        postgres_bin=programs,
    )
    unloaded: LoadError | None = None
    with guard.stdin, guard.stdout:
        try:
            with suppress(
                BrokenPipeError
            ):  # it has ended: so it says nothing either, and that is told
                guard.stdin.write(msgspec.json.encode(job) + b"\n")
            yield _heard(guard.stdout).url
        except LoadError as error:
            unloaded = error
        finally:
            guard.stdin.close()
            _wait_for(guard)
        _heard(
            guard.stdout, at_the_end=True
        )  # that it died explains more than what the load saw of it
    if unloaded is not None:
        raise NoDesign("failed", str(unloaded), [])


def _wait_for(guard: subprocess.Popen[bytes]) -> None:
    try:
        guard.wait(SETTLE_S)
    except subprocess.TimeoutExpired:
        raise NoDesign("failed", f"its guard (process {guard.pid}) cannot stop it", []) from None


def _heard(stream: IO[bytes], *, at_the_end: bool = False) -> Ready:
    """The guard's word; raises `NoDesign` for a bad one. Saying nothing is good at the end only."""
    line = stream.readline()
    if not line:
        if at_the_end:
            return Ready("")
        raise NoDesign("failed", "its guard process ended; its messages are above", [])
    match decode_word(line):
        case Ready() as ready:
            return ready
        case Skipped(reason):
            raise NoDesign("skipped", reason, [])
        case Dead(reason, log):
            raise NoDesign("failed", reason, log)
