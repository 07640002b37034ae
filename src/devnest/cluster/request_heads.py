"""What the head of a request has to be beyond what the parser holds it to (RFC 9112).

llhttp, which httptools wraps, also reads HTTP/0.9, RTSP and ICE, and takes `gzip, chunked` for `chunked`. A proxy in
front may read such a request otherwise, and then a client can hide a second request in the first one's body.
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
NUMBER_SIGN = ord("#")  # a byte is found in a twentieth of the time that bytes are
RTSP = b" RTSP/"
TRANSFER_ENCODING = b"transfer-encoding"
VERSIONS = ("1.1", "1.0")


class Fault(NamedTuple):
    """The answer to a head that is refused, after which the connection ends."""

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
    """What is wrong with a head, if anything.

    Args:
        version: the parser's, such as `1.1`; `0.9` where the request line has none.
        method: in capitals.
        target: as it stands in the request line.
        headers: names in lower case.
        received: the bytes that the head came in, with what came before and after it in the same reads.
    """
    # The parser does not tell it from HTTP, nor where the head begins: behind a body that may be anywhere.
    if RTSP in received and re.search(
        rb"%b +%b +RTSP/" % (re.escape(method), re.escape(target)), received
    ):
        return NOT_HTTP
    if method == b"SOURCE":
        return NOT_HTTP  # ICE/1.0, as Icecast speaks it
    if version == "0.9" and b" HTTP/0.9" not in received:
        return Fault(400, "the request line names no version of HTTP")
    if version not in VERSIONS:
        return Fault(505, "this server speaks HTTP/1.1 and HTTP/1.0")
    if method == b"CONNECT":
        return Fault(501, "this server is no proxy")
    if NUMBER_SIGN in target:
        return Fault(
            400, "a request's target has no fragment"
        )  # a proxy may take it for a part of the path
    hosts = sum(name == HOST for name, _ in headers)
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        return Fault(400, "a request of HTTP/1.1 needs one Host header")
    return _fault_of_framing(
        version, [value.lower() for name, value in headers if name == TRANSFER_ENCODING]
    )


def _fault_of_framing(version: str, codings: list[bytes]) -> Fault | None:
    """RFC 9112, 6.1 and 6.3. The parser itself refuses Content-Length beside them, and `chunked` twice."""
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
    """The head again, without the offer of another protocol: a server may ignore it (RFC 9110, 7.8)."""
    kept = b"".join(b"%s: %s\r\n" % pair for pair in headers if pair[0] != b"upgrade")
    return b"%s %s HTTP/%s\r\n%s\r\n" % (method, target, version.encode(), kept)
