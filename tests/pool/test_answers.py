"""Whatever an answer is, raises or does when it is opened, its caller gets it or an error, and
its event loop lives.
"""

import asyncio
import importlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from devnest.pool import NotPicklable, Pool, PoolServer, RemotePool, WorkerCrashed, WorkerTraceback
from devnest.pool.calls import open_answer
from devnest.pool.errors import MAX_REPR_CHARS
from devnest.pool.runtime.worker import MAX_TRACEBACK_CHARS
from devnest.pool.wire.payload import pack
from devnest.pool.wire.protocol import FAILED, OK, SKIPPED
from tests.pool import hostile, work
from tests.pool.support import SAFETY_S

ENDS = [*hostile.ENDS]
AnyPool = Pool | RemotePool


@pytest.fixture(params=["process", "shared"])
async def pool(request: pytest.FixtureRequest, socket_path: Path) -> AsyncIterator[AnyPool]:
    """A worker of its own or a shared one; the loop that waits for it must turn to the end."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.001)

    turning = asyncio.create_task(turn())
    async with asyncio.timeout(SAFETY_S):
        if request.param == "process":
            async with Pool(workers=1) as own:
                yield own
                assert await own.run(work.add, 1, 1) == 2
        else:
            async with (
                PoolServer(socket_path, workers=1) as server,
                Pool.connect(server.url) as shared,
            ):
                yield shared
                assert await shared.run(work.add, 1, 1) == 2
    before = turns
    await asyncio.sleep(0.01)
    assert turns > before
    turning.cancel()


@pytest.mark.parametrize("name", ENDS)
async def test_an_answer_that_ends_whoever_unpickles_it(pool: AnyPool, name: str) -> None:
    """A result, and an exception, the latter also where only the caller's process finds out."""
    with pytest.raises(NotPicklable, match=name):
        await pool.run(hostile.give_reducing, "raise_end", name)
    with pytest.raises(NotPicklable, match=name):
        await pool.run(hostile.raise_reducing, "raise_end", name)
    with pytest.raises(NotPicklable, match=name):
        await pool.run(hostile.raise_reducing, "good_in_a_worker", name, "raise_end")
    assert await pool.run(work.echo, 5) == 5


@pytest.mark.parametrize("name", ENDS)
async def test_an_exception_that_comes_back_as_one_that_ends_its_caller(
    pool: AnyPool, name: str
) -> None:
    """It is told by its name. As a result it would be an object like any other."""
    with pytest.raises(NotPicklable, match=rf"comes back as {name}\(7\)"):
        await pool.run(hostile.raise_reducing, "make_end", name)
    with pytest.raises(WorkerCrashed, match=rf"the task raised {name}\(7\)") as caught:
        await pool.run(hostile.raise_reducing, "good_in_a_worker", name, "make_end")
    assert isinstance(caught.value.__cause__, WorkerTraceback)
    assert type(await pool.run(hostile.give_reducing, "make_end", name)) is hostile.ENDS[name]


async def test_an_exception_that_comes_back_as_something_else(pool: AnyPool) -> None:
    """Which cannot be raised."""
    with pytest.raises(NotPicklable, match="comes back as 'no exception'"):
        await pool.run(hostile.raise_reducing, "text_instead", "")
    with pytest.raises(NotPicklable, match="'no exception'"):
        await pool.run(hostile.raise_reducing, "good_in_a_worker", "", "text_instead")


@pytest.mark.parametrize("name", hostile.BOTH)
async def test_an_exception_that_is_both(pool: AnyPool, name: str) -> None:
    """An ordinary one that a worker survives, and one that an event loop does not."""
    with pytest.raises(WorkerCrashed, match="the task raised") as caught:
        await pool.run(hostile.raise_both, name)
    assert not isinstance(caught.value, hostile.ENDS[name])


@pytest.mark.parametrize("name", [name for name in ENDS if name != "SystemExit"])
async def test_a_task_that_raises_no_exception_ends_its_worker(pool: AnyPool, name: str) -> None:
    """As `sys.exit` does (test_crashes): the next call has another."""
    with pytest.raises(WorkerCrashed):
        await pool.run(hostile.raise_end, name)


async def test_entries_of_a_batch_are_each_its_own_calls(pool: AnyPool) -> None:
    """Exceptions are raised to their call, those that would end it as an error of the pool.

    Liars are results.
    """
    names = [*ENDS, "both SystemExit", "a result"]
    given = await asyncio.gather(
        *(pool.run(hostile.give_entries, name) for name in names), return_exceptions=True
    )
    for name, answer in zip(names[:-1], given[:-1], strict=True):
        assert type(answer) is WorkerCrashed, answer
        assert name.removeprefix("both ").removesuffix("Exit") in str(answer) or "ExitBoth" in str(
            answer
        )
    assert given[-1] == "a result"
    for says in ("ValueError", *ENDS):
        assert type(await pool.run(hostile.give_entries, f"liar {says}")) is hostile.Liar


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("loop", ValueError), ("chain", ValueError), ("syntax", SyntaxError), ("notes", ValueError),
        ("silent", hostile.SilentError), ("at pickling", NotPicklable), ("at making", NotPicklable),
        ("long", NotPicklable), ("long message", ValueError),
    ],
)  # fmt: skip
async def test_an_exception_that_misbehaves(
    pool: AnyPool, kind: str, error: type[Exception]
) -> None:
    """It, or an error in its place, reaches the caller with what can be told of where it was
    raised.
    """
    with pytest.raises(error) as caught:
        await pool.run(hostile.raise_strange, kind)
    assert type(caught.value) is error
    assert isinstance(caught.value.__cause__, WorkerTraceback)
    assert len(str(caught.value.__cause__)) < MAX_TRACEBACK_CHARS + 100
    if error is NotPicklable:
        assert len(str(caught.value)) < 2 * MAX_REPR_CHARS + 200


async def test_a_result_that_ends_its_worker_when_it_is_pickled(pool: AnyPool) -> None:
    """It is none, and the worker lives."""
    before = await pool.run(work.pid)
    with pytest.raises(NotPicklable, match="SystemExit"):
        await pool.run(hostile.give_exits_at_pickling)
    assert await pool.run(work.pid) == before


async def test_a_result_of_a_module_that_the_caller_lacks(pool: AnyPool) -> None:
    """It cannot be opened, and says why."""
    with pytest.raises(NotPicklable, match="No module named 'only_there'"):
        await pool.run(hostile.give_reducing, "import_it", "only_there")


EXITS = """
import sys
def one(): return 1
if type(sys.modules["__main__"]).__name__ == "_Main": sys.exit(7)
"""


async def test_a_module_that_ends_its_importer_spoils_no_other_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its call fails. Workers that start afterwards import what was used so far, and live."""
    (tmp_path / "exits_in_workers.py").write_text(EXITS)
    monkeypatch.syspath_prepend(tmp_path)
    async with Pool(workers=1) as pool:
        with pytest.raises(WorkerCrashed, match="with status 7"):
            await pool.run(importlib.import_module("exits_in_workers").one)
        assert await pool.run(work.add, 1, 1) == 2
        assert "boot" not in pool.stats().restarts


@pytest.mark.parametrize("name", ENDS)
async def test_threads_too(name: str) -> None:
    """Nothing is pickled there, and the thread lives on."""
    async with Pool(workers=1, kind="thread") as pool:
        for func in (hostile.raise_end, hostile.give_entries):
            with pytest.raises(WorkerCrashed, match="the task raised"):
                await pool.run(func, name)
        if name in hostile.BOTH:
            with pytest.raises(WorkerCrashed, match="the task raised"):
                await pool.run(hostile.raise_both, name)
            with pytest.raises(WorkerCrashed, match="the task raised"):
                await pool.run(hostile.give_entries, f"both {name}")
        assert type(await pool.run(hostile.give_entries, f"liar {name}")) is hostile.Liar
        with pytest.raises(hostile.SilentError):
            await pool.run(hostile.raise_strange, "silent")
        assert await pool.run(work.add, 1, 1) == 2


@pytest.mark.parametrize(
    "content",
    [
        None, (), (ValueError(),), (ValueError(), "text", 1), [ValueError(), "text"], (ValueError, "text"),
        (ValueError(), b"text"), ("text", ValueError()),
    ],
)  # fmt: skip
def test_a_failure_of_another_form_is_none(content: object) -> None:
    """What comes over the wire is checked."""
    with pytest.raises(NotPicklable, match="the answer of a task that failed is"):
        open_answer((FAILED, pack(content)))


@pytest.mark.parametrize(
    "answers", [[], [(OK, b""), (OK, b"")], [(7, b"")], [(FAILED, b""), (SKIPPED, b"")]]
)
async def test_a_worker_that_answers_what_was_not_asked_is_ended(
    answers: list[tuple[int, bytes]],
) -> None:
    """Too few, too many, or none of the kinds there are."""
    async with asyncio.timeout(SAFETY_S), Pool(workers=1) as pool:
        with pytest.raises(WorkerCrashed):
            await pool.run(hostile.forge_reply, answers)
        assert await pool.run(work.add, 1, 1) == 2
