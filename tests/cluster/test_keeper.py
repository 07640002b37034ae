"""A keeper keeps its place filled, and gives up on a child that cannot start."""

import asyncio
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from devnest.cluster.child import Child, ChildFailed
from devnest.cluster.keeper import MAX_FAILED_STARTS, Keeper
from devnest.cluster.start import SUPERVISOR_SIGNALS
from devnest.process_registry import ProcessRegistry
from devnest.shared_memory import SharedMemory
from tests.support import PATIENCE_S

MODULE = """
import os
from pathlib import Path
import msgspec
from devnest.cluster.control import Control
def main(fd):
    count = Path(__file__).with_name("count")
    count.write_text(str(int(count.read_text()) + 1 if count.exists() else 1))
    control = Control(fd)
    how = control.settings(dict)["how"]
    if how == "good" or int(count.read_text()) == 1:
        control.ready()
        control._socket.recv(1)
    elif how == "exits":
        os._exit(7)
    elif how == "says why":
        control.failed(4, "no luck")
    elif how == "garbage":
        control._socket.sendall(b"\\xff not json\\n")
"""


class Settings(msgspec.Struct):
    """What the module is told."""

    how: str


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that children run."""
    (tmp_path / "some_child.py").write_text(MODULE.replace("\\\\", "\\"))
    monkeypatch.syspath_prepend(str(tmp_path))
    return "some_child"


def registry() -> ProcessRegistry:
    """One that nobody reads."""
    return ProcessRegistry(SharedMemory.create())


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """This process can open nothing; what is open stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def filled(module: str, how: str) -> tuple[Keeper, "asyncio.Future[ChildFailed]"]:
    """A keeper whose first child is ready, and where it says that it gave up."""
    keeper = Keeper(lambda: Child("child", module), lambda: Settings(how), registry())
    await keeper.spawn()
    await keeper.make_ready()
    gave_up: asyncio.Future[ChildFailed] = asyncio.get_running_loop().create_future()
    keeper.keep(gave_up.set_result)
    return keeper, gave_up


async def test_a_killed_child_is_replaced(module: str, tmp_path: Path) -> None:
    """Again and again, and by whatever signal: that with the number 40 has no name."""
    keeper, gave_up = await filled(module, "good")
    with capture_logs() as log:
        for number in (signal.SIGKILL, 40):
            killed = keeper.child
            os.kill(killed.pid, number)
            while keeper.child is killed or not keeper.child.is_ready:
                await asyncio.sleep(0.01)
            assert keeper.child.pid != killed.pid
    assert [line["how"] for line in log if line["event"] == "child died"] == [
        "by SIGKILL",
        "by signal 40",
    ]
    await keeper.stop(60)
    assert keeper.child.has_ended()
    assert not gave_up.done()


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("exits", "with status 7"),
        ("says why", "no luck"),
        ("garbage", "its report cannot be read"),
    ],
)
async def test_a_child_that_never_starts_is_given_up(
    module: str, how: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """After several tries, with the reason."""
    monkeypatch.setattr("devnest.cluster.keeper.MIN_BACKOFF_S", 0.001)
    keeper, gave_up = await filled(module, how)
    keeper.child.kill()
    error = await gave_up
    assert reason in str(error)
    assert error.status == (4 if how == "says why" else 1)
    await keeper.stop(60)


async def test_a_child_that_fails_at_first_says_so(tmp_path: Path) -> None:
    """A module that does not exist."""
    keeper = Keeper(
        lambda: Child("child", "devnest.no_such_module"), lambda: Settings("good"), registry()
    )
    await keeper.spawn()
    with pytest.raises(ChildFailed, match="before it was ready, with status 1"):
        await keeper.make_ready()
    await keeper.stop(60)


async def test_a_child_that_cannot_be_spawned_is_tried_again(
    module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A machine that has no process or descriptor to spare has some later: the keeper does not
    give up.
    """
    monkeypatch.setattr("devnest.cluster.keeper.MIN_BACKOFF_S", 0.001)
    keeper, gave_up = await filled(module, "good")
    tried = {keeper.child}
    with no_descriptor_left():
        keeper.child.kill()
        async with asyncio.timeout(PATIENCE_S):
            while len(tried) < 2 + MAX_FAILED_STARTS:
                tried.add(keeper.child)
                await asyncio.sleep(0.0005)
    while not keeper.child.is_ready:
        await asyncio.sleep(0.01)
    assert keeper.child not in tried
    assert not gave_up.done()
    await keeper.stop(60)


async def test_a_slot_whose_child_cannot_be_spawned_can_be_left(
    module: str, tmp_path: Path
) -> None:
    """There is no process to wait for."""
    keeper, _ = await filled(module, "good")
    with no_descriptor_left():
        killed = keeper.child
        killed.kill()
        async with asyncio.timeout(PATIENCE_S):
            while keeper.child is killed:
                await asyncio.sleep(0.001)
        await keeper.stop(60)
    assert keeper.child.has_ended()


async def test_a_child_that_no_thread_can_wait_for_fails(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    """Threads count as processes to the limits of a container."""

    async def no_thread(*_: object, **__: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("asyncio.create_subprocess_exec", no_thread)
    child = Child("child", module)
    with pytest.raises(ChildFailed, match="can't start new thread") as raised:
        await child.spawn()
    assert raised.value.transient
    await child.stop(60)


@pytest.mark.parametrize("number", SUPERVISOR_SIGNALS)
async def test_a_signal_for_the_supervisor_is_nothing_to_a_child_that_begins(
    module: str, number: signal.Signals
) -> None:
    """It arrives before the interpreter has come as far as to ignore it."""
    child = Child("child", module)
    await child.spawn()
    os.kill(child.pid, number)
    child.configure(Settings("good"))
    await child.wait_ready()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) & set(SUPERVISOR_SIGNALS) == set()
    await child.stop(60)


@pytest.mark.parametrize("turns", range(6))
async def test_a_slot_can_be_left_while_its_child_is_being_started(
    tmp_path: Path, module: str, turns: int
) -> None:
    """Whatever turn of the event loop the stop comes in, nothing stays and nothing is raised."""
    keeper = Keeper(lambda: Child("child", module), lambda: Settings("good"), registry())
    starting = asyncio.create_task(keeper.spawn())
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait((starting,))
    await keeper.stop(60)
    assert keeper.child.has_ended()
