"""URLs that may contain a password: parsed strictly, and never quoted in an error.

Python's `urlsplit` ends the host at the first `/`, `?` or `#`. If a password contains one of them
unescaped, part of the password becomes the path and appears in error messages. This parser follows
RFC 3986 instead: a reserved character inside a part has to be written as `%` and two hex digits,
otherwise the URL is refused. The error says which part is wrong without quoting it.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from urllib.parse import unquote_to_bytes

__all__ = ["BadUrl", "Host", "Url", "parse_url", "port_number"]

MAX_PORT = 65535
VISIBLE = re.compile(r"[!-~]+")
URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:(?P<user>[^@/?#\[\]]*)@)?(?P<hosts>[^@/?#]*)"
    r"(?P<path>/[^@?#]*)?(?:\?(?P<query>[^@#]*))?"
)
ESCAPED = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")
HOST = re.compile(r"(?P<name>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]*))?")
NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
ENCODE = (
    "write # / ? @ [ ] : % and other special characters in a name, a password or an option as %"
    " and two hex digits"
)


class BadUrl(ValueError):
    """A text is not a URL of the expected form.

    The message never quotes the text, because it may contain a password.
    """


@dataclass(frozen=True)
class Host:
    """One host of a URL.

    Attributes:
        name: A name, an address without brackets, or the directory of a Unix socket.
        port: None if the URL does not say one.
    """

    name: str
    port: int | None = None


@dataclass(frozen=True)
class Url:
    """The parts of a URL, percent-decoded except for `raw_path`.

    Attributes:
        path: Empty if the URL has no path; so is `raw_path`.
        options: The query string as names and values.
    """

    scheme: str
    username: str | None
    password: str | None = field(repr=False)
    hosts: tuple[Host, ...]
    path: str
    raw_path: str
    options: Mapping[str, str] = field(repr=False)


def parse_url(text: str, schemes: Collection[str]) -> Url:
    """Parse a URL.

    Args:
        text: `SCHEME://[USER[:PASSWORD]@][HOST[:PORT][,HOST...]][/PATH][?OPTION=VALUE[&...]]`
        schemes: The accepted schemes, in lower case.

    Raises:
        BadUrl: `text` has another form or another scheme.
    """
    if not VISIBLE.fullmatch(text):
        raise BadUrl(
            "it has a space, a control character or a character outside ASCII in it, or is empty"
        )
    match = URL.fullmatch(text)
    scheme = text.partition("://")[0].lower()
    if scheme not in schemes:
        raise BadUrl(f"it does not begin with {' or '.join(f'{known}://' for known in schemes)}")
    if match is None or not ESCAPED.fullmatch(text):
        raise BadUrl(f"it cannot be read; {ENCODE}")
    username, password = _credentials(match["user"])
    hosts = tuple(_host(part) for part in match["hosts"].split(",")) if match["hosts"] else ()
    path = match["path"] or ""
    return Url(
        scheme, username, password, hosts, _decoded(path), path, _options(match["query"] or "")
    )


def _credentials(userinfo: str | None) -> tuple[str | None, str | None]:
    if userinfo is None:
        return None, None
    username, colon, password = userinfo.partition(":")
    return _decoded(username) or None, _decoded(password) if colon else None


def _host(text: str) -> Host:
    match = HOST.fullmatch(text)
    if match is None:
        raise BadUrl(f"its host or port is not valid; {ENCODE}")
    name = _decoded(match["name"])
    if name.startswith("["):
        name = name[1:-1]
        try:
            IPv6Address(name)
        except ValueError:
            raise BadUrl("its host in brackets is not an IPv6 address") from None
    elif not name.startswith("/") and not NAME.fullmatch(name):
        raise BadUrl(f"its host is not valid; {ENCODE}")
    return Host(name, port_number(match["port"]) if match["port"] else None)


def port_number(text: str) -> int:
    """Parse a port number from 1 to 65535.

    Raises:
        BadUrl: `text` is not one.
    """
    if not re.fullmatch("[0-9]{1,5}", text) or not 1 <= int(text) <= MAX_PORT:
        raise BadUrl(f"its port is not a number from 1 to {MAX_PORT}")
    return int(text)


def _options(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        name, equals, value = pair.partition("=")
        name = _decoded(name)
        if not name or not equals:
            raise BadUrl(f"its options are not of the form name=value; {ENCODE}")
        if name in found:
            raise BadUrl("it has an option twice")
        found[name] = _decoded(value)
    return found


def _decoded(text: str) -> str:
    try:
        decoded = unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise BadUrl("its percent-encoded bytes are not UTF-8") from None
    if "\0" in decoded:
        raise BadUrl("it contains a NUL character")
    return decoded
