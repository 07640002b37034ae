"""Requests that do not come whole: what a server keeps of them, and whom it cuts off."""

import asyncio
import json
from pathlib import Path

import pytest

from devnest.cluster.connections import MAX_HEAD_BYTES
from devnest.cluster.receive_buffers import ReceiveBuffers
from tests.cluster.test_connections import (
    BODY,
    GET,
    LENGTH,
    POST,
    Serving,
    on_uvloop,
    rest,
    serving,
)

PIECE = 60_000
LONG = b"content-length: 150000\r\n\r\n"


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for ten pieces, of which four are to be free after a cut."""
    monkeypatch.setattr("devnest.cluster.receive_buffers.MAX_UNFINISHED_BYTES", 10 * PIECE + 5000)
    monkeypatch.setattr("devnest.cluster.receive_buffers.MIN_FREE_BYTES", 4 * PIECE)


async def held(at: Serving, size_bytes: int) -> None:
    """Wait until the server has so much."""
    while at.server.receive_buffers.held_bytes < size_bytes:
        await asyncio.sleep(0)


@pytest.mark.parametrize("begun", [GET[:-2] + b"x: ", POST + LONG], ids=["heads", "bodies"])
@on_uvloop
async def test_a_server_keeps_a_bounded_amount_of_what_never_ends(
    begun: bytes, tmp_path: Path
) -> None:
    """However many connections send all but the end: the oldest are cut off, and who comes then
    is answered.
    """
    assert len(begun) + PIECE < MAX_HEAD_BYTES
    async with serving(tmp_path) as at:
        buffers: ReceiveBuffers = at.server.receive_buffers
        stalled = []
        for number in range(10):
            reader, writer = await at.connect()
            writer.write(begun)
            await asyncio.sleep(0)
            writer.write(b"y" * PIECE)
            await held(at, (number + 1) * PIECE)
            stalled.append((reader, writer))
        assert buffers.connections_cut == 0
        reader, writer = await at.connect()
        writer.write(POST + LENGTH + BODY[:5])
        await asyncio.sleep(0)
        another_reader, another = await at.connect()
        another.write(begun + b"y" * PIECE)
        assert await rest(stalled[0][0]) == b""
        assert buffers.held_bytes <= 6 * PIECE + 5000
        assert 4 <= buffers.connections_cut <= 6
        writer.write(BODY[5:])
        assert b" 201 " in await reader.readuntil(b"hello")
        for _, each in (*stalled, (another_reader, another), (reader, writer)):
            each.close()
        await at.is_empty()
        assert buffers.held_bytes == 0


@on_uvloop
async def test_what_came_whole_or_is_not_kept_is_not_counted(tmp_path: Path) -> None:
    """Any number of requests on one connection, also with bodies that no route reads, leave
    nothing.
    """
    async with serving(tmp_path) as at:
        reader, writer = await at.connect()
        text = json.dumps({"body": "y" * 1500}).encode()
        for _ in range(3):
            writer.write(POST + b"content-length: %d\r\n\r\n" % len(text))
            await asyncio.sleep(0)
            writer.write(text)
            await reader.readuntil(b"y" * 1500)
            assert at.server.receive_buffers.held_bytes == 0
        writer.write(POST.replace(b"echo", b"unread") + LONG)
        await reader.readuntil(b"unread")
        writer.write(b"y" * 600_000)
        await writer.drain()
        assert at.server.receive_buffers.held_bytes == 0
        writer.close()
