"""What a server remembers of those who hammer."""

from datetime import timedelta

import pytest

from devnest.api import waits
from devnest.api.admission import Admission
from devnest.api.limits import address
from devnest.api.waits import Waits
from devnest.passwords import Hasher, InlineRunner
from devnest.store import Rule, Subject, Throttled
from tests.api.test_admission import answer, passed

RULE = Rule("test", free=3, period=timedelta(hours=1), longest=timedelta(hours=1), most=20)
ONE, OTHER = (Subject(RULE, name) for name in ("one", "other"))


def throttled(subject: Subject, *, first: bool = False, wait_s: float = 90.5) -> Throttled:
    return Throttled(91, first=first, waits={subject.key: wait_s})


def test_who_hammers_is_refused_with_the_rest_of_the_wait() -> None:
    """And nobody else is."""
    known = Waits()
    known.remember(throttled(ONE))
    known.refuse(OTHER)
    with pytest.raises(Throttled) as caught:
        known.refuse(None, OTHER, ONE)
    assert 89 <= caught.value.retry_after <= 91
    assert not caught.value.first


def test_the_longest_wait_is_told() -> None:
    """Whoever comes back after a shorter one would come in vain."""
    known = Waits()
    known.remember(throttled(ONE, wait_s=5))
    known.remember(throttled(OTHER, wait_s=50))
    for subjects in ((ONE, OTHER), (OTHER, ONE)):
        with pytest.raises(Throttled) as caught:
            known.refuse(*subjects)
        assert caught.value.retry_after > 40


def test_the_first_refusal_of_a_wait_is_not_remembered() -> None:
    """Somebody who mistypes asks the database again."""
    known = Waits()
    known.remember(throttled(ONE, first=True))
    known.refuse(ONE)


def test_success_ends_it() -> None:
    """As it ends the wait itself."""
    known = Waits()
    known.remember(throttled(ONE))
    known.forget(OTHER, None, ONE)
    known.refuse(ONE)


def test_what_was_typed_waits_as_long() -> None:
    """It is known before the database is asked whose name it is; another name of the account is not."""
    known = Waits()
    typed = Subject(ONE.rule, "what one was called")
    known.remember(throttled(OTHER), own=ONE, typed=typed)
    known.refuse(typed)
    known.remember(throttled(ONE), own=ONE, typed=typed)
    with pytest.raises(Throttled) as caught:
        known.refuse(typed)
    assert 89 <= caught.value.retry_after <= 91
    known.forget(ONE, typed)
    known.refuse(ONE, typed)


def test_it_is_believed_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait may have ended early, or be over."""
    known = Waits()
    known.remember(throttled(ONE, wait_s=0))
    known.refuse(ONE)
    monkeypatch.setattr(waits, "MEMORY_S", 0)
    known.remember(throttled(ONE))
    known.refuse(ONE)


def test_it_does_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address costs an attacker little."""
    monkeypatch.setattr(waits, "MAX_KNOWN", 3)
    known = Waits()
    for number in range(10):
        known.remember(throttled(Subject(ONE.rule, str(number))))
    assert len(known._known) <= 3
    with pytest.raises(Throttled):
        known.refuse(Subject(ONE.rule, "9"))


async def test_an_address_that_hammers_is_refused_before_the_router() -> None:
    """As a problem, like the refusal itself; a sign-in may have a device token in its body, and is let through."""
    known = Waits()
    known.remember(throttled(address("192.0.2.1")))
    admission = Admission(passed, Hasher(InlineRunner(), 4), known)
    refused = await answer("192.0.2.1", "POST", "/api/v1/auth/register", admission)
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:devnest:throttled")
    assert 89 <= int(refused.headers["retry-after"]) <= 91
    assert (await answer("192.0.2.2", "POST", "/api/v1/auth/register", admission)).status_code == 204
    assert (await answer("192.0.2.1", "POST", "/api/v1/auth/login", admission)).status_code == 204
