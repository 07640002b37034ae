"""Combines the writes of one turn of the event loop into one system call.

uvicorn writes the head and the body of a response separately, and uvloop sends each write at once.
That takes two system calls and two TCP segments, and wakes the client twice.
"""

import asyncio
from typing import Any

from devnest.cluster.send_buffers import SendBuffers

__all__ = ["CoalescingTransport"]


class CoalescingTransport:
    """Wraps a transport and delays its writes to the end of the event loop's turn.

    Closing sends delayed writes first. Everything else is passed on to the transport.

    Args:
        transport: The transport to wrap.
        loop: Its event loop.
        send_buffers: Counts what the kernel does not accept.
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
        """Send the data at the end of this turn of the event loop."""
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the kernel has not accepted, delayed writes included."""
        return self._transport.get_write_buffer_size() + sum(map(len, self._held))

    def close(self) -> None:
        """Send the delayed writes, then close."""
        self._flush()
        self._transport.close()

    def cut_off(self) -> None:
        """End the connection of a client that does not read, without sending the rest."""
        self._held.clear()
        self._send_buffers.cut_off(self._transport)

    def _flush(self) -> None:
        held, self._held = self._held, []
        if held and not self._transport.is_closing():
            self._transport.writelines(held)
            if self._transport.get_write_buffer_size():
                self._send_buffers.wrote(self._transport, sum(map(len, held)))
