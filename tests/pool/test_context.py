"""ContextVars that travel with calls."""

import asyncio
import contextvars
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from devnest.pool import InvalidTask, Pool, PoolExecutor, PoolServer, RemotePool, batched

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id")
traceparent: contextvars.ContextVar[str | None] = contextvars.ContextVar("trace", default=None)
other: contextvars.ContextVar[str] = contextvars.ContextVar("other", default="default")
CONTEXT = [f"{__name__}:request_id", f"{__name__}:traceparent"]


def seen(argument: int = 0, *, named: int = 0) -> tuple[str | None, str | None, str, int, int]:
    """What a function sees of the caller's context, and its arguments."""
    values = request_id.get(None), traceparent.get(), other.get()
    request_id.set("changed by the function")
    return *values, argument, named


@batched(max_size=4)
def seen_together(calls: list[tuple[int]]) -> list[str | None]:
    """One call of it serves several callers."""
    return [request_id.get(None) for _ in calls]


@pytest.fixture(params=["process", "thread", "shared"])
async def pool(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pool | RemotePool]:
    """Each kind of pool, with two variables."""
    tmp_path.chmod(0o700)
    if request.param == "shared":
        async with (
            PoolServer(tmp_path / "p", workers=1) as server,
            Pool.connect(server.url, context=CONTEXT) as remote,
        ):
            yield remote
    else:
        async with Pool(1, kind=request.param, context=CONTEXT) as own:
            yield own


async def test_values_travel_and_others_do_not(pool: Pool | RemotePool) -> None:
    """Each call has the values of its caller, and what a function sets ends with it."""
    assert await pool.run(seen) == (None, None, "default", 0, 0)
    request_id.set("one")
    other.set("stays here")
    assert await pool.run(seen, 1, named=2) == ("one", None, "default", 1, 2)
    traceparent.set("00-abc-def-01")
    assert await pool.run(seen, 1) == ("one", "00-abc-def-01", "default", 1, 0)

    async def call(name: str) -> str:
        request_id.set(name)
        result: tuple[str] = await pool.run(seen)
        return result[0]

    names = [f"request {n}" for n in range(20)]
    assert await asyncio.gather(*(call(name) for name in names)) == names
    assert request_id.get() == "one"


async def test_a_batch_has_no_context(pool: Pool | RemotePool) -> None:
    """It serves several callers."""
    request_id.set("one")
    assert await pool.run(seen_together, 1) is None


async def test_the_executor_takes_the_context_of_its_caller(pool: Pool | RemotePool) -> None:
    """That of the thread that submits, not that of the event loop."""
    executor = PoolExecutor(pool=pool)

    def submit() -> tuple[object, ...]:
        request_id.set("of the thread")
        return executor.submit(seen, 3).result()[::3]

    request_id.set("of the loop")
    assert await asyncio.to_thread(submit) == ("of the thread", 3)


async def test_without_the_option_nothing_travels() -> None:
    """As before."""
    request_id.set("one")
    async with Pool(1) as pool:
        assert (await pool.run(seen))[0] is None


@pytest.mark.parametrize(
    "names",
    ["module:name", ["no_such_module:name"], [f"{__name__}:no_such_name"], [f"{__name__}:CONTEXT"],
     [f"{__name__}"], [""], [None], [":x"], None, 5],
)  # fmt: skip
def test_a_name_of_no_variable_is_refused(names: Any) -> None:
    """When the pool is made."""
    with pytest.raises(InvalidTask, match="context"):
        Pool(context=names)
    with pytest.raises(InvalidTask, match="context"):
        Pool.connect("unix:///tmp/p", context=names)


@pytest.mark.parametrize("text", ["def (", "1 / 0"])
def test_a_module_that_fails_when_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Whatever it raises."""
    (tmp_path / "fails_when_imported.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InvalidTask, match="'fails_when_imported:x' cannot be imported"):
        Pool(context=["fails_when_imported:x"])


def test_a_server_has_no_context_of_its_own(tmp_path: Path) -> None:
    """Clients say what travels."""
    with pytest.raises(InvalidTask, match="clients"):
        PoolServer(tmp_path / "p", context=CONTEXT)


async def test_a_value_that_cannot_be_pickled_is_the_caller_s_error() -> None:
    """It never reaches a worker."""
    request_id.set(lambda: None)  # type: ignore[arg-type]
    async with Pool(1, context=CONTEXT) as pool:
        with pytest.raises(InvalidTask, match="pickled"):
            await pool.run(seen)
