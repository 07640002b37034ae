"""The HTTP/1.1 connection against servers that behave, misbehave, or do something else
altogether.
"""

import asyncio

import pytest

from devnest.load.connection import MAX_BODY_BYTES, MAX_HEAD_BYTES, Connection
from devnest.load.target import Target as Url
from devnest.load.user import Session, VirtualUser
from tests.load.targets import Handler, Request, answer, constantly, serving

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def visited(
    handler: Handler, visits: int = 1, *, timeout_s: float = 5.0
) -> tuple[VirtualUser, list[tuple[int, str]]]:
    """What one VU got from `visits` requests: statuses, and the reasons of failures that were
    counted.
    """
    async with serving(handler) as target:
        url = Url.parse(target.url)
        session = Session(await url.reached(), seed=1, timeout_s=timeout_s, run_tag="t")
        timekeeper = asyncio.create_task(session.enforce_timeouts())
        vu = VirtualUser(session)
        answers = [await vu.request("route", "GET", "/") for _ in range(visits)]
        vu.close()
        timekeeper.cancel()
        return vu, [(found.status, found.reason) for found in answers]


async def split(request: Request, writer: asyncio.StreamWriter) -> bool:
    """An answer that comes byte by byte."""
    for byte in answer(200, b"slowly"):
        writer.write(bytes([byte]))
        await writer.drain()
    return True


async def silent(request: Request, writer: asyncio.StreamWriter) -> bool:
    await asyncio.sleep(60)
    return False


BAD = {
    "garbage": (constantly(b"\x00\x01 what is HTTP?\r\n\r\n"), "not HTTP/1.1"),
    "closes at once": (constantly(b"", keep=False), "connection closed"),
    "closes in the middle": (
        constantly(answer(200, b"0123456789")[:-4], keep=False),
        "connection closed",
    ),
    "bad chunk": (constantly(CHUNKED + b"zz\r\nhello\r\n"), "not HTTP/1.1"),
    "huge body": (constantly(answer(200, b"x" * (MAX_BODY_BYTES + 1))), "body over 8 MiB"),
    "endless header": (
        constantly(b"HTTP/1.1 200 OK\r\nX: " + b"y" * (MAX_HEAD_BYTES + 1)),
        "headers over 256 KiB",
    ),
    "endless interim answers": (
        constantly(b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_HEAD_BYTES // 25 + 1)),
        "headers over 256 KiB",
    ),
    "endless chunks": (
        constantly(CHUNKED + b"100000\r\n" + b"x" * 0x100000 + b"\r\n" + b"100000\r\n" + b"x" * 99),
        "",
    ),
    "switches protocols": (
        constantly(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"
        ),
        "",
    ),
    "says nothing": (silent, "no answer within 0.3 s"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_answer_is_a_counted_failure_and_the_next_request_has_a_new_connection(
    name: str,
) -> None:
    """No exception, no hang: status 0, a reason, and a connection that is not used again."""
    handler, reason = BAD[name]
    vu, answers = await visited(handler, 2, timeout_s=0.3)
    assert [status for status, _ in answers] == [0, 0]
    assert all(found.startswith(reason) and found for _, found in answers)
    figures = vu.session.tally.take()
    assert [(route, status, expected) for route, status, expected, _ in figures.durations] == [
        ("route", 0, False)
    ]
    assert len(figures.connecting) == 2 * 8  # doubles: two connections
    assert sum(count for _, _, count in figures.errors) == 2


GOOD = {
    "whole": constantly(answer(200, b"hello")),
    "byte by byte": split,
    "chunked": constantly(CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
    "interim answer first": constantly(
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + answer(200)
    ),
    "no body": constantly(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
}


@pytest.mark.parametrize("name", GOOD)
async def test_good_answers_share_one_connection(name: str) -> None:
    """A VU keeps its connection as long as the server does."""
    vu, answers = await visited(GOOD[name], 3)
    assert answers == [(200, "")] * 3
    assert len(vu.session.tally.take().connecting) == 8


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(answer(200, b"bye", extra="Connection: close\r\n"), id="with a length"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nuntil the end", id="until the end"),
    ],
)
async def test_an_answer_that_ends_with_its_connection_counts(data: bytes) -> None:
    """A server may close after each answer; that is no failure, only a new connection each time."""
    vu, answers = await visited(constantly(data, keep=False), 2)
    assert answers == [(200, ""), (200, "")]
    assert len(vu.session.tally.take().connecting) == 2 * 8


async def test_a_second_answer_is_never_taken_for_the_next_one() -> None:
    """Whatever comes unasked ends the connection: a caller never gets what was meant for
    another.
    """
    handler = constantly(answer(200, b"mine") + answer(200, b"not mine"))
    async with serving(handler) as target:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: Connection(loop), "127.0.0.1", target.port
        )
        found = await connection.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (found.status, found.body) == (200, b"mine")
        assert not connection.is_open


HEADS = {
    "with a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", 1),
    "chunked": (CHUNKED, 1),
    "empty": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 1),
    "interim answer first": (
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
        1,
    ),
    "closes": (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n", 2),
    "with a body all the same": (answer(200), 2),
}


@pytest.mark.parametrize("name", HEADS)
async def test_an_answer_to_head_has_no_body(name: str) -> None:
    """Whatever its headers say.

    The next request gets its own answer, on the same connection where there is one.
    """
    head, connections = HEADS[name]

    async def handle(request: Request, writer: asyncio.StreamWriter) -> bool:
        writer.write(head if request.method == "HEAD" else answer(200, b"hello"))
        return connections == 1 or request.method != "HEAD"

    async with serving(handle) as target:
        session = Session(await Url.parse(target.url).reached(), seed=1, timeout_s=5, run_tag="t")
        timekeeper = asyncio.create_task(session.enforce_timeouts())
        vu = VirtualUser(session)
        answers = [
            await vu.request("route", method, "/") for method in ("HEAD", "HEAD", "GET", "HEAD")
        ]
        vu.close()
        timekeeper.cancel()
    assert [(found.status, found.body, found.reason) for found in answers] == [
        (200, b"", ""), (200, b"", ""), (200, b"hello", ""), (200, b"", ""),
    ]  # fmt: skip
    assert len(session.tally.take().connecting) == 8 * (1 if connections == 1 else 3)


async def test_a_late_answer_meets_no_other_request() -> None:
    """After the time limit the connection is gone, and its answer with it."""
    begun = 0

    async def slow_then_quick(request: Request, writer: asyncio.StreamWriter) -> bool:
        nonlocal begun
        begun += 1
        if begun == 1:
            await asyncio.sleep(0.6)
        writer.write(answer(200, b"first" if begun == 1 else b"second"))
        return True

    _, answers = await visited(slow_then_quick, 2, timeout_s=0.3)
    assert answers == [(0, "no answer within 0.3 s"), (200, "")]


async def test_a_target_that_leaves_is_counted_and_not_hammered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A refused connection is a failed request, followed by a pause."""
    monkeypatch.setattr("devnest.load.user._BACKOFF_S", 0.0)
    async with serving(constantly(answer(200))) as target:
        session = Session(await Url.parse(target.url).reached(), seed=1, timeout_s=1, run_tag="t")
    found = await VirtualUser(session).request("route", "GET", "/")
    assert (found.status, found.reason) == (0, "cannot connect: Connection refused")


@pytest.mark.parametrize(
    ("content_type", "body", "reason"),
    [
        ("text/html", b"<p>hello</p>", "content type text/html instead of JSON"),
        ("application/json", b"{not json", "body not as the contract says"),
        ("application/json", b'{"items": 3}', "body not as the contract says"),
        ("application/json", b"\xff\xfe", "body not as the contract says"),
    ],
)
async def test_an_answer_with_the_wrong_content_fails_its_check(
    content_type: str, body: bytes, reason: str
) -> None:
    """Status 200 is not enough."""
    async with serving(constantly(answer(200, body, content_type=content_type))) as target:
        session = Session(await Url.parse(target.url).reached(), seed=1, timeout_s=1, run_tag="t")
        vu = VirtualUser(session)
        assert not await vu.feed()
        vu.close()
    figures = session.tally.take()
    assert ("feed has the right body", 0, 1) in figures.checks
    assert figures.errors == [("feed", reason, 1)]
