"""Checks the head of a request where the parser is more lenient than RFC 9112.

llhttp, which httptools wraps, also accepts HTTP/0.9, RTSP and ICE, and treats `gzip, chunked` as
`chunked`. A proxy in front may understand such a request differently, and then a client can hide a
second request in the body of the first (request smuggling).
"""

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

__all__ = [
    "HOST",
    "NUMBER_SIGN",
    "RTSP",
    "TRANSFER_ENCODING",
    "Fault",
    "fault_of",
    "without_upgrade",
]

HOST = b"host"
CHUNKED = b"chunked"
NUMBER_SIGN = ord("#")  # an int: `in` finds it in bytes much faster than `b"#"`
RTSP = b" RTSP/"
TRANSFER_ENCODING = b"transfer-encoding"
VERSIONS = ("1.1", "1.0")


class Fault(NamedTuple):
    """The response to a refused head; the connection closes after it.

    Attributes:
        status: The HTTP status.
        detail: What is wrong with the head, in words for the client.
    """

    status: int
    detail: str


NOT_HTTP = Fault(400, "this is another protocol than HTTP")


def fault_of(
    version: str,
    method: bytes,
    target: bytes,
    headers: Collection[tuple[bytes, bytes]],
    received: bytes,
) -> Fault | None:
    """Return what is wrong with a head, or None.

    Args:
        version: As the parser reports it, such as `1.1`; `0.9` if the request line has none.
        method: In capitals.
        target: As in the request line.
        headers: Pairs of name, in lower case, and value.
        received: The bytes that contain the head, with what was read together with it.
    """
    # The parser reports RTSP as HTTP and does not say where the head begins in `received`.
    if RTSP in received and re.search(
        rb"%b +%b +RTSP/" % (re.escape(method), re.escape(target)), received
    ):
        return NOT_HTTP
    if method == b"SOURCE":
        return NOT_HTTP  # ICE/1.0, the protocol of Icecast
    if version == "0.9" and b" HTTP/0.9" not in received:
        return Fault(400, "the request line names no version of HTTP")
    if version not in VERSIONS:
        return Fault(505, "this server speaks HTTP/1.1 and HTTP/1.0")
    if method == b"CONNECT":
        return Fault(501, "this server is no proxy")
    if NUMBER_SIGN in target:
        # A proxy may treat the fragment as a part of the path.
        return Fault(400, "a request's target has no fragment")
    hosts = sum(name == HOST for name, _ in headers)
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        return Fault(400, "a request of HTTP/1.1 needs one Host header")
    return _fault_of_framing(
        version, [value.lower() for name, value in headers if name == TRANSFER_ENCODING]
    )


def _fault_of_framing(version: str, codings: list[bytes]) -> Fault | None:
    """Check the transfer codings by RFC 9112, 6.1 and 6.3.

    The parser itself refuses them together with Content-Length, and `chunked` twice.
    """
    if not codings or (codings == [CHUNKED] and version == "1.1"):
        return None
    if version == "1.0":
        return Fault(400, "HTTP/1.0 has no Transfer-Encoding")
    if codings[-1].rpartition(b",")[2].strip() != CHUNKED:
        return Fault(400, "the last transfer coding of a request has to be chunked")
    return Fault(501, "the only transfer coding here is chunked")


def without_upgrade(
    method: bytes, target: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """Return the head without its `Upgrade` header, which a server may ignore (RFC 9110, 7.8)."""
    kept = b"".join(b"%s: %s\r\n" % pair for pair in headers if pair[0] != b"upgrade")
    return b"%s %s HTTP/%s\r\n%s\r\n" % (method, target, version.encode(), kept)
