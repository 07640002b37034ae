"""A transport whose writes of one turn of the event loop leave together.

uvicorn writes an answer's head and body apart, and uvloop sends each write at once: two system calls, two segments, and
a client that wakes up twice. For a light request that is as much work as all the rest.
"""

import asyncio
from typing import Any

from devnest.cluster.send_buffers import SendBuffers

__all__ = ["CoalescingTransport"]


class CoalescingTransport:
    """Wraps a transport; what it does not change is the transport's own.

    What is written is held for the rest of the turn at most, and never behind a close. What does not leave then counts
    as unsent.
    """

    __slots__ = ("_held", "_loop", "_send_buffers", "_transport")

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        send_buffers: SendBuffers,
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._send_buffers = send_buffers
        self._held: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send soon."""
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)

    def get_write_buffer_size(self) -> int:
        """Bytes that the client has yet to take."""
        return self._transport.get_write_buffer_size() + sum(map(len, self._held))

    def close(self) -> None:
        """Send what was written, and that is the end."""
        self._flush()
        self._transport.close()

    def cut_off(self) -> None:
        """The client does not read: end the connection, and forget what was written."""
        self._held.clear()
        self._send_buffers.cut_off(self._transport)

    def _flush(self) -> None:
        held, self._held = self._held, []
        if held and not self._transport.is_closing():
            self._transport.writelines(held)
            if self._transport.get_write_buffer_size():
                self._send_buffers.wrote(self._transport, sum(map(len, held)))
