"""What a server remembers of those who hammer."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from litestar.types import Receive, Scope, Send

from devnest.api.security import throttle_cache
from devnest.api.security.admission import Admission
from devnest.api.security.throttle_cache import ThrottleCache
from devnest.api.security.throttling import address_subject, name_subject
from devnest.passwords import Hasher, InlineRunner
from devnest.store import Rule, Subject, Throttled

RULE = Rule("test", free=3, period=timedelta(hours=1), max_wait=timedelta(hours=1), max_level=20)
LOGIN, REGISTER = "/api/v1/auth/login", "/api/v1/auth/register"
ONE, OTHER = (Subject(RULE, name) for name in ("one", "other"))


def throttled(subject: Subject, *, first: bool = False, wait_s: float = 90.5) -> Throttled:
    return Throttled(91, first=first, waits={subject.key: wait_s})


def test_who_hammers_is_refused_with_the_rest_of_the_wait() -> None:
    """And nobody else is."""
    known = ThrottleCache()
    known.remember(throttled(ONE))
    known.refuse(OTHER)
    with pytest.raises(Throttled) as caught:
        known.refuse(None, OTHER, ONE)
    assert 89 <= caught.value.retry_after <= 91
    assert not caught.value.first


def test_the_longest_wait_is_told() -> None:
    """Whoever comes back after a shorter one would come in vain."""
    known = ThrottleCache()
    known.remember(throttled(ONE, wait_s=5))
    known.remember(throttled(OTHER, wait_s=50))
    for subjects in ((ONE, OTHER), (OTHER, ONE)):
        with pytest.raises(Throttled) as caught:
            known.refuse(*subjects)
        assert caught.value.retry_after > 40


def test_the_first_refusal_of_a_wait_is_not_remembered() -> None:
    """Somebody who mistypes asks the database again."""
    known = ThrottleCache()
    known.remember(throttled(ONE, first=True))
    known.refuse(ONE)


def test_success_ends_it() -> None:
    """As it ends the wait itself."""
    known = ThrottleCache()
    known.remember(throttled(ONE))
    known.forget(OTHER, None, ONE)
    known.refuse(ONE)


def test_who_hammers_is_known_when_the_wait_has_ended_early(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For as long as the wait would have been believed. Who was refused once does not hammer."""
    known = ThrottleCache()
    known.remember(throttled(ONE, first=True))
    assert not known.was_refused_repeatedly(ONE)
    known.remember(throttled(ONE))
    known.forget(OTHER, ONE)
    assert known.was_refused_repeatedly(ONE)
    assert not known.was_refused_repeatedly(OTHER)
    monkeypatch.setattr(throttle_cache, "MAX_AGE_S", 0)
    known.remember(throttled(ONE))
    assert not known.was_refused_repeatedly(ONE)


def test_what_it_was_called_waits_as_long() -> None:
    """It is known before the database is asked whose name it is.

    Another name of the account is not.
    """
    known = ThrottleCache()
    alias = Subject(ONE.rule, "what one was called")
    known.remember(throttled(OTHER), subject=ONE, alias=alias)
    known.refuse(alias)
    known.remember(throttled(ONE), subject=ONE, alias=alias)
    with pytest.raises(Throttled) as caught:
        known.refuse(alias)
    assert 89 <= caught.value.retry_after <= 91
    known.forget(ONE, alias)
    known.refuse(ONE, alias)


def test_it_is_believed_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait may have ended early, or be over."""
    known = ThrottleCache()
    known.remember(throttled(ONE, wait_s=0))
    known.refuse(ONE)
    monkeypatch.setattr(throttle_cache, "MAX_AGE_S", 0)
    known.remember(throttled(ONE))
    known.refuse(ONE)


def test_it_does_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address costs an attacker little."""
    monkeypatch.setattr(throttle_cache, "MAX_ENTRIES", 3)
    known = ThrottleCache()
    for number in range(10):
        known.remember(throttled(Subject(ONE.rule, str(number))))
    assert len(known._entries) <= 3
    with pytest.raises(Throttled):
        known.refuse(Subject(ONE.rule, "9"))


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """What comes after it: it answers with the body, once it is whole."""
    body, more = b"", True
    while more:
        message: Any = await receive()
        body += message["body"]
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def ask(source: str, path: str, *pieces: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
    """The answer to a POST whose body comes in these pieces, where one address and one name
    hammer.
    """
    known = ThrottleCache()
    known.remember(throttled(address_subject("192.0.2.1")))
    known.remember(throttled(name_subject("Ada")))
    scope: Any = {
        "type": "http",
        "method": "POST",
        "path": path,
        "client": (source, 1),
        "state": {},
        "headers": [],
    }
    coming: list[Any] = [
        {"type": "http.request", "body": piece, "more_body": True} for piece in pieces
    ]
    coming[-1]["more_body"] = False
    sent: list[Any] = []

    async def receive() -> Any:
        return coming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await Admission(echo, Hasher(InlineRunner(), 4), known)(scope, receive, send)
    headers = {name.lower(): value for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, sent[1]["body"]


ADA, BOB = (f'{{"username": "{name}", "password": "x"}}'.encode() for name in ("adA", "bob"))


def with_token(body: bytes, token: bytes) -> bytes:
    return body.replace(b"}", b', "device_token": %s}' % token)


@pytest.mark.parametrize(
    ("source", "path", "body"),
    [
        ("192.0.2.1", REGISTER, b"\xff"),
        ("192.0.2.1", LOGIN, BOB),
        ("192.0.2.2", LOGIN, ADA),
        ("192.0.2.2", LOGIN, with_token(ADA, b"null")),
        ("192.0.2.2", f"{LOGIN}/", with_token(ADA, b'""')),
    ],
)
async def test_who_hammers_is_refused_before_the_router(
    source: str, path: str, body: bytes
) -> None:
    """As a problem, like the refusal itself. A sign-in waits for its address and its name."""
    status, headers, content = await ask(source, path, body)
    assert (status, msgspec.json.decode(content)["type"]) == (429, "urn:devnest:throttled")
    assert 89 <= int(headers[b"retry-after"]) <= 91


@pytest.mark.parametrize(
    ("source", "path", "pieces"),
    [
        ("192.0.2.2", REGISTER, [b"\xff"]),
        ("192.0.2.2", LOGIN, [BOB]),
        ("192.0.2.1", LOGIN, [with_token(BOB, b'"any"')]),
        ("192.0.2.2", LOGIN, [with_token(ADA, b'"any"')]),
        ("192.0.2.1", LOGIN, [BOB.replace(b"}", b', "color": "red"}')]),
        ("192.0.2.1", LOGIN, [BOB[:-1]]),
        ("192.0.2.1", LOGIN, [BOB.replace(b"bob", b"\xff\xff\xff")]),
        ("192.0.2.1", LOGIN, [b""]),
        ("192.0.2.1", LOGIN, [BOB[:9], BOB[9:]]),
    ],
)
async def test_anybody_else_is_let_through(source: str, path: str, pieces: list[bytes]) -> None:
    """Others, who has a device token, and what is no sign-in or comes in pieces: the route gets
    the whole body.
    """
    assert await ask(source, path, *pieces) == (200, {}, b"".join(pieces))
