"""An HTTP client that uses little CPU and can choose its address on the loopback."""

import asyncio
import time

import httptools
import msgspec


class Client(asyncio.Protocol):
    """One keep-alive connection from one address; one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.waiter: asyncio.Future[int] | None = None
        self.body = b""
        self.port = 0  # its own

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.port = transport.get_extra_info("sockname")[1]
        self.parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.body = b""

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        if not self.parser.should_keep_alive():
            self.transport.close()
        if (
            self.waiter is not None and not self.waiter.done()
        ):  # its request was given up at the end
            self.waiter.set_result(self.parser.get_status_code())

    def connection_lost(self, _error: Exception | None) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(0)

    async def request(self, request: bytes) -> tuple[int, float]:
        """Return the status, 0 for a broken connection, and the milliseconds it took."""
        self.waiter = asyncio.get_running_loop().create_future()
        started = time.perf_counter()
        self.transport.write(request)
        return await self.waiter, (time.perf_counter() - started) * 1000


def http(method: str, path: str, body: object = None, token: str = "") -> bytes:
    """Return a request as bytes."""
    content = b"" if body is None else msgspec.json.encode(body)
    head = f"{method} /api/v1{path} HTTP/1.1\r\nhost: bench\r\n"
    if content:
        head += f"content-type: application/json\r\ncontent-length: {len(content)}\r\n"
    if token:
        head += f"authorization: Bearer {token}\r\n"
    return head.encode() + b"\r\n" + content


async def connected(port: int, address: str = "127.0.0.1") -> Client:
    """Connect to DevNest on this machine from one of its loopback addresses."""
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(Client, "127.0.0.1", port, local_addr=(address, 0))
    return client
