"""The warning that pools of sibling processes cannot batch each other's calls."""

import asyncio
import subprocess
import sys

import pytest

from devnest.pool import Pool, siblings
from tests.pool import work
from tests.pool.support import ROOT, SAFETY_S

PROGRAM = """\
import asyncio, sys
from devnest.pool import Pool, siblings
from tests.pool import work

async def main():
    async with Pool(workers=1) as pool:
        for _ in range(2 * siblings.MIN_CALLS):
            await pool.run(work.square_all, 2)
        print("done", flush=True)
        sys.stdin.read()

asyncio.run(main())
"""


async def start() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, cwd=ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


async def test_second_pool_of_a_program_warns_once() -> None:
    """The first process has no siblings at that moment; the second finds one, and says so once."""
    async with asyncio.timeout(SAFETY_S):
        first = await start()
        assert first.stdout is not None
        assert await first.stdout.readline() == b"done\n"
        second = await start()
        _, told = await second.communicate(b"")
        _, silent = await first.communicate(b"")
    assert silent == b""
    assert told.count(b"Pool.shared()") == 1
    assert b"calls run in batches of 1.0, and 1 other processes" in told


async def test_batches_that_work_are_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """With many callers in one process nothing is said, whoever else has a pool."""
    async with Pool(workers=1) as pool:
        for _ in range(2):  # at first none of them has run, so nothing is known of batches
            calls = (pool.run(work.square_all, 2) for _ in range(siblings.MIN_CALLS))
            await asyncio.gather(*calls)
        assert pool.stats().mean_batch > siblings.MAX_BATCH_TO_WARN
        await asyncio.get_running_loop().shutdown_default_executor()
    assert caplog.records == []
