"""Writes that leave together, on a real socket."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from devnest.cluster.send_buffers import SendBuffers
from devnest.cluster.write_coalescing import CoalescingTransport


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[CoalescingTransport, socket.socket]]:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    with theirs:
        yield CoalescingTransport(transport, loop, SendBuffers()), theirs
        transport.abort()
        await asyncio.sleep(0)


async def test_what_is_written_in_a_turn_arrives_in_order_after_it() -> None:
    """Held until then, and counted as not sent."""
    async with pair() as (corked, client):
        corked.write(b"head ")
        corked.write(b"")
        corked.write(b"body")
        assert corked.get_write_buffer_size() == 9
        assert not corked.is_closing()
        received = await asyncio.get_running_loop().sock_recv(client, 100)
        assert (
            received == b"head body"
        )  # one send: a stream of Unix is read as it was sent, up to the buffer's size
        assert corked.get_write_buffer_size() == 0
        corked.write(b"next")
        assert await asyncio.get_running_loop().sock_recv(client, 100) == b"next"


async def test_a_close_sends_what_is_held() -> None:
    """At once, and then the end."""
    async with pair() as (corked, client):
        corked.write(b"last ")
        corked.write(b"words")
        corked.close()
        loop = asyncio.get_running_loop()
        assert await loop.sock_recv(client, 100) == b"last words"
        assert await loop.sock_recv(client, 100) == b""


async def test_after_an_abort_nothing_is_sent() -> None:
    """Nor does anything raise."""
    async with pair() as (corked, client):
        corked.write(b"never")
        corked.abort()
        assert await asyncio.get_running_loop().sock_recv(client, 100) == b""
