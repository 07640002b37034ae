"""Asks a target, before a run of a profile that needs a DevNest, whether it is one.

Every failure is told in one line: what was found, and at which path. Most of them are a wrong port
or a wrong scheme.
"""

import asyncio
import contextlib
import re
import ssl
from dataclasses import dataclass, replace

import msgspec

from devnest.load.connection import Answer, Connection
from devnest.load.errors import NotDevNest, TargetUnreachable, connect_failure
from devnest.load.request import encoded
from devnest.load.target import CONNECT_TIMEOUT_S, Target

__all__ = ["need_devnest", "reached"]

PATH = "/api/v1/posts"
_MAX_ANSWER_S = 15.0
_MAX_SHOWN_CHARS = 60
_TITLE = re.compile(rb"<title[^>]*>([^<]{1,300})", re.IGNORECASE)
_BUSY_STATUS = 429  # this and 5xx: the run itself shows how such a target responds


class _Page(msgspec.Struct):
    items: list[msgspec.Raw]
    next_cursor: str | None


class _Greeting(Connection):
    """A connection that also remembers the server's name and the first bytes that it sent."""

    __slots__ = ("first", "server")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.first = b""
        self.server = ""

    def data_received(self, data: bytes) -> None:
        self.first = self.first or data[:_MAX_SHOWN_CHARS]
        super().data_received(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"server":
            self.server = value.decode("latin-1")
        super().on_header(name, value)


@dataclass(frozen=True, slots=True)
class _Found:
    answer: Answer | None  # None: there was no answer in time
    server: str
    first: bytes


async def reached(target: Target, timeout_s: float) -> Target:
    """Return `target` with an address that accepts connections.

    Raises:
        TargetUnreachable: There is none; where an https:// target speaks plain HTTP, it says so.
    """
    try:
        return await target.reached(timeout_s)
    except TargetUnreachable:
        if not (target.tls and await _speaks_http(target, timeout_s)):
            raise
    raise TargetUnreachable(f"{target.url} speaks plain HTTP; use http:// instead of https://")


async def need_devnest(target: Target, timeout_s: float) -> None:
    """Check that `target`, whose address is known, answers as a DevNest does.

    Raises:
        NotDevNest: It does not.
    """
    try:
        found = await _ask(target, min(timeout_s, _MAX_ANSWER_S))
    except OSError as error:
        raise NotDevNest(f"{target.url} is no DevNest: {connect_failure(error)}") from None
    answer = found.answer
    if answer is None:
        raise NotDevNest(
            f"{target.url} did not answer GET {target.base_path}{PATH} within "
            f"{min(timeout_s, _MAX_ANSWER_S):g} s: it is no DevNest, or one that is far too busy"
        )
    if answer.status == 0:
        raise NotDevNest(f"{target.url} is no DevNest: {await _no_answer(target, found)}")
    if answer.status == _BUSY_STATUS or answer.status >= 500:
        return
    if not (answer.status == 200 and answer.is_json and _is_page(answer.body)):
        path = f"{target.base_path}{PATH}"
        raise NotDevNest(f"{target.url} is no DevNest: GET {path} gave {_words(found)}")


async def _speaks_tls(target: Target) -> bool:
    """Return whether a TLS handshake with the target succeeds, with any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with contextlib.suppress(OSError):
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(
                target.address, target.port, ssl=context, server_hostname=target.host
            )
        writer.transport.abort()
        return True
    return False


async def _speaks_http(target: Target, timeout_s: float) -> bool:
    """Return whether the target answers plain HTTP."""
    with contextlib.suppress(OSError, TargetUnreachable):
        plain = await replace(target, tls=False).reached(timeout_s)
        found = await _ask(plain, min(timeout_s, CONNECT_TIMEOUT_S))
        return found.first.startswith(b"HTTP/")
    return False


async def _ask(target: Target, timeout_s: float) -> _Found:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        _, connection = await loop.create_connection(
            lambda: _Greeting(loop),
            target.address,
            target.port,
            ssl=target.ssl_context(),
            server_hostname=target.host if target.tls else None,
        )
    try:
        if not connection.is_open:  # it spoke first, as SSH does
            return _Found(_closed(), "", connection.first)
        answering = connection.send(encoded(target, "", "GET", PATH))
        with contextlib.suppress(TimeoutError):
            answer = await asyncio.wait_for(answering, timeout_s)
            return _Found(answer, connection.server, connection.first)
        return _Found(None, connection.server, connection.first)
    finally:
        connection.abort()


def _closed() -> Answer:
    return Answer(0, b"", "", "", 0.0, "not HTTP/1.1")


async def _no_answer(target: Target, found: _Found) -> str:
    """Return why there was no complete HTTP response."""
    if not target.tls and not found.first.startswith(b"HTTP/") and await _speaks_tls(target):
        return "the port speaks TLS; use https:// instead of http://"
    assert found.answer is not None
    said = ""
    if found.first and not found.first.startswith(b"HTTP/"):
        text = _shown(found.first.decode("ascii", "replace"))
        said = f"; it said {text!r}"
    return f"GET {target.base_path}{PATH} got no HTTP response ({found.answer.reason}{said})"


def _is_page(body: bytes) -> bool:
    try:
        msgspec.json.decode(body, type=_Page)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _words(found: _Found) -> str:
    """Return what was found, as the end of a sentence."""
    answer = found.answer
    assert answer is not None
    kind = answer.content_type.partition(";")[0].strip() or "no content type"
    what = f"status {answer.status} with {_shown(kind)}"
    if title := _TITLE.search(answer.body):
        what += f" ({_shown(title[1].decode('utf-8', 'replace'))!r})"
    if found.server:
        what += f" from {_shown(found.server)!r}"
    hint = "a page of posts as JSON was expected"
    if 300 <= answer.status < 400:
        hint = "a redirect, which is not followed: give the URL it leads to"
    return f"{what}; {hint}"


def _shown(text: str) -> str:
    """Return text of a stranger on one line, without control characters, and short."""
    printable = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(printable.split())[:_MAX_SHOWN_CHARS]
