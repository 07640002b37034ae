"""Heads that are no plain HTTP/1.1: other versions, other codings, other protocols, and offers
to speak those.
"""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from httptools import HttpParserUpgrade, HttpRequestParser
from hypothesis import given
from hypothesis import strategies as st

from devnest.cluster.request_heads import Fault, fault_of, without_upgrade
from tests.cluster.test_connections import (
    BODY,
    CHUNKED,
    GET,
    LENGTH,
    POST,
    on_uvloop,
    rest,
    serving,
)

END = b"host: x\r\n\r\n"
H2C = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"
WEBSOCKET = b"Upgrade: websocket\r\nConnection: keep-alive, upgrade\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
IN_CHUNKS = b"5\r\n%b\r\n%x;name=value\r\n%b\r\n0\r\n\r\n" % (BODY[:5], len(BODY) - 5, BODY[5:])
FRAMED = {"content-length": LENGTH + BODY, "chunked": CHUNKED + IN_CHUNKS}
LAST = GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")


def pieces(sent: bytes, size_bytes: int) -> Iterator[bytes]:
    """What is sent, so many bytes at a time; 0: all at once."""
    for begin in range(0, len(sent), size_bytes or len(sent)):
        yield sent[begin : begin + (size_bytes or len(sent))]


async def answered(tmp_path: Path, sent: bytes, size_bytes: int = 0) -> list[tuple[int, bytes]]:
    """Status and body of every answer to some bytes, until the server ends the connection."""
    async with serving(tmp_path) as at:
        reader, writer = await at.connect()
        for piece in pieces(sent, size_bytes):
            if writer.is_closing():
                break
            writer.write(piece)
            await asyncio.sleep(0)
        received = await rest(reader)
        writer.close()
    answers = []
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        answers.append((int(head[9:12]), received[:length]))
        received = received[length:]
    return answers


@pytest.mark.parametrize("size_bytes", [0, 1])
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /small\r\n", 400),
        (b"GET /small\r\n\r\n", 400),
        (b"GET /small HTTP/0.9\r\n" + END, 505),
        (b"GET /small HTTP/1.2\r\n" + END, 505),
        (b"GET /small HTTP/2.0\r\n" + END, 505),
        (b"GET /small HTTP/3.0\r\n" + END, 505),
        (b"GET /small HTTP/9.9\r\n" + END, 505),
        (b"GET /small HTTP/11.1\r\n" + END, 400),
        (b"GET /small HTTP/1.10\r\n" + END, 400),
        (b"GET /small HTTP/1\r\n" + END, 400),
        (b"GET /small http/1.1\r\n" + END, 400),
        (b"GET /small HTTP/1.1 \r\n" + END, 400),
        (b"GET /small RTSP/1.0\r\n" + END, 400),
        (b"\r\nGET  /small  RTSP/1.1\r\n" + END, 400),
        (b"OPTIONS * RTSP/2.0\r\n" + END, 400),
        (b"SOURCE /small ICE/1.0\r\n" + END, 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"CONNECT small:443 HTTP/1.1\r\n" + END, 501),
        (b"CONNECT small:443 HTTP/1.1\r\ncontent-length: 5\r\n" + END, 501),
        (b"GET /small#there HTTP/1.1\r\n" + END, 400),
        (b"GET http:///small HTTP/1.1\r\n" + END, 400),
        (b"GET /small HTTP/1.0\r\nhost: y\r\n" + END, 400),
    ],
)
@on_uvloop
async def test_only_http_1_is_answered(
    sent: bytes, status: int, size_bytes: int, tmp_path: Path
) -> None:
    """RFC 9112, 2.3 and 3. A problem that says what is wrong, then the end.

    What follows is not read.
    """
    ((got, body),) = await answered(tmp_path, sent + GET, size_bytes)
    problem = msgspec.json.decode(body)
    assert (got, problem["status"], problem["type"]) == (status, status, "urn:devnest:http")
    assert problem["detail"]


@on_uvloop
async def test_a_header_may_speak_of_rtsp(tmp_path: Path) -> None:
    """Only a request line is one."""
    agent = b"\r\nuser-agent: player RTSP/1.0\r\nx: GET / RTSP/1.0\r\n"
    assert await answered(tmp_path, LAST.replace(b"\r\n", agent, 1)) == [(200, b"small")]


@pytest.mark.parametrize("size_bytes", [0, 1, 50])
@pytest.mark.parametrize("framing", FRAMED)
@pytest.mark.parametrize(
    "line", [b"GET /small RTSP/1.1", b"GET  /small  RTSP/1.0", b"GET /small RTSP/2.0"]
)
@on_uvloop
async def test_no_other_protocol_follows_a_body(
    line: bytes, framing: str, size_bytes: int, tmp_path: Path
) -> None:
    """Its request line begins where the body ends, on no line of its own."""
    sent = POST + FRAMED[framing] + line + b"\r\n" + END
    assert [status for status, _ in await answered(tmp_path, sent, size_bytes)] in (
        [201, 400],
        [201],
    )


@pytest.mark.parametrize("size_bytes", [0, 1])
@on_uvloop
async def test_a_body_may_speak_of_rtsp(size_bytes: int, tmp_path: Path) -> None:
    """Also at the beginning of a chunk."""
    parts = (b'{"body": "', b"SETUP /small RTSP/1.0", b'"}', b"")
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    sent = POST + CHUNKED + chunks + LAST
    assert [status for status, _ in await answered(tmp_path, sent, size_bytes)] == [201, 200]


@pytest.mark.parametrize("size_bytes", [0, 1])
@pytest.mark.parametrize(
    ("codings", "statuses"),
    [
        (b"chunked", [201, 200]),
        (b"Chunked", [201, 200]),
        (b"gzip, chunked", [501]),
        (b", chunked", [501]),
        (b"chunked;q=1", [400]),
        (b"gzip", [400]),
        (b"identity", [400]),
        (b"chunked, gzip", [400]),
        (b"chunked, chunked", [400]),
        (b"chunked\r\ntransfer-encoding: chunked", [400]),
        (b"gzip\r\ntransfer-encoding: chunked", [501]),
        (b"chunked\r\ntransfer-encoding: gzip", [400]),
        (b"gzip,\r\ntransfer-encoding: chunked", [501]),
        (b"xchunked", [400]),
        (b"\x0bchunked", [400]),
        (b"chunked\r\ncontent-length: 3", [400]),
        (b"chunked\r\ncontent-length: %d" % len(BODY), [400]),
    ],
)
@on_uvloop
async def test_chunked_is_the_only_transfer_coding(
    codings: bytes, statuses: list[int], size_bytes: int, tmp_path: Path
) -> None:
    """RFC 9112, 6.1 and 6.3.

    Whoever else reads the request reads the same body, or it is refused.
    """
    sent = POST + b"transfer-encoding: " + codings + b"\r\n\r\n" + IN_CHUNKS + LAST
    assert [status for status, _ in await answered(tmp_path, sent, size_bytes)] == statuses


@on_uvloop
async def test_http_1_0_has_no_transfer_coding(tmp_path: Path) -> None:
    """RFC 9112, 6.1: a proxy that speaks 1.0 does not know where such a body ends."""
    sent = POST.replace(b"HTTP/1.1", b"HTTP/1.0") + FRAMED["chunked"] + LAST
    assert [status for status, _ in await answered(tmp_path, sent)] == [400]


@pytest.mark.parametrize("size_bytes", [0, 1, 50])
@pytest.mark.parametrize("framing", FRAMED)
@pytest.mark.parametrize("offer", [H2C, WEBSOCKET], ids=["h2c", "websocket"])
@on_uvloop
async def test_an_offer_of_another_protocol_is_answered_in_this_one(
    offer: bytes, framing: str, size_bytes: int, tmp_path: Path
) -> None:
    """RFC 9110, 7.8.

    The body arrives, the connection goes on, and every request on it may offer again.
    """
    asking = (POST + offer + FRAMED[framing], (b"GET /small HTTP/1.1\r\n" + offer + END), LAST)
    sent = b"".join((asking[0], asking[1], asking[0], asking[2]))
    assert await answered(tmp_path, sent, size_bytes) == [
        (201, b"hello"),
        (200, b"small"),
        (201, b"hello"),
        (200, b"small"),
    ]


@pytest.mark.parametrize("size_bytes", [0, 1])
@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/1.0"])
@pytest.mark.parametrize(
    "offer", [b"", H2C, H2C.replace(b"h2c", b"h2c\r\nupgrade: websocket"), WEBSOCKET]
)
@pytest.mark.parametrize(
    ("length", "chunked"),
    list(itertools.product((None, len(BODY), 0, len(BODY) + len(GET)), (False, True))),
)
@on_uvloop
async def test_no_request_hides_in_the_body_of_another(
    length: int | None, chunked: bool, offer: bytes, version: bytes, size_bytes: int, tmp_path: Path
) -> None:
    """Whatever is combined, there are as many answers as the framing has requests, or one
    refusal and the end.
    """
    framing = b"content-length: %d\r\n" % length if length is not None else b""
    framing += b"transfer-encoding: chunked\r\n" if chunked else b""
    hidden = BODY + GET
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden) if chunked else hidden
    sent = (
        POST.replace(b"HTTP/1.1", version).replace(b"echo", b"unread")
        + offer
        + framing
        + b"\r\n"
        + body
        + LAST
    )
    statuses = [status for status, _ in await answered(tmp_path, sent, size_bytes)]
    if chunked and (length is not None or version == b"HTTP/1.0"):
        assert statuses == [400]
    elif version == b"HTTP/1.0":
        assert statuses == [201]
    elif chunked or length == len(hidden):
        assert statuses == [201, 200]
    elif length == len(BODY):
        assert statuses == [201, 200, 200]
    else:  # what follows is no request: the body was not announced
        assert statuses in ([201, 400], [201])


NAMES = (
    st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1)
    .map(str.encode)
    .filter(lambda name: name not in (b"connection", b"content-length", b"transfer-encoding"))
)
VALUES = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f")
).map(lambda text: text.encode("latin-1"))
TARGETS = st.text("abc/?&=%._~-", min_size=1).map(lambda text: b"/" + text.encode())


class Head:
    """What a parser finds in a head."""

    def __init__(self, sent: bytes) -> None:
        self.target = b""
        self.headers = list[tuple[bytes, bytes]]()
        self.is_complete = False
        self.parser = HttpRequestParser(self)
        try:
            self.parser.feed_data(sent)
        except HttpParserUpgrade:
            self.is_upgrade = True
        else:
            self.is_upgrade = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.is_complete = True


@given(TARGETS, st.lists(st.tuples(NAMES, VALUES)), st.sampled_from([b"GET", b"POST", b"DELETE"]))
def test_a_head_without_its_offer_is_the_same_head(
    target: bytes, headers: list[tuple[bytes, bytes]], method: bytes
) -> None:
    """Whatever stands in it: method, target, version and all other headers, and it is a whole
    head.
    """
    lines = b"".join(b"%b: %b\r\n" % pair for pair in headers)
    first = Head(
        b"%b %b HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n%b\r\n" % (method, target, lines)
    )
    assert first.is_upgrade
    again = Head(without_upgrade(first.parser.get_method(), first.target, "1.1", first.headers))
    assert again.is_complete
    assert not again.is_upgrade
    assert (again.parser.get_method(), again.target, again.parser.get_http_version()) == (
        method,
        target,
        "1.1",
    )
    assert again.headers == [pair for pair in first.headers if pair[0] != b"upgrade"]


def test_a_fault_says_what_would_be_right() -> None:
    """One status for each kind."""
    assert fault_of("1.1", b"GET", b"/", [(b"host", b"x")], b"") is None
    assert fault_of("2.0", b"GET", b"/", [], b"") == Fault(
        505, "this server speaks HTTP/1.1 and HTTP/1.0"
    )


@pytest.mark.parametrize("size_bytes", [0, 1000])
@pytest.mark.parametrize(("count", "status"), [(99, 200), (100, 431), (12_000, 431)])
@on_uvloop
async def test_a_head_has_only_so_many_fields(
    count: int, status: int, size_bytes: int, tmp_path: Path
) -> None:
    """Host among them; the rest is not even read."""
    sent = LAST.replace(b"\r\nconnection", b"\r\n" + b"a:b\r\n" * (count - 1) + b"connection")
    ((found, _),) = await answered(tmp_path, sent, size_bytes)
    assert found == status
