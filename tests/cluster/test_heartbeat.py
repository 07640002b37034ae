"""Children whose event loop hangs: they fall silent, and are replaced."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest
import uvloop

from devnest.cluster import child as child_module
from devnest.cluster.child import Child
from devnest.cluster.control import Control
from devnest.cluster.keeper import Keeper
from devnest.process_registry import ProcessRegistry, read_processes
from devnest.settings import PoolSettings
from devnest.shared_memory import SharedMemory
from tests.support import PATIENCE_S


async def test_a_loop_that_turns_is_heard() -> None:
    """One line that says ready, then a byte after another."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    control = Control(theirs.detach())
    control.ready()
    assert (await reader.readline()).startswith(b"{")
    for _ in range(2):
        assert await reader.readexactly(1) == b"."
    writer.close()
    await writer.wait_closed()
    control._socket.close()


def test_a_child_hears_of_an_end_though_its_last_beat_was_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On uvloop, on which servers run: the socket is reset then, and told of once only."""

    async def scenario() -> None:
        gone: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def leave(status: int) -> None:
            if not gone.done():
                gone.set_result(status)

        monkeypatch.setattr(os, "_exit", leave)
        ours, theirs = socket.socketpair()
        control = Control(theirs.detach())
        control.watch(lambda: None)
        control._send_heartbeat()
        ours.close()
        assert await asyncio.wait_for(gone, PATIENCE_S) == 0
        asyncio.get_running_loop().remove_reader(control._socket)
        control._socket.close()

    uvloop.run(scenario())


async def test_a_child_that_hangs_is_killed_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real pool process, stopped; the next one beats and stays."""
    monkeypatch.setattr(child_module, "HEARTBEAT_TIMEOUT_S", 6.0)
    settings = PoolSettings("pool", 1, str(tmp_path / "pool.sock"), 1, 0, "error")
    memory = SharedMemory.create()
    keeper = Keeper(
        lambda: Child("pool", "devnest.cluster.hashing_pool", (memory.fd,)),
        lambda: settings,
        ProcessRegistry(memory),
    )
    await keeper.spawn()
    await keeper.make_ready()
    failures: list[Exception] = []
    keeper.keep(failures.append)
    first = keeper.child
    try:
        os.kill(first.pid, signal.SIGSTOP)
        async with asyncio.timeout(120):
            assert await first.wait_end() == "by SIGKILL"
            while keeper.child is first or not keeper.child.is_ready:
                await asyncio.sleep(0.02)
        assert read_processes(memory).restarts == {"pool": 1}
    finally:
        await keeper.stop(30)
    assert not failures
