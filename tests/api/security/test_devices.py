"""Device tokens: a sign-in that presents one has a counter of its own, and anything else counts
as none.
"""

import re
import time
from collections.abc import Iterator
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devnest.api.security import devices
from devnest.api.security.devices import MAX_DEVICES, find_device, issue_device_token, new_device
from tests.support import PASSWORD, DevNest, sign_in, sign_up

LOGIN = "/api/v1/auth/login"
STRANGER = "127.0.0.2"
WRONG = "not the password"
KEY = UUID(int=7)


@pytest.fixture
def client(limited: DevNest) -> Iterator[httpx.Client]:
    """An HTTP client of nobody; nobody has failures yet."""
    limited.forget_failures()
    with limited.client() as client:
        yield client


@pytest.fixture
def token(client: httpx.Client, username: str) -> str:
    """A device token of an account named `username`."""
    sign_up(client, username)
    return sign_in(client, username)["device_token"]


def guess(client: httpx.Client, username: str, token: object, password: str = WRONG) -> int:
    body = {"username": username, "password": password, "device_token": token}
    return client.post(LOGIN, json=body).status_code


def lengthen_waits(devnest: DevNest) -> None:
    """So that none is over before a slow machine looks; nobody gets one who has none."""
    devnest.query("UPDATE throttles SET blocked_until = blocked_until + interval '1 hour'")


def repr_of(garbage: str | None) -> str:
    return repr(garbage)[:8]


def exhaust(devnest: DevNest, username: str) -> None:
    """A stranger uses up what is free, and the account waits."""
    devnest.query("DELETE FROM throttles")
    with devnest.client(STRANGER) as stranger:
        assert [guess(stranger, username, None) for _ in range(11)] == [401] * 11
        lengthen_waits(devnest)
        assert guess(stranger, username, None) == 429


def test_a_token_is_good_for_its_account_for_180_days(monkeypatch: pytest.MonkeyPatch) -> None:
    """And says which of the account's counters is the device's."""
    for device in (0, MAX_DEVICES - 1):
        token = issue_device_token(KEY, device)
        assert find_device(KEY, token) == device
        assert find_device(uuid4(), token) is None
        issued_at = time.time()
        for after_s, found in ((180 * 86_400 - 60, device), (180 * 86_400 + 60, None)):
            monkeypatch.setattr(
                "devnest.api.security.devices.time.time", lambda at=issued_at + after_s: at
            )
            assert find_device(KEY, token) == found
            monkeypatch.undo()


@pytest.mark.parametrize("place", range(len(issue_device_token(KEY, 0))))
def test_any_other_spelling_is_no_token(place: int) -> None:
    """Whatever character is changed, left out or put in."""
    token = issue_device_token(KEY, 1)
    for character in "A_-=+/ é\0":
        changed = token[:place] + character + token[place + 1 :]
        assert changed == token or find_device(KEY, changed) is None
    assert find_device(KEY, token[:place] + token[place + 1 :]) is None
    assert find_device(KEY, token[:place] + "A" + token[place:]) is None


@given(
    st.text()
    | st.text("AQ-_=", min_size=50, max_size=60)
    | st.binary(max_size=80).map(lambda b: b.decode("latin-1"))
)
def test_garbage_is_no_token(garbage: str) -> None:
    """And raises nothing."""
    assert find_device(KEY, garbage) is None


def test_another_version_is_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though its signature is good."""
    monkeypatch.setattr(devices, "VERSION", 2)
    token = issue_device_token(KEY, 1)
    monkeypatch.undo()
    assert find_device(KEY, token) is None


def test_a_stranger_locks_no_device_out(
    limited: DevNest, client: httpx.Client, username: str, token: str
) -> None:
    """Neither at the account nor at the address, wherever the device is."""
    exhaust(limited, username)
    assert guess(client, username, None, PASSWORD) == 429
    assert guess(client, username, token, PASSWORD) == 200
    with limited.client(STRANGER) as beside:
        for number in range(20):
            assert guess(beside, f"{username[:18]}{number:02}", None) == 401
        lengthen_waits(limited)
        assert [guess(beside, "nobody", None) for _ in range(3)] == [429] * 3
        assert guess(beside, username, token, PASSWORD) == 200


def test_a_device_has_no_more_tries_than_a_name(
    limited: DevNest, client: httpx.Client, username: str, token: str
) -> None:
    """Whoever has stolen its token, and whatever it succeeded in; others have theirs."""
    with limited.client(STRANGER) as thief:
        assert [guess(thief, username, token) for _ in range(6)] == [401] * 6
        assert guess(client, username, token, PASSWORD) == 200
        assert [guess(thief, username, token) for _ in range(5)] == [401] * 5
        lengthen_waits(limited)
        assert [guess(thief, username, token, PASSWORD) for _ in range(3)] == [429] * 3
        assert guess(client, username, token, PASSWORD) == 429
        assert guess(thief, username, None) == 401
        assert guess(client, username, None, PASSWORD) == 200


def test_a_device_keeps_its_counter(client: httpx.Client, username: str, token: str) -> None:
    """Each sign-in answers with a token, that of the same device where it presented one.

    And there are 64 at most.
    """
    key = UUID(int=0)

    def device_of(answer: dict[str, str]) -> str:
        assert re.fullmatch("[A-Za-z0-9_-]{56}", answer["device_token"])
        return answer["device_token"][:3]  # version and number

    body = {"username": username, "password": PASSWORD}
    known = client.post(LOGIN, json={**body, "device_token": token}).json()
    assert device_of(known) == token[:3]
    fresh = {device_of(client.post(LOGIN, json=body).json()) for _ in range(12)}
    assert len(fresh) > 1
    assert {new_device() for _ in range(50 * MAX_DEVICES)} == set(range(MAX_DEVICES))
    assert find_device(key, issue_device_token(key, MAX_DEVICES - 1)) == MAX_DEVICES - 1


@pytest.mark.parametrize(
    "garbage", ["", "x", "x" * 56, "é" * 56, "\0", "A" * 100_000, None], ids=repr_of
)
def test_what_is_no_token_is_ignored(
    limited: DevNest, client: httpx.Client, username: str, garbage: str | None
) -> None:
    """The answer is what it is without one, while there is a wait and while there is none."""
    sign_up(client, username)
    assert guess(client, username, garbage, PASSWORD) == 200
    assert guess(client, username, garbage) == 401
    assert guess(client, f"x{username[:20]}", garbage) == 401
    exhaust(limited, username)
    assert guess(client, username, garbage, PASSWORD) == 429


def test_another_account_s_token_is_ignored(
    limited: DevNest, client: httpx.Client, username: str, token: str
) -> None:
    """It is of no use for any other name."""
    sign_up(client, other := f"x{username[:20]}")
    exhaust(limited, other)
    assert guess(client, other, token, PASSWORD) == 429


def test_a_wrong_type_is_a_422(client: httpx.Client, username: str) -> None:
    """As for every field."""
    assert guess(client, username, 7) == 422


def test_whoever_takes_the_account_over_makes_older_tokens_worthless(
    limited: DevNest, client: httpx.Client, username: str, token: str
) -> None:
    """By the first proof of its address, and by a reset: whoever had the password had a token.

    A new one is good.
    """
    address = f"{username}@example.org"
    del client.headers["authorization"]
    new = ["another long password", "a third long password"]
    body = {"token": limited.mailed_code(address, 1), "password": new[0]}
    assert client.post("/api/v1/auth/email/verify", json=body).status_code == 204
    token = check_that_it_is_worthless(limited, client, username, token, new[0])
    assert client.post("/api/v1/auth/password/forgot", json={"email": address}).status_code == 202
    body = {"token": limited.mailed_code(address, 3), "new": new[1]}  # a notice came before it
    assert client.post("/api/v1/auth/password/reset", json=body).status_code == 204
    check_that_it_is_worthless(limited, client, username, token, new[1])


def check_that_it_is_worthless(
    devnest: DevNest, client: httpx.Client, username: str, token: str, password: str
) -> str:
    """The token; a new one, which is not, is returned."""
    exhaust(devnest, username)
    assert guess(client, username, token, password) == 429
    devnest.forget_failures()
    fresh = sign_in(client, username, password)["device_token"]
    exhaust(devnest, username)
    assert guess(client, username, fresh, password) == 200
    devnest.forget_failures()
    del client.headers["authorization"]
    return fresh


def test_a_change_of_the_password_leaves_them(
    limited: DevNest, client: httpx.Client, username: str, token: str
) -> None:
    """They open nothing, and the holder's devices have to sign in again just then."""
    new = "another long password"
    change = {"current": PASSWORD, "new": new}
    assert client.post("/api/v1/auth/password/change", json=change).status_code == 200
    exhaust(limited, username)
    assert guess(client, username, token, new) == 200


def test_a_disabled_account_s_token_opens_nothing(
    limited: DevNest, client: httpx.Client, username: str, token: str
) -> None:
    """401, as without."""
    limited.query("UPDATE accounts SET disabled_at = now() WHERE username = $1", username)
    assert guess(client, username, token, PASSWORD) == 401


def test_it_is_in_no_table_and_no_log(
    limited: DevNest, client: httpx.Client, username: str, token: str
) -> None:
    """Nothing is stored for a token."""
    guess(client, username, token)
    assert token not in str(limited.query("SELECT * FROM audit_log")) + str(
        limited.query("SELECT * FROM sessions")
    )
