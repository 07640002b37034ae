"""The first proof of an address, in both roles: somebody who made an account with it, and who
reads its mail.
"""

import re
import uuid
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from typing import Any

import httpx
import pytest

from tests.support import PASSWORD, DevNest, eventually, sign_in, sign_up

ME = "/api/v1/users/me"
VERIFY = "/api/v1/auth/email/verify"
FORGOT = "/api/v1/auth/password/forgot"
RESET = "/api/v1/auth/password/reset"
REGISTER = "/api/v1/auth/register"
LOGIN = "/api/v1/auth/login"
REFRESH = "/api/v1/auth/refresh"
POSTS = "/api/v1/posts"
CONFIRM = "Confirm your e-mail address"
SET_NEW = "Set a new password"
NEW = "the true holder's phrase"

Prove = Callable[[str], httpx.Response]


def other_name() -> str:
    return f"n{uuid.uuid4().hex[:20]}"


def code_in(devnest: DevNest, email: str, subject: str = CONFIRM, count: int = 1) -> str:
    """The code of the mail number `count` with a subject to an address."""
    mails: list[EmailMessage] = []

    def have_come() -> bool:
        mails[:] = [mail for mail in devnest.mails_to(email, 0) if mail["Subject"] == subject]
        return len(mails) >= count

    eventually(have_come)
    found = re.search(r"^([A-Za-z0-9_-]{43})\s*$", mails[count - 1].get_content(), re.MULTILINE)
    assert found
    return found[1]


def account_of(devnest: DevNest, username: str) -> dict[str, Any]:
    (row,) = devnest.query(
        "SELECT *, email_verified_at IS NOT NULL AS verified FROM accounts WHERE username = $1",
        username,
    )
    return row


def events(devnest: DevNest, account_id: object) -> list[str]:
    rows = devnest.query(
        "SELECT event FROM audit_log WHERE account_id = $1 ORDER BY id", account_id
    )
    return [row["event"] for row in rows]


@pytest.fixture
def holder(devnest: DevNest) -> Iterator[httpx.Client]:
    """Who reads the mail, and has no session."""
    with devnest.client() as client:
        yield client


@pytest.fixture(params=["confirmation", "reset"])
def prove(request: pytest.FixtureRequest, devnest: DevNest, holder: httpx.Client) -> Prove:
    """Prove an address by either way, with a new password."""

    def confirm(email: str) -> httpx.Response:
        return holder.post(VERIFY, json={"token": code_in(devnest, email), "password": NEW})

    def reset(email: str) -> httpx.Response:
        holder.post(FORGOT, json={"email": email})
        return holder.post(RESET, json={"token": code_in(devnest, email, SET_NEW), "new": NEW})

    return confirm if request.param == "confirmation" else reset


def test_a_session_confirms_and_nothing_else_changes(
    devnest: DevNest, member: httpx.Client, username: str
) -> None:
    """The honest one who registered: password, sessions and refresh tokens stay, whatever else
    is sent.
    """
    other = sign_in(member, username)
    before = account_of(devnest, username)
    code = code_in(devnest, f"{username}@example.org")
    assert member.post(VERIFY, json={"token": code, "password": NEW}).status_code == 204
    after = account_of(devnest, username)
    assert after == {**before, "verified": True, "email_verified_at": after["email_verified_at"]}
    assert member.get(ME).status_code == 200
    assert member.post(REFRESH, json={"refresh_token": other["refresh_token"]}).status_code == 200
    assert "account_claim" not in events(devnest, before["id"])


def test_outside_a_session_a_password_is_asked_for(
    devnest: DevNest, member: httpx.Client, username: str
) -> None:
    """422 with the field; a weak one too. Nothing changes and the code stays good."""
    email = f"{username}@example.org"
    code = code_in(devnest, email)
    before = account_of(devnest, username)
    with devnest.client() as holder, devnest.client() as stranger:
        sign_up(stranger, other_name())
        for client in (holder, stranger):
            missing = client.post(VERIFY, json={"token": code})
            assert (missing.status_code, missing.json()["type"]) == (422, "urn:devnest:invalid")
            assert missing.json()["errors"] == [{"field": "password", "detail": "missing"}]
            for weak in ("short", "password123", username, email):
                refused = client.post(VERIFY, json={"token": code, "password": weak})
                assert refused.status_code == 422
                assert [error["field"] for error in refused.json()["errors"]] == ["password"]
        assert account_of(devnest, username) == before
        assert member.get(ME).status_code == 200
        assert stranger.post(VERIFY, json={"token": code, "password": NEW}).status_code == 204
        assert stranger.post(VERIFY, json={"token": code, "password": NEW}).status_code == 400
        assert stranger.get(ME).status_code == 200


def test_a_token_that_is_not_good_is_no_session_and_no_reason_to_lose_one(
    devnest: DevNest, member: httpx.Client, username: str
) -> None:
    """401, so that a client whose access token is too old refreshes it and confirms.

    The code stays good.
    """
    code = code_in(devnest, f"{username}@example.org")
    with devnest.client() as client:
        for authorization in ("Bearer x", "Basic eDp5", f"{member.headers['authorization']}x"):
            headers = {"authorization": authorization}
            assert (
                client.post(
                    VERIFY, json={"token": code, "password": NEW}, headers=headers
                ).status_code
                == 401
            )
    assert member.post(VERIFY, json={"token": code}).status_code == 204


def test_whoever_registered_another_s_address_loses_the_account(
    devnest: DevNest, client: httpx.Client, username: str, holder: httpx.Client, prove: Prove
) -> None:
    """Sessions, device and refresh tokens, password, codes and kept answers.

    Name and posts are the account's.
    """
    email = f"{username}@example.org"
    key = {"idempotency-key": str(uuid.uuid4())}
    registration = {"username": username, "email": email, "password": PASSWORD}
    assert client.post(REGISTER, json=registration, headers=key).status_code == 201
    tokens = [sign_in(client, username) for _ in range(2)]
    post = client.post(POSTS, json={"title": "t", "body": "b"}, headers=key).json()
    device_key = account_of(devnest, username)["device_key"]
    assert prove(email).status_code == 204
    account = account_of(devnest, username)
    assert account["verified"]
    assert account["device_key"] != device_key
    for token in tokens:
        assert (
            client.get(ME, headers={"authorization": f"Bearer {token['access_token']}"}).status_code
            == 401
        )
        assert (
            client.post(REFRESH, json={"refresh_token": token["refresh_token"]}).status_code == 401
        )
    for name in ({"username": username}, {"email": email}):
        assert client.post(LOGIN, json={**name, "password": PASSWORD}).status_code == 401
    assert client.post(REGISTER, json=registration, headers=key).status_code == 409
    for table in ("mailed_tokens", "idempotency_keys"):
        assert devnest.query(f"SELECT 1 FROM {table} WHERE account_id = $1", account["id"]) == []  # noqa: S608
    sign_in(holder, username, NEW)
    assert holder.get(f"{POSTS}/{post['id']}").json()["author"]["username"] == username
    assert "account_claim" in events(devnest, account["id"])


def test_whoever_moves_his_account_to_another_s_address_loses_it(
    devnest: DevNest, member: httpx.Client, username: str, holder: httpx.Client
) -> None:
    """The same attack, with an account whose own address is confirmed.

    In his own session he moves it, as he may.
    """
    own, victim = f"{username}@example.org", f"victim-{username}@example.org"
    assert member.post(VERIFY, json={"token": code_in(devnest, own)}).status_code == 204
    assert member.patch(ME, json={"email": victim, "password": PASSWORD}).status_code == 200
    assert holder.post(VERIFY, json={"token": code_in(devnest, victim)}).status_code == 422
    assert (
        holder.post(VERIFY, json={"token": code_in(devnest, victim), "password": NEW}).status_code
        == 204
    )
    assert member.get(ME).status_code == 401
    assert member.post(LOGIN, json={"email": own, "password": PASSWORD}).status_code == 401
    sign_in(holder, username, NEW)
    assert holder.get(ME).json()["email"] == victim
    third = f"third-{username}@example.org"
    assert holder.patch(ME, json={"email": third, "password": NEW}).status_code == 200
    assert holder.post(VERIFY, json={"token": code_in(devnest, third)}).status_code == 204
    assert holder.get(ME).json()["email"] == third


@pytest.mark.parametrize("asked", ["before", "after"])
def test_a_change_of_address_that_waits_dies_with_the_first_proof(
    devnest: DevNest, member: httpx.Client, username: str, asked: str
) -> None:
    """What whoever registered has asked for, or asks for now.

    A reset's code that waits is of no more use either.
    """
    email, thief = f"{username}@example.org", f"thief-{username}@example.org"
    if asked == "before":
        assert member.patch(ME, json={"email": thief, "password": PASSWORD}).status_code == 200
        stolen = code_in(devnest, thief)
    member.post(FORGOT, json={"email": email})
    with devnest.client() as holder:
        body = {"token": code_in(devnest, email, SET_NEW), "new": NEW}
        assert holder.post(RESET, json=body).status_code == 204
    if asked == "before":
        assert member.post(VERIFY, json={"token": stolen, "password": PASSWORD}).status_code == 400
    else:
        assert member.patch(ME, json={"email": thief, "password": PASSWORD}).status_code == 401
    assert account_of(devnest, username)["email"] == email


def test_later_proofs_change_what_they_are_for(
    devnest: DevNest, member: httpx.Client, username: str
) -> None:
    """Once the address is confirmed, a code for it confirms without a session, and a reset ends
    sessions.
    """
    email = f"{username}@example.org"
    assert member.post(VERIFY, json={"token": code_in(devnest, email)}).status_code == 204
    headers = {"idempotency-key": str(uuid.uuid4())}
    first = member.post(POSTS, json={"title": "t", "body": "b"}, headers=headers)
    assert member.patch(ME, json={"email": email, "password": PASSWORD}).status_code == 200
    with devnest.client() as holder:
        assert (
            holder.post(VERIFY, json={"token": code_in(devnest, email, count=2)}).status_code == 204
        )
        assert member.get(ME).status_code == 200
        holder.post(FORGOT, json={"email": email})
        assert (
            holder.post(
                RESET, json={"token": code_in(devnest, email, SET_NEW), "new": NEW}
            ).status_code
            == 204
        )
    assert member.get(ME).status_code == 401
    sign_in(member, username, NEW)
    assert (
        member.post(POSTS, json={"title": "t", "body": "b"}, headers=headers).json() == first.json()
    )
    assert "account_claim" not in events(devnest, account_of(devnest, username)["id"])


@pytest.mark.parametrize("confirmed", [False, True])
@pytest.mark.parametrize("days", [6, 8])
def test_an_address_unconfirmed_for_7_days_may_be_registered_by_another(
    devnest: DevNest, member: httpx.Client, username: str, confirmed: bool, days: int
) -> None:
    """And by nothing else. The account before loses the address alone, and its codes.

    It may give another.
    """
    email = f"{username}@example.org"
    code = code_in(devnest, email)
    if confirmed:
        assert member.post(VERIFY, json={"token": code}).status_code == 204
    age = (
        "UPDATE accounts SET email_given_at = now() - make_interval(days => $2) WHERE username = $1"
    )
    devnest.query(age, username, days)
    registration = {"username": other_name(), "email": email.upper(), "password": NEW}
    with devnest.client() as holder, devnest.client() as third:
        sign_up(third, other_name())
        assert third.patch(ME, json={"email": email, "password": PASSWORD}).status_code == 409
        answer = holder.post(REGISTER, json=registration)
        if confirmed or days < 7:
            assert (answer.status_code, answer.json()["errors"][0]["field"]) == (409, "email")
            assert member.get(ME).json()["email"] == email
            return
        assert answer.status_code == 201
        assert member.get(ME).json() == {
            **member.get(ME).json(),
            "username": username,
            "email": None,
        }
        assert holder.post(VERIFY, json={"token": code, "password": NEW}).status_code == 400
        assert holder.post(LOGIN, json={"email": email, "password": PASSWORD}).status_code == 401
        assert holder.post(LOGIN, json={"email": email, "password": NEW}).status_code == 200
        assert (
            holder.post(REGISTER, json={**registration, "username": other_name()}).status_code
            == 409
        )
    sign_in(member, username)
    assert events(devnest, account_of(devnest, username)["id"])[2] == "email_release"
    again = f"again-{username}@example.org"
    assert member.patch(ME, json={"email": again, "password": PASSWORD}).status_code == 200
    assert member.post(VERIFY, json={"token": code_in(devnest, again)}).status_code == 204
    assert member.get(ME).json()["email"] == again


def test_an_account_without_an_address_has_all_else(
    devnest: DevNest, member: httpx.Client, username: str
) -> None:
    """It signs in by name, changes password and name, and goes."""
    devnest.query("UPDATE accounts SET email = NULL WHERE username = $1", username)
    assert member.get(ME).json()["email"] is None
    change = {"current": PASSWORD, "new": NEW}
    assert member.post("/api/v1/auth/password/change", json=change).status_code in (200, 204)
    sign_in(member, username, NEW)
    assert (
        member.patch(ME, json={"username": other_name(), "password": NEW}).json()["email"] is None
    )
    assert member.request("DELETE", ME, json={"password": NEW}).status_code == 204
