"""Writes one HTTP/1.1 request as bytes."""

import re
from collections.abc import Mapping

import msgspec

from devnest.load.target import Target

__all__ = ["encoded"]

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_OWN_HEADERS = {"connection", "content-length", "transfer-encoding"}


def encoded(
    target: Target,
    token: str,
    method: str,
    path: str,
    body: bytes | str = b"",
    json: object = msgspec.UNSET,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Return the request as `VirtualUser.request` describes it.

    Raises:
        ValueError: There is a `body` and a `json`, or a header cannot be sent.
    """
    sent = {"Host": target.authority, "Accept": "application/json"}
    if token:
        sent["Authorization"] = f"Bearer {token}"
    content_type = "application/octet-stream"
    if json is not msgspec.UNSET:
        if body:
            raise ValueError("a request has a body or json, not both")
        body, content_type = msgspec.json.encode(json), "application/json"
    elif isinstance(body, str):
        body, content_type = body.encode(), "text/plain; charset=utf-8"
    if body:
        sent["Content-Type"] = content_type
    if headers:
        sent = _with_headers(sent, headers)
    if body:
        sent["Content-Length"] = str(len(body))
    lines = "".join([f"{name}: {value}\r\n" for name, value in sent.items()])
    return f"{method} {target.base_path}{path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def _with_headers(sent: dict[str, str], further: Mapping[str, str]) -> dict[str, str]:
    """Return `sent` with `further`, which replace those of the same name in any case.

    Raises:
        ValueError: A header has a bad name or value, or is one that belongs to the connection.
    """
    for name, value in further.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"not the name of a header: {name!r}")
        if name.lower() in _OWN_HEADERS:
            raise ValueError(f"{name} is set by the connection itself")
        if not value.isprintable():
            raise ValueError(f"the value of {name} has a line break or another control character")
    replaced = {name.lower() for name in further}
    kept = {name: value for name, value in sent.items() if name.lower() not in replaced}
    return kept | dict(further)
