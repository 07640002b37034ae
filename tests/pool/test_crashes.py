"""The crash table: what tasks do to their workers, what the caller gets, and that the pool
computes afterwards.
"""

import asyncio
import dataclasses
import importlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from devnest.pool import NotPicklable, Pool, WorkerCrashed, WorkerTraceback
from tests.pool import broken_module, work
from tests.pool.conftest import children
from tests.pool.support import SAFETY_S, is_running, until


@dataclasses.dataclass(frozen=True)
class Row:
    """A task, and the answer or the error that its caller gets."""

    name: str
    func: Callable[..., Any]
    args: tuple[Any, ...] = ()
    error: type[Exception] | None = None
    match: str | None = None
    answer: object = None


TABLE = [
    Row("sys.exit", work.exit_by_sys, (3,), WorkerCrashed, "with status 3"),
    Row("os._exit", work.exit_at_once, (4,), WorkerCrashed, "with status 4"),
    Row("os._exit without an error", work.exit_at_once, (0,), WorkerCrashed, "with status 0"),
    Row("SIGKILL", work.kill_itself, (signal.SIGKILL,), WorkerCrashed, "SIGKILL"),
    Row("SIGTERM", work.kill_itself, (signal.SIGTERM,), WorkerCrashed, "SIGTERM"),
    Row("SIGINT is ignored", work.kill_itself, (signal.SIGINT,), answer=None),
    Row("SIGSEGV", work.segfault, (), WorkerCrashed, "SIGSEGV"),
    Row("out of memory", work.run_out_of_memory, (), MemoryError),
    Row("exception", work.fail, ("told",), LookupError, "told"),
    Row("exception at import", broken_module.never, (), ImportError, "cannot be imported here"),
    Row(
        "exception at unpickling the argument",
        work.echo,
        (work.FailsToUnpickle(),),
        LookupError,
        "unpickled",
    ),
    Row(
        "exception at pickling the result",
        work.give_fails_to_pickle,
        (),
        NotPicklable,
        "cannot be pickled",
    ),
    Row("exception in __del__", work.give_dies_in_del, (), answer="survived"),
    Row("exception that does not unpickle", work.raise_awkward, (), NotPicklable, "AwkwardError"),
    Row("exception that does not pickle", work.raise_local, (), NotPicklable, "LocalError"),
    Row("StopIteration", work.raise_stop_iteration, (), RuntimeError, "StopIteration"),
    Row("closes descriptors", work.close_descriptors, (), WorkerCrashed),
    Row("floods output", work.flood_output, (), answer="done"),
    Row("reads input", work.read_input, (), answer=""),
    Row("forks, and both return", work.fork_and_both_return, (), answer="one of two"),
    Row("changes directory", work.change_directory, (), answer="/"),
    Row("masks signals", work.mask_signals, (), answer=None),
    Row("ignores SIGTERM", work.ignore_term, (), answer=None),
    Row("starts threads", work.start_threads, (), answer=5),
]


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    """A pool of one worker: whatever it does, it does to the only one."""
    async with Pool(workers=1) as pool:
        yield pool


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
async def test_pool_computes_after(row: Row, pool: Pool) -> None:
    """Whatever a task does, its caller learns of it and the next task runs."""
    async with asyncio.timeout(SAFETY_S):
        if row.error is None:
            assert await pool.run(row.func, *row.args) == row.answer
        else:
            with pytest.raises(row.error, match=row.match):
                await pool.run(row.func, *row.args)
        assert [await pool.run(work.add, i, 1) for i in range(3)] == [1, 2, 3]


async def test_a_large_result_arrives(pool: Pool) -> None:
    """And the pool computes afterwards."""
    assert await pool.run(work.large, 200_000_000) == b"r" * 200_000_000
    assert await pool.run(work.add, 1, 1) == 2


async def test_exception_comes_with_the_workers_traceback(pool: Pool) -> None:
    """The caller sees where in the worker its task failed."""
    with pytest.raises(LookupError) as caught:
        await pool.run(work.fail, "deep")
    assert isinstance(caught.value.__cause__, WorkerTraceback)
    assert "in fail" in str(caught.value.__cause__)


@pytest.mark.parametrize("starts", [work.fork_and_wait, work.start_a_program])
async def test_what_a_task_starts_ends_with_its_worker(starts: Callable[[], int]) -> None:
    """Nothing is left behind, not even what the pool did not start."""
    async with Pool(workers=1) as pool:
        child = await pool.run(starts)
        assert await pool.run(work.add, 1, 1) == 2
        assert psutil.pid_exists(child)
    await until(lambda: not is_running(child))


async def test_worker_killed_while_idle(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    """A task sent to a worker that just died never ran, so it runs elsewhere, pure or not.

    The log has each death.
    """
    for _ in range(5):
        os.kill(await pool.run(work.pid), signal.SIGKILL)
        assert await pool.run(work.add, 2, 2) == 4
    assert caplog.text.count("ended by SIGKILL") == 5


async def test_a_worker_that_was_told_to_go_is_no_news(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At the end, after its last task, or when nobody waits any more."""
    async with Pool(workers=1, max_tasks=1) as pool:
        for _ in range(3):
            await pool.run(work.add, 1, 1)
        running = asyncio.create_task(
            pool.run(work.announce_then_wait, str(tmp_path / "runs"), str(tmp_path / "gate"))
        )
        await until((tmp_path / "runs").exists)
        running.cancel()
        assert await pool.run(work.add, 1, 1) == 2
        assert pool.stats().restarts["cancel"] == 1
    assert caplog.text == ""


STUCK = """
import time
from pathlib import Path
if Path(FLAG).exists():
    Path(FLAG).unlink()
    time.sleep(3600)
def one():
    return 1
"""


async def test_worker_killed_while_booting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that dies before it is ready is replaced.

    This one is held where it imports what will be needed.
    """
    flag = tmp_path / "flag"
    (tmp_path / "stuck_at_boot.py").write_text(f"FLAG = {str(flag)!r}\n{STUCK}")
    monkeypatch.syspath_prepend(tmp_path)
    async with Pool(workers=1) as pool:
        assert await pool.run(importlib.import_module("stuck_at_boot").one) == 1
        first = await pool.run(work.pid)
        flag.touch()
        os.kill(first, signal.SIGKILL)
        await until(lambda: not flag.exists())
        (booting,) = set(children()) - {first}
        os.kill(booting, signal.SIGKILL)
        assert await pool.run(work.add, 2, 2) == 4
        assert pool.stats().restarts["boot"] == 1


async def test_call_is_told_when_no_worker_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that is gone, say: the call fails with the reason, and runs once there is
    one again.
    """
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", "/nonexistent/python")
        async with Pool(workers=1) as pool:
            with pytest.raises(WorkerCrashed, match=r"no worker can be started: .*No such file"):
                await pool.run(work.add, 1, 1)
            patched.undo()
            assert await pool.run(work.add, 1, 1) == 2


async def test_worker_killed_while_its_reply_is_half_written(pool: Pool, tmp_path: Path) -> None:
    """Half a reply is no reply: the caller learns of the death, and the next reply is whole."""
    with pytest.raises(WorkerCrashed, match="SIGKILL"):
        await pool.run(work.half_reply)
    assert await pool.run(work.add, 2, 2) == 4


async def test_process_that_ignores_its_childrens_ends() -> None:
    """Such a setting is inherited.

    The kernel then reaps the workers, and how they ended cannot be known.
    """
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        async with Pool(workers=1) as pool:
            with pytest.raises(WorkerCrashed, match="unknown"):
                await pool.run(work.exit_at_once, 3)
            assert await pool.run(work.add, 2, 2) == 4
    finally:
        signal.signal(signal.SIGCHLD, before)


async def test_pure_task_runs_once_more(pool: Pool, tmp_path: Path) -> None:
    """A crash under a pure task is repaired without its caller noticing."""
    assert await pool.run(work.die_once, str(tmp_path / "died")) == "second run"
    assert pool.stats().retried == 1


async def test_task_that_kills_two_workers_is_not_tried_again(pool: Pool, tmp_path: Path) -> None:
    """A poisonous task costs two workers and no more."""
    runs = tmp_path / "runs"
    with pytest.raises(WorkerCrashed, match="with status 7"):
        await pool.run(work.die_always, str(runs))
    assert runs.read_text() == "xx"
    assert await pool.run(work.add, 2, 2) == 4


async def test_poison_in_a_pure_batch_harms_no_other(tmp_path: Path) -> None:
    """After a crash each task of a pure batch runs alone, so only the one at fault fails."""
    async with Pool(workers=1) as pool:
        gate = tmp_path / "gate"
        first = asyncio.ensure_future(pool.run(work.wait_for, str(gate)))
        batch = [
            asyncio.ensure_future(pool.run(work.pure_dies_at_three, number))
            for number in range(1, 5)
        ]
        await asyncio.sleep(0)
        gate.touch()
        await first
        answers = await asyncio.gather(*batch, return_exceptions=True)
    assert [answers[0], answers[1], answers[3]] == [1, 2, 4]
    assert isinstance(answers[2], WorkerCrashed)


async def test_one_death_fails_only_its_own_task(tmp_path: Path) -> None:
    """The neighbour of a dying worker goes on with its task."""
    gate = tmp_path / "gate"
    async with Pool(workers=2) as pool:
        neighbour = asyncio.ensure_future(pool.run(work.wait_for, str(gate)))
        with pytest.raises(WorkerCrashed):
            await pool.run(work.exit_at_once, 1)
        gate.touch()
        assert await neighbour > 0
