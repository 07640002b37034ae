"""What a pool promises its caller, kept by real workers.

Both kinds and both event loops where that matters.
"""

import asyncio
import gc
import math
import os
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Literal

import pytest
import uvloop

from devnest.pool import (
    DeadlineExceeded,
    InvalidTask,
    Pool,
    PoolClosed,
    PoolError,
    PoolFull,
    TaskTimeout,
    pure,
)
from devnest.pool.functions import batched
from devnest.pool.wire.payload import MIN_SEGMENT_BYTES
from tests.pool import work
from tests.pool.conftest import descriptors
from tests.pool.support import until

Kind = Literal["process", "thread"]
KINDS: list[Kind] = ["process", "thread"]


async def busy(pool: Pool, gate: Path, count: int = 1) -> list["asyncio.Future[Any]"]:
    """Have so many workers run something until the gate is opened, and return when they do."""
    tasks: list[asyncio.Future[Any]] = []
    for index in range(count):
        started = gate.with_suffix(f".{index}")
        tasks.append(
            asyncio.ensure_future(pool.run(work.announce_then_wait, str(started), str(gate)))
        )
        await until(started.exists)
    return tasks


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_runs_on_either_loop(kind: Kind, factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Results, keyword arguments, exceptions, batches and many callers, on asyncio's loop and on
    uvloop.
    """

    async def main() -> None:
        async with Pool(workers=2, kind=kind) as pool:
            assert await pool.run(work.add, 1, 2) == 3
            assert await pool.run(work.keywords, a=1) == {"a": 1}
            assert await pool.run(math.sqrt, 4.0) == 2.0
            with pytest.raises(LookupError, match="told"):
                await pool.run(work.fail, "told")
            assert await asyncio.gather(*(pool.run(work.add, i, i) for i in range(500))) == [
                2 * i for i in range(500)
            ]
            answers = await asyncio.gather(*(pool.run(work.square_all, i) for i in range(9)))
            assert [square for square, _ in answers] == [i * i for i in range(9)]

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


@pytest.mark.parametrize("kind", KINDS)
async def test_batch_is_what_waits(kind: Kind, tmp_path: Path) -> None:
    """One call alone goes alone; those that wait go together, up to the batch's size."""
    async with Pool(workers=1, kind=kind) as pool:
        assert await pool.run(work.square_all, 3) == (9, 1)
        (first,) = await busy(pool, tmp_path / "gate")
        waiting = [asyncio.ensure_future(pool.run(work.square_all, i)) for i in range(6)]
        await asyncio.sleep(0)
        (tmp_path / "gate").touch()
        await first
        assert await asyncio.gather(*waiting) == [(i * i, 4 if i < 4 else 2) for i in range(6)]


async def test_waiting_calls_are_spread_over_idle_workers() -> None:
    """Four calls of one turn of the loop and two idle workers: two batches of two."""
    async with Pool(workers=2) as pool:
        await until(lambda: pool.stats().idle == 2)
        answers = await asyncio.gather(*(pool.run(work.square_all, i) for i in range(4)))
    assert [size for _, size in answers] == [2, 2, 2, 2]


@pytest.mark.parametrize("kind", KINDS)
async def test_batch_answers_each_call(kind: Kind) -> None:
    """An exception in the list of results is one call's.

    A list of the wrong length is everybody's.
    """
    async with Pool(workers=1, kind=kind) as pool:
        answers = await asyncio.gather(
            *(pool.run(work.mixed, i) for i in range(4)), return_exceptions=True
        )
        assert [repr(answer) for answer in answers] == [
            "0",
            "ValueError('odd 1')",
            "2",
            "ValueError('odd 3')",
        ]
        with pytest.raises(ValueError, match="1 calls gave 0 results"):
            await pool.run(work.too_few, 1)
        answers = await asyncio.gather(
            *(pool.run(work.pure_raises_at_three, i) for i in range(1, 5)), return_exceptions=True
        )
        assert [repr(answer) for answer in answers] == ["1", "2", "ValueError('three')", "4"]


async def test_argument_that_cannot_be_unpickled_harms_only_its_own_call() -> None:
    """The others of its batch are answered."""
    async with Pool(workers=1) as pool:
        bad = pool.run(work.mixed, work.FailsToUnpickle())
        answers = await asyncio.gather(
            pool.run(work.mixed, 2), bad, pool.run(work.mixed, 4), return_exceptions=True
        )
    assert answers[0] == 2
    assert isinstance(answers[1], LookupError)
    assert answers[2] == 4


@pytest.mark.parametrize("kind", KINDS)
async def test_full_queue_refuses_at_once(kind: Kind, tmp_path: Path) -> None:
    """The bound counts every waiting task, whatever its options, and a place comes free when one
    is cancelled.
    """
    async with Pool(workers=1, max_queue=2, kind=kind) as pool:
        (first,) = await busy(pool, tmp_path / "gate")
        waiting = [
            asyncio.ensure_future(pool.run(work.add, 1, 1, deadline=600.0)),
            asyncio.ensure_future(pool.run(work.add, 2, 2, priority=5)),
        ]
        await asyncio.sleep(0)
        with pytest.raises(PoolFull) as refused:
            await pool.run(work.add, 3, 3, timeout=1.0)
        assert refused.value.retry_after > 0
        waiting[0].cancel()
        await asyncio.wait([waiting[0]])
        waiting[0] = asyncio.ensure_future(pool.run(work.add, 4, 4))
        await asyncio.sleep(0)
        (tmp_path / "gate").touch()
        assert await asyncio.gather(*waiting) == [8, 4]
        await first
        assert pool.stats().refused == {"full": 1}


async def test_no_queue_at_all() -> None:
    """With ``max_queue=0`` only an idle worker takes a task."""
    async with Pool(workers=1, max_queue=0) as pool:
        answers = await asyncio.gather(
            pool.run(work.add, 1, 1), pool.run(work.add, 2, 2), return_exceptions=True
        )
    assert answers[0] == 2
    assert isinstance(answers[1], PoolFull)


async def test_key_with_few_tasks_takes_a_place_of_one_with_many(tmp_path: Path) -> None:
    """A flood from one key fills the queue, and still another key is admitted, at the expense of
    the flood.
    """
    async with Pool(workers=1, max_queue=4) as pool:
        (first,) = await busy(pool, tmp_path / "gate")
        flood = [asyncio.ensure_future(pool.run(work.echo, i, key="flood")) for i in range(4)]
        await asyncio.sleep(0)
        honest = asyncio.ensure_future(pool.run(work.echo, "honest", key="honest"))
        await asyncio.wait([flood[3]])
        assert isinstance(flood[3].exception(), PoolFull)
        (tmp_path / "gate").touch()
        assert await honest == "honest"
        assert await asyncio.gather(first, *flood[:3])


@pytest.mark.parametrize("kind", KINDS)
async def test_timeout_counts_the_run_alone(kind: Kind, tmp_path: Path) -> None:
    """A task that waits longer than its timeout runs all the same.

    One that runs longer is stopped.
    """
    async with Pool(workers=1, kind=kind) as pool:
        (first,) = await busy(pool, tmp_path / "gate")
        patient = asyncio.ensure_future(pool.run(work.add, 1, 1, timeout=60.0))
        await asyncio.sleep(0.05)
        (tmp_path / "gate").touch()
        assert await patient == 2
        await first
        late = tmp_path / "late"
        with pytest.raises(TaskTimeout):
            await pool.run(work.wait_for, str(late), timeout=0.05)
        late.touch()  # a thread cannot be killed and goes on until now
        assert await pool.run(work.add, 2, 2) == 4


async def test_timed_out_worker_is_killed() -> None:
    """The work itself stops, and the others of its batch run again."""
    async with Pool(workers=1) as pool:
        answers = await asyncio.gather(
            pool.run(work.slow_at_three, 1),
            pool.run(work.slow_at_three, 3, timeout=0.3),
            pool.run(work.slow_at_three, 5),
            return_exceptions=True,
        )
        assert answers[0] == 1
        assert answers[2] == 5
        assert isinstance(answers[1], TaskTimeout)
        assert pool.stats().restarts == {"timeout": 1}


@pytest.mark.parametrize("kind", KINDS)
async def test_expired_work_never_runs(kind: Kind, tmp_path: Path) -> None:
    """A deadline that passes in the queue is answered there.

    One that had passed already, at once.
    """
    async with Pool(workers=1, kind=kind) as pool:
        (first,) = await busy(pool, tmp_path / "gate")
        trace = tmp_path / "trace"
        with pytest.raises(DeadlineExceeded):
            await pool.run(work.append, str(trace), "ran", deadline=0.05)
        with pytest.raises(DeadlineExceeded):
            await pool.run(work.append, str(trace), "ran", deadline=0)
        (tmp_path / "gate").touch()
        await first
        assert await pool.run(work.add, 1, 1) == 2
        assert not trace.exists()


async def test_deadline_ends_a_running_task(tmp_path: Path) -> None:
    """The answer is late, so its worker is stopped."""
    async with Pool(workers=1) as pool:
        pid = await pool.run(work.pid)
        with pytest.raises(DeadlineExceeded):
            await pool.run(work.wait_for, str(tmp_path / "never"), deadline=0.2)
        assert await pool.run(work.pid) != pid


async def test_wait_beyond_the_deadline_is_refused_at_once(tmp_path: Path) -> None:
    """When tasks are known to take long, one that cannot make it is told so before it waits."""
    async with Pool(workers=1) as pool:
        for number in range(3):
            gate = tmp_path / f"gate{number}"
            asyncio.get_running_loop().call_later(0.2, gate.touch)
            await pool.run(work.wait_for, str(gate))
        (first,) = await busy(pool, tmp_path / "gate")
        queued = [
            asyncio.ensure_future(pool.run(work.wait_for, str(tmp_path / "gate"))) for _ in range(5)
        ]
        await asyncio.sleep(0)
        with pytest.raises(PoolFull) as refused:
            await pool.run(work.wait_for, str(tmp_path / "gate"), deadline=0.5)
        assert refused.value.retry_after > 0.3
        assert "deadline" in refused.value.reason
        (tmp_path / "gate").touch()
        await asyncio.gather(first, *queued)


@pytest.mark.parametrize("kind", KINDS)
async def test_cancelled_task_leaves_the_queue(kind: Kind, tmp_path: Path) -> None:
    """It never runs."""
    async with Pool(workers=1, kind=kind) as pool:
        (first,) = await busy(pool, tmp_path / "gate")
        trace = tmp_path / "trace"
        waiting = asyncio.ensure_future(pool.run(work.append, str(trace), "ran"))
        await asyncio.sleep(0)
        assert pool.stats().queued == 1
        waiting.cancel()
        await asyncio.wait([waiting])
        assert pool.stats().queued == 0
        (tmp_path / "gate").touch()
        await first
        assert await pool.run(work.add, 1, 1) == 2
        assert not trace.exists()


async def test_cancelling_a_running_task_stops_it(tmp_path: Path) -> None:
    """Its worker is killed and another takes over."""
    async with Pool(workers=1) as pool:
        started = tmp_path / "started"
        running = asyncio.ensure_future(pool.run(work.announce, str(started)))
        await until(lambda: started.exists() and started.read_text())
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await pool.run(work.pid) != int(started.read_text())
        assert pool.stats().restarts == {"cancel": 1}


async def test_cancel_in_a_batch_drops_one_result(tmp_path: Path) -> None:
    """The others of the batch keep theirs, from the same worker."""
    async with Pool(workers=1) as pool:
        pid = await pool.run(work.pid)
        gate, started = tmp_path / "gate", tmp_path / "started"
        tasks = [
            asyncio.ensure_future(pool.run(work.gated_batch, str(started), str(gate), i))
            for i in range(3)
        ]
        await until(started.exists)
        tasks[1].cancel()
        await asyncio.wait([tasks[1]])
        gate.touch()
        assert [await tasks[0], await tasks[2]] == [0, 2]
        assert await pool.run(work.pid) == pid


async def test_urgent_work_overtakes(tmp_path: Path) -> None:
    """Until a worker is idle, every waiting task can be overtaken."""
    async with Pool(workers=1) as pool:
        (first,) = await busy(pool, tmp_path / "gate")
        trace = tmp_path / "trace"
        tasks = [
            asyncio.ensure_future(pool.run(work.append, str(trace), text, priority=priority))
            for text, priority in [("c", 2), ("b", 1), ("a", 0), ("A", 0)]
        ]
        await asyncio.sleep(0)
        assert pool.stats().queued_by_priority == {0: 2, 1: 1, 2: 1}
        (tmp_path / "gate").touch()
        await asyncio.gather(first, *tasks)
    assert trace.read_text() == "aAbc"


async def test_keys_take_turns(tmp_path: Path) -> None:
    """One caller's hundred tasks do not stand before another's one."""
    async with Pool(workers=1) as pool:
        (first,) = await busy(pool, tmp_path / "gate")
        trace = tmp_path / "trace"
        keys = ["x"] * 4 + ["y"] * 2 + ["z"]
        tasks = [
            asyncio.ensure_future(pool.run(work.append, str(trace), key, key=key)) for key in keys
        ]
        await asyncio.sleep(0)
        (tmp_path / "gate").touch()
        await asyncio.gather(first, *tasks)
    assert trace.read_text() == "xyzxyxx"


@pytest.mark.parametrize("clock", [{"timeout": 600}, {"deadline": 600}])
async def test_what_is_done_is_not_kept(clock: dict[str, Any], tmp_path: Path) -> None:
    """Arguments and results go with their call, not when its timeout or deadline would have
    come.
    """
    large = b"x" * MIN_SEGMENT_BYTES
    async with Pool(workers=1) as pool:
        assert await pool.run(work.echo, large, **clock) == large
        (running,) = await busy(pool, tmp_path / "gate")
        waiting = asyncio.ensure_future(pool.run(work.echo, large, **clock))
        await asyncio.sleep(0)
        assert memory_files() == 1
        waiting.cancel()
        await asyncio.wait([waiting])
        (tmp_path / "gate").touch()
        await running
        await until(lambda: memory_files() == 0)


async def test_threads_do_not_keep_what_is_done() -> None:
    """Nor do their tasks."""
    argument = {"argument and result"}
    kept = weakref.ref(argument)
    async with Pool(workers=1, kind="thread") as pool:
        assert await pool.run(work.echo, argument, timeout=600) is argument
        del argument
        await until(lambda: kept() is None)


def memory_files() -> int:
    """Return how many payloads this process holds in memory files."""
    gc.collect()
    return sum("memfd:devnest.pool " in what for what in descriptors().values())


async def test_grows_while_tasks_wait_and_shrinks_when_idle(tmp_path: Path) -> None:
    """Elastic size: more workers while there is work, back to the least number after it."""
    async with Pool(min_workers=0, max_workers=3, idle_timeout=0.05) as pool:
        assert pool.stats().workers == 0
        tasks = await busy(pool, tmp_path / "gate", 3)
        assert pool.stats().workers == 3
        (tmp_path / "gate").touch()
        assert len(set(await asyncio.gather(*tasks))) == 3
        await until(lambda: pool.stats().workers == 0)
        assert await pool.run(work.add, 1, 1) == 2


async def test_fixed_pool_that_becomes_elastic_shrinks() -> None:
    """Also by workers that were idle all the time."""
    async with Pool(workers=3, idle_timeout=0.05) as pool:
        await until(lambda: pool.stats().idle == 3)
        pool.resize(min_workers=1, max_workers=3)
        await until(lambda: pool.stats().workers == 1)
        assert await pool.run(work.add, 1, 1) == 2


async def test_resize() -> None:
    """A pool can be given more workers and fewer."""
    async with Pool(workers=1) as pool:
        pool.resize(3)
        await until(lambda: pool.stats().idle == 3)
        pool.resize(1)
        await until(lambda: pool.stats().workers == 1)
        assert await pool.run(work.add, 1, 1) == 2


@pytest.mark.parametrize(
    ("options", "reason", "func", "args"),
    [
        ({"max_tasks": 3}, "tasks", work.pid, ()),
        ({"max_rss": 100 << 20}, "rss", work.grow, (120 << 20,)),
        ({"max_age": 0.5}, "age", work.pid, ()),
    ],
)
async def test_recycling_has_the_replacement_ready(
    options: dict[str, Any], reason: str, func: Callable[..., int], args: tuple[Any, ...]
) -> None:
    """A worker past its limit is replaced, and at no moment is there none to take a task."""
    async with Pool(workers=1, **options) as pool:
        first = await pool.run(func, *args)
        while await pool.run(work.pid) == first:
            assert pool.stats().idle + pool.stats().busy >= 1
        assert pool.stats().restarts[reason] >= 1
        assert pool.stats().restarts.keys() == {reason}


async def test_nice_lowers_the_workers_priority() -> None:
    """The workers, not the parent."""
    async with Pool(workers=1, nice=7) as pool:
        assert await pool.run(os.nice, 0) == min(19, os.nice(0) + 7)


@pytest.mark.skipif(sys.platform != "linux", reason="a system call of Linux")
async def test_nice_workers_take_long_slices() -> None:
    """Who wakes beside one runs at once.

    Where the kernel has no slices of a process's own it tells of none.
    """
    async with Pool(workers=1, nice=7) as nice, Pool(workers=1) as ordinary:
        usual_ns = work.time_slice_ns()
        assert await ordinary.run(work.time_slice_ns) == usual_ns
        assert await nice.run(work.time_slice_ns) == (100_000_000 if usual_ns else 0)
        assert await nice.run(os.nice, 0) == min(19, os.nice(0) + 7)


@pytest.mark.skipif(
    not Path("/proc/self/autogroup").exists(), reason="this kernel does not group by session"
)
async def test_nice_lowers_the_workers_sessions_too() -> None:
    """Else it counts for nothing beside other sessions.

    Not at once: only root may do it twice in 0.1 s.
    """
    async with Pool(workers=2, nice=7) as pool:
        pids = {await pool.run(work.pid)}
        while len(pids) < 2 or any(session_nice(pid) != min(19, os.nice(0) + 7) for pid in pids):
            pids |= set(await asyncio.gather(pool.run(work.pid), pool.run(work.pid)))
        assert all(os.getsid(pid) == pid for pid in pids)


def session_nice(pid: int) -> int:
    """Of the session of a process, as Linux tells it."""
    return int(Path(f"/proc/{pid}/autogroup").read_text().rpartition(" ")[2])


async def test_close_drains(tmp_path: Path) -> None:
    """What was submitted is answered, what comes later is refused."""
    pool = Pool(workers=1)
    await pool.start()
    (first,) = await busy(pool, tmp_path / "gate")
    waiting = asyncio.ensure_future(pool.run(work.add, 1, 1))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(pool.close())
    await asyncio.sleep(0)
    with pytest.raises(PoolClosed):
        await pool.run(work.add, 1, 1)
    (tmp_path / "gate").touch()
    assert await waiting == 2
    await asyncio.gather(first, closing)
    await pool.close()
    with pytest.raises(PoolClosed):
        await pool.run(work.add, 1, 1)


@pytest.mark.parametrize("how", ["force", "deadline", "cancel"])
async def test_close_can_be_forced(how: str, tmp_path: Path) -> None:
    """By force, at the end of its deadline, or when whoever waits for it is cancelled.

    Nothing is left.
    """
    pool = Pool(workers=1)
    await pool.start()
    (first,) = await busy(pool, tmp_path / "never")
    waiting = asyncio.ensure_future(pool.run(work.add, 1, 1))
    await asyncio.sleep(0)
    if how == "force":
        await pool.close(force=True)
    elif how == "deadline":
        await pool.close(deadline=0.05)
    else:
        closing = asyncio.ensure_future(pool.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
    for task in (first, waiting):
        with pytest.raises(PoolClosed):
            await task


@pytest.mark.parametrize("kind", KINDS)
async def test_cancelled_start_leaves_no_worker(kind: Kind) -> None:
    """What was started before the block was entered is ended."""
    pool = Pool(workers=2, kind=kind)
    starting = asyncio.ensure_future(pool.start())
    await asyncio.sleep(0)
    while not pool.engine().workers:
        await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert pool.engine().scheduler.ended


async def test_block_left_by_an_exception_ends_its_tasks(tmp_path: Path) -> None:
    """Nobody waits for the drain of what failed."""
    pool = Pool(workers=1)
    with pytest.raises(LookupError):  # noqa: PT012  (what the block does is the point)
        async with pool:
            (running,) = await busy(pool, tmp_path / "never")
            raise LookupError
    assert isinstance(running.exception(), PoolClosed)


@pytest.mark.parametrize(
    "call",
    [
        lambda pool: pool.run(lambda: 1),
        lambda pool: pool.run("text"),
        lambda pool: pool.run(work.coroutine),
        lambda pool: pool.run(work.FailsToPickle().__reduce__),
        lambda pool: pool.run(work.echo, lambda: 1),
        lambda pool: pool.run(work.echo, work.FailsToPickle()),
        lambda pool: pool.run(work.add, 1, 1, timeout=0),
        lambda pool: pool.run(work.add, 1, 1, timeout=math.nan),
        lambda pool: pool.run(work.add, 1, 1, timeout="1"),
        lambda pool: pool.run(work.add, 1, 1, timeout=10**400),
        lambda pool: pool.run(work.add, 1, 1, deadline=math.nan),
        lambda pool: pool.run(work.add, 1, 1, deadline="x"),
        lambda pool: pool.run(work.add, 1, 1, priority=101),
        lambda pool: pool.run(work.add, 1, 1, priority=1.0),
        lambda pool: pool.run(work.add, 1, 1, priority=0.0),
        lambda pool: pool.run(work.add, 1, 1, key="\ud800"),
        lambda pool: pool.run(work.add, 1, 1, key=5),
        lambda pool: pool.run(work.add, 1, 1, key="k" * 256),
        lambda pool: pool.run(work.square_all, number=1),
    ],
)
async def test_callers_mistakes_are_named(call: Callable[[Pool], Coroutine[Any, Any, Any]]) -> None:
    """A mistake in the call is an error of the pool, and a ValueError and TypeError too.

    No worker sees it.
    """
    async with Pool(workers=1) as pool:
        for expected in (PoolError, InvalidTask, ValueError, TypeError):
            with pytest.raises(expected):
                await call(pool)
        assert await pool.run(work.add, 1, 1) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0},
        {"workers": -1},
        {"workers": 2, "min_workers": 1},
        {"min_workers": 3, "max_workers": 2},
        {"max_queue": -1},
        {"idle_timeout": 0},
        {"max_tasks": 0},
        {"max_age": -1.0},
        {"max_rss": 0},
        {"boot_timeout": 0},
        {"kind": "fibre"},
        {"kind": "thread", "nice": 5},
        {"kind": "thread", "max_rss": 1},
    ],
)
def test_options_are_checked(options: dict[str, Any]) -> None:
    """A pool that cannot work is not made."""
    with pytest.raises(InvalidTask):
        Pool(**options)


async def test_pool_starts_once_and_before_use() -> None:
    """Both are told apart from a pool that works."""
    with pytest.raises(PoolClosed, match="not been started"):
        await Pool(workers=1).run(work.add, 1, 1)
    async with Pool(workers=1) as pool:
        with pytest.raises(PoolClosed, match="once"):
            await pool.start()


@pytest.mark.parametrize("size", [0, 129])
def test_batch_size_is_bounded(size: int) -> None:
    """One frame carries a batch."""
    with pytest.raises(InvalidTask):
        batched(max_size=size)


def test_marked_functions_stay_functions() -> None:
    """Marks change nothing for whoever calls the function directly."""
    assert work.square_all([(2,), (3,)]) == [(4, 2), (9, 2)]
    assert pure(work.add) is work.add
    del work.add.__devnest_pool__  # type: ignore[attr-defined]


async def test_thread_that_cannot_start_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has too many threads now may have fewer in a moment."""
    start = threading.Thread.start
    failures = iter([RuntimeError("can't start new thread")])

    def fail_once(thread: threading.Thread) -> None:
        for error in failures if thread.name.startswith("devnest.pool") else ():
            raise error
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", fail_once)
    async with Pool(workers=1, kind="thread") as pool:
        assert await pool.run(work.add, 1, 1) == 2
        assert pool.stats().restarts == {"boot": 1}


async def test_thread_kind_runs_any_callable() -> None:
    """Nothing is pickled for a thread."""
    async with Pool(workers=1, kind="thread") as pool:
        kept = object()
        assert await pool.run(lambda: kept) is kept


async def test_thread_that_raises_system_exit_lives_on() -> None:
    """What would end the caller reaches it as an error of the pool."""
    async with Pool(workers=1, kind="thread") as pool:
        with pytest.raises(PoolError, match="SystemExit"):
            await pool.run(work.exit_by_sys, 3)
        assert await pool.run(work.add, 1, 1) == 2


async def test_stats_tell_what_happened() -> None:
    """Counts, histograms and Prometheus' text agree with what was done."""
    async with Pool(workers=2) as pool:
        for i in range(20):
            await pool.run(work.add, i, i)
        with pytest.raises(LookupError):
            await pool.run(work.fail, "")
        stats = pool.stats()
        assert (stats.done, stats.failed, stats.queued, stats.running) == (21, 1, 0, 0)
        assert stats.wait.count == stats.run.count == stats.run_last_minute.count == 21
        assert 0 < stats.run.quantile(0.5) <= stats.run.quantile(0.99)
        assert 0 <= stats.utilisation <= 1
        assert stats.mean_batch == 1
        text = stats.prometheus("devnest_pool")
        assert "devnest_pool_done_total 21" in text
        assert 'devnest_pool_run_seconds_bucket{le="+Inf"} 21' in text
    assert "idle=0" in repr(pool)
