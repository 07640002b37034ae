"""Small real servers to aim the load generator at: a scripted one, and one with DevNest's four
routes.
"""

import asyncio
import base64
import contextlib
import ssl
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

JSON = "application/json"


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Target:
    """What a test knows of the server it started."""

    port: int = 0
    tls: bool = False
    requests: list[Request] = field(default_factory=list)
    visited: asyncio.Event = field(default_factory=asyncio.Event)  # set at the first request
    peers: set[str] = field(default_factory=set)  # source addresses of the connections

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"


Handler = Callable[[Request, asyncio.StreamWriter], Awaitable[bool]]


def answer(status: int, body: bytes = b"{}", *, content_type: str = JSON, extra: str = "") -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


@asynccontextmanager
async def serving(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Target]:
    """Serve on a free port; `handler` writes the answer and says whether the connection stays."""
    target = Target(tls=tls is not None)
    open_connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_connections.add(task)
        task.add_done_callback(open_connections.discard)
        target.peers.add(writer.get_extra_info("peername")[0])
        with contextlib.suppress(
            ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError
        ):
            while True:
                request = await _read(reader)
                target.requests.append(request)
                target.visited.set()
                keep = await handler(request, writer)
                if not keep:
                    break
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls, backlog=1024)
    target.port = server.sockets[0].getsockname()[1]
    try:
        yield target
    finally:
        server.close()
        for task in list(open_connections):
            task.cancel()
        if open_connections:
            await asyncio.wait(open_connections)


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head[1:-2])
    }
    return Request(
        method, path, headers, await reader.readexactly(int(headers.get("content-length", "0")))
    )


def constantly(data: bytes, *, keep: bool = True, delay_s: float = 0.0) -> Handler:
    """Every request gets these bytes."""

    async def handle(request: Request, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(delay_s)
        writer.write(data)
        return keep

    return handle


class DevNest:
    """DevNest's routes with a dictionary behind them.

    `wrong` names a route that answers with someone else's.
    """

    def __init__(
        self, *, wrong: str = "", sign_ins_at_once: int | None = None, hash_s: float = 0.0
    ) -> None:
        self.accounts: dict[str, dict[str, str]] = {}  # by email
        self.posts: list[dict[str, Any]] = []
        self._wrong = wrong
        self._hash_s = hash_s
        self._free = sign_ins_at_once

    async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        body = msgspec.json.decode(request.body) if request.body else {}
        match request.method, request.path:
            case "POST", "/api/v1/auth/register":
                writer.write(self._register(body))
            case "POST", "/api/v1/auth/login":
                writer.write(await self._login(body))
            case "POST", "/api/v1/posts":
                writer.write(
                    self._post(request.headers["authorization"].removeprefix("Bearer "), body)
                )
            case "GET", "/api/v1/posts":
                page = {"items": self.posts[-20:], "next_cursor": None}
                writer.write(answer(200, msgspec.json.encode(page)))
            case _:
                writer.write(answer(404))
        return True

    def _register(self, body: dict[str, str]) -> bytes:
        if body["email"] in self.accounts:
            return answer(409)
        account = {"id": str(uuid.uuid4()), **body}
        self.accounts[body["email"]] = account
        username = "somebody" if self._wrong == "register" else account["username"]
        shown = {"id": account["id"], "username": username, "email": account["email"]}
        return answer(201, msgspec.json.encode(shown))

    async def _login(self, body: dict[str, str]) -> bytes:
        account = self.accounts.get(body["email"])
        if account is None or account["password"] != body["password"]:
            return answer(401)
        if self._free == 0:
            return answer(503, extra="Retry-After: 1\r\n")
        if self._free is not None:
            self._free -= 1
        await asyncio.sleep(self._hash_s)
        if self._free is not None:
            self._free += 1
        subject = "somebody" if self._wrong == "login" else account["id"]
        tokens = {
            "access_token": token(subject),
            "token_type": "bearer",
            "expires_in": 900,
            "refresh_token": "r",
        }
        return answer(200, msgspec.json.encode(tokens))

    def _post(self, bearer: str, body: dict[str, Any]) -> bytes:
        payload = msgspec.json.decode(base64.urlsafe_b64decode(bearer.split(".")[1] + "=="))
        author = "somebody" if self._wrong == "post" else payload["sub"]
        post = {"id": str(uuid.uuid4()), "author": {"id": author, "username": "x"}, **body}
        self.posts.append(post)
        return answer(201, msgspec.json.encode(post))


def token(subject: str) -> str:
    payload = base64.urlsafe_b64encode(msgspec.json.encode({"sub": subject})).decode().rstrip("=")
    return f"e30.{payload}.c2ln"
