"""Every test of the pool proves that it leaves nothing behind."""

import asyncio
import contextlib
import gc
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
import uvloop

SETTLE_S = 10.0  # a bound for what should be gone already, never a wait that has to pass


def descriptors() -> dict[int, str]:
    """Return this process's open descriptors and what they are."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[int(entry.name)] = str(entry.readlink())
        except OSError:  # the listing's own
            continue
    return found


_strangers: set[int] = (
    set()
)  # children of this process from before the test: a DevNest that other tests share


def children() -> set[int]:
    """Return the processes that the test has started and theirs, zombies too."""
    found = set()
    for child in psutil.Process().children():
        if child.pid not in _strangers:
            with contextlib.suppress(psutil.NoSuchProcess):
                found |= {
                    child.pid,
                    *(grandchild.pid for grandchild in child.children(recursive=True)),
                }
    return found


@pytest.fixture(scope="session", autouse=True)
def loops_are_warm() -> None:
    """Let uvloop open, once, what it keeps for all its loops."""
    uvloop.new_event_loop().close()


@pytest.fixture(scope="module", autouse=True)
def modules_are_no_garbage() -> Iterator[None]:
    """Leave to the collections after each test only what is new: the rest is modules, and takes
    0.2 s each time.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
async def nothing_is_left() -> AsyncIterator[None]:
    """Fail a test that leaves a process, a thread or a descriptor."""
    _strangers.clear()
    _strangers.update(child.pid for child in psutil.Process().children())
    fds_before, threads_before = descriptors(), threading.active_count()
    yield
    await asyncio.get_running_loop().shutdown_default_executor()
    give_up_at = time.monotonic() + SETTLE_S
    while True:
        gc.collect()
        fds = {fd: what for fd, what in descriptors().items() if fds_before.get(fd) != what}
        extra = children()
        threads = threading.active_count() - threads_before
        if not fds and not extra and threads <= 0:
            return
        if time.monotonic() > give_up_at:
            pytest.fail(f"left behind: descriptors {fds}, processes {extra}, {threads} threads")
        await asyncio.sleep(0.01)


@pytest.fixture
def socket_path() -> Iterator[Path]:
    """Return a short path for a pool's socket, in a directory of the test's own.

    It is gone after the server.
    """
    directory = Path(tempfile.mkdtemp(prefix="pool-"))
    yield directory / "pool.sock"
    left = list(directory.iterdir())
    shutil.rmtree(directory)
    assert left == []
