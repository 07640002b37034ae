"""The pools that `pool.py` compares: this one and those people use, with two workers each."""

import asyncio
import concurrent.futures
import contextlib
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import loky
import pebble

from devnest.pool import Pool
from pool_work import CALLERS, WORKERS

HERE = Path(__file__).parent
PISCINA = "piscina@5.3.2"

Call = Callable[..., Awaitable[Any]]


class Contender:
    """A pool: its name, how to open it, and how a light task asks to go first."""

    def __init__(
        self, name: str, opened: Callable[[], Any], light: dict[str, Any] | None = None
    ) -> None:
        self.name = name
        self.opened = opened
        # Keyword arguments of a call that asks to go first; empty where there is no way to ask.
        self.light = light or {}


@contextlib.asynccontextmanager
async def ours() -> AsyncIterator[Call]:
    async with Pool(workers=WORKERS) as pool:
        yield pool.run


@contextlib.asynccontextmanager
async def executor(make: Callable[[], Any], end: Callable[[Any], None]) -> AsyncIterator[Call]:
    """Open an executor of `concurrent.futures`."""
    pool = make()

    async def call(func: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.wrap_future(pool.submit(func, *args))

    try:
        yield call
    finally:
        end(pool)


@contextlib.asynccontextmanager
async def with_pebble() -> AsyncIterator[Call]:
    pool = pebble.ProcessPool(max_workers=WORKERS)

    async def call(func: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.wrap_future(pool.schedule(func, args=args))

    try:
        yield call
    finally:
        pool.stop()
        pool.join()


@contextlib.asynccontextmanager
async def with_anyio() -> AsyncIterator[Call]:
    limiter = anyio.CapacityLimiter(WORKERS)

    async def call(func: Callable[..., Any], *args: Any) -> Any:
        return await anyio.to_process.run_sync(func, *args, limiter=limiter)

    yield call


CONTENDERS = [
    Contender("devnest.pool", ours, {"priority": -1}),
    Contender(
        "ProcessPoolExecutor",
        lambda: executor(
            lambda: concurrent.futures.ProcessPoolExecutor(WORKERS), lambda pool: pool.shutdown()
        ),
    ),
    Contender(
        "loky",
        lambda: executor(
            lambda: loky.ProcessPoolExecutor(WORKERS), lambda pool: pool.shutdown(kill_workers=True)
        ),
    ),
    Contender("pebble", with_pebble),
    Contender("anyio.to_process", with_anyio),
    Contender(
        "ThreadPoolExecutor",
        lambda: executor(
            lambda: concurrent.futures.ThreadPoolExecutor(WORKERS), lambda pool: pool.shutdown()
        ),
    ),
]


def piscina_round() -> dict[str, float] | None:
    """Return Piscina's figures; where it cannot run, print why and return `None`."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        print("Piscina is left out: node and npm are not here")
        return None
    home = HERE / "node_modules" / ".piscina"
    if not (home / "node_modules" / "piscina").is_dir():
        home.mkdir(parents=True, exist_ok=True)
        done = subprocess.run([npm, "install", "--silent", "--prefix", home, PISCINA], check=False)
        if done.returncode:
            print(f"Piscina is left out: npm could not install {PISCINA}")
            return None
    script = shutil.copy(HERE / "pool_piscina.mjs", home)
    answer = subprocess.run(
        [node, script, str(WORKERS), str(CALLERS)], capture_output=True, text=True, check=True
    )
    figures: dict[str, float] = json.loads(answer.stdout)
    return figures
