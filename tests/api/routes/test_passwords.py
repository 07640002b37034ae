"""Changing, forgetting and resetting passwords, and confirming addresses."""

import hashlib
import re
from pathlib import Path

import httpx
import pytest

from tests.support import PASSWORD, DevNest, confirm, running, sign_in, sign_up

CHANGE = "/api/v1/auth/password/change"
FORGOT = "/api/v1/auth/password/forgot"
RESET = "/api/v1/auth/password/reset"
VERIFY = "/api/v1/auth/email/verify"
LOGIN = "/api/v1/auth/login"
ME = "/api/v1/users/me"
SESSIONS = "/api/v1/auth/sessions"
REFRESH = "/api/v1/auth/refresh"
NEW = "a new battery staple"


def mailed_token(devnest: DevNest, username: str, subject: str, count: int = 1) -> str:
    """The token of the newest mail with this subject; `count` mails in all are waited for."""
    mails = [
        mail
        for mail in devnest.mails_to(f"{username}@example.org", count)
        if mail["Subject"] == subject
    ]
    (token,) = [
        line
        for line in mails[-1].get_content().splitlines()
        if re.fullmatch("[A-Za-z0-9_-]{43}", line)
    ]
    return str(token)


def test_changing_the_password_ends_the_other_sessions(
    devnest: DevNest, client: httpx.Client, username: str
) -> None:
    """Who changed it goes on with the pair in the answer.

    The old password is gone, the holder is told.
    """
    sign_up(client, username)
    confirm(devnest, username)
    other = client.headers["authorization"]
    sign_in(client, username)
    before = client.headers["authorization"]
    answer = client.post(CHANGE, json={"current": PASSWORD, "new": NEW})
    assert answer.status_code == 200
    assert set(answer.json()) == {"access_token", "token_type", "expires_in", "refresh_token"}
    for ended in (other, before):
        assert client.get(ME, headers={"authorization": ended}).status_code == 401
    client.headers["authorization"] = f"Bearer {answer.json()['access_token']}"
    assert client.get(ME).status_code == 200
    assert [session["current"] for session in client.get(SESSIONS).json()] == [True]
    assert (
        client.post(REFRESH, json={"refresh_token": answer.json()["refresh_token"]}).status_code
        == 200
    )
    assert client.post(LOGIN, json={"username": username, "password": PASSWORD}).status_code == 401
    sign_in(client, username, NEW)
    assert "was changed" in devnest.mails_to(f"{username}@example.org", 2)[-1].get_content()


def test_a_copy_of_the_session_ends_with_the_password(client: httpx.Client, username: str) -> None:
    """Whatever of it a thief has: the access token, the refresh token, or one refreshed in its
    grace.
    """
    sign_up(client, username)
    tokens = sign_in(client, username)
    rotated = client.post(REFRESH, json={"refresh_token": tokens["refresh_token"]}).json()
    stolen = client.post(REFRESH, json={"refresh_token": tokens["refresh_token"]}).json()
    assert stolen["refresh_token"] == rotated["refresh_token"]
    assert client.post(CHANGE, json={"current": PASSWORD, "new": NEW}).status_code == 200
    for token in (stolen["access_token"], tokens["access_token"]):
        assert client.get(ME, headers={"authorization": f"Bearer {token}"}).status_code == 401
    for token in (stolen["refresh_token"], tokens["refresh_token"]):
        assert client.post(REFRESH, json={"refresh_token": token}).status_code == 401


def test_a_change_needs_the_current_password(member: httpx.Client, username: str) -> None:
    """403, and nothing changes."""
    assert member.post(CHANGE, json={"current": "not it at all", "new": NEW}).status_code == 403
    sign_in(member, username)


@pytest.mark.parametrize("new", ["password123", "devnest2026", "{}1"])
def test_a_weak_password_is_refused_everywhere(
    devnest: DevNest, client: httpx.Client, username: str, new: str
) -> None:
    """422 with the field, at registration, change and reset.

    A refusal does not use the token up.
    """
    weak = new.format(username)
    account = {"username": username, "email": f"{username}@example.org", "password": weak}
    answers = [client.post("/api/v1/auth/register", json=account)]
    sign_up(client, username)
    answers.append(client.post(CHANGE, json={"current": PASSWORD, "new": weak}))
    client.post(FORGOT, json={"email": f"{username}@example.org"})
    token = mailed_token(devnest, username, "Set a new password", 2)
    answers.append(client.post(RESET, json={"token": token, "new": weak}))
    assert [answer.status_code for answer in answers] == [422] * 3
    assert [answer.json()["errors"][0]["field"] for answer in answers] == ["password", "new", "new"]
    assert {answer.json()["type"] for answer in answers} == {"urn:devnest:weak-password"}
    assert client.post(RESET, json={"token": token, "new": NEW}).status_code == 204


def test_a_reset_sets_the_password_once_and_ends_all_sessions(
    devnest: DevNest, client: httpx.Client, username: str
) -> None:
    """By any of the mailed tokens, whichever mail came last; they are of no more use then."""
    sign_up(client, username)
    client.post(FORGOT, json={"email": f"{username}@example.org".upper()})
    first = mailed_token(devnest, username, "Set a new password", 2)
    client.post(FORGOT, json={"email": f"{username}@example.org"})
    second = mailed_token(devnest, username, "Set a new password", 3)
    assert client.get(ME).status_code == 200
    assert client.post(RESET, json={"token": first, "new": NEW}).status_code == 204
    assert client.get(ME).status_code == 401
    for token in (first, second):
        assert client.post(RESET, json={"token": token, "new": NEW}).status_code == 400
    sign_in(client, username, NEW)
    assert (
        "All sessions were ended"
        in devnest.mails_to(f"{username}@example.org", 4)[-1].get_content()
    )


def test_a_reset_token_is_short_lived_and_dies_with_a_change(
    devnest: DevNest, client: httpx.Client, username: str
) -> None:
    """30 minutes; and a password that was changed needs no reset.

    A token for one purpose is none for another.
    """
    sign_up(client, username)
    email = f"{username}@example.org"
    verification = mailed_token(devnest, username, "Confirm your e-mail address")
    assert client.post(RESET, json={"token": verification, "new": NEW}).status_code == 400
    client.post(FORGOT, json={"email": email})
    token = mailed_token(devnest, username, "Set a new password", 2)
    assert client.post(VERIFY, json={"token": token}).status_code == 400
    (row,) = devnest.query(
        "SELECT expires_at - now() AS rest, token_sha256 FROM mailed_tokens WHERE email = $1 AND purpose = 'reset'",
        email,
    )
    assert 29 * 60 < row["rest"].total_seconds() <= 30 * 60
    assert token.encode() not in row["token_sha256"]
    devnest.query(
        "UPDATE mailed_tokens SET expires_at = now() WHERE email = $1 AND purpose = 'reset'", email
    )
    assert client.post(RESET, json={"token": token, "new": NEW}).status_code == 400
    client.post(FORGOT, json={"email": email})
    token = mailed_token(devnest, username, "Set a new password", 3)
    assert client.post(CHANGE, json={"current": PASSWORD, "new": NEW}).status_code == 200
    assert client.post(RESET, json={"token": token, "new": PASSWORD}).status_code == 400


def test_forgetting_answers_the_same_for_everyone(
    devnest: DevNest, client: httpx.Client, username: str
) -> None:
    """202 with the same body and headers; a disabled account gets no mail."""
    sign_up(client, username)
    devnest.query("UPDATE accounts SET disabled_at = now() WHERE username = $1", username)
    answers = [
        client.post(FORGOT, json={"email": f"{name}@example.org"})
        for name in (username, f"no{username[:18]}")
    ]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].content == answers[1].content
    own = {"date", "x-request-id"}
    assert {k: v for k, v in answers[0].headers.items() if k not in own} == {
        k: v for k, v in answers[1].headers.items() if k not in own
    }
    other = f"y{username[:20]}"
    sign_up(client, other)
    client.post(FORGOT, json={"email": f"{other}@example.org"})
    devnest.mails_to(
        f"{other}@example.org", 2
    )  # the queue keeps order, so the first would be there by now
    assert len(devnest.mails_to(f"{username}@example.org", 1)) == 1


def test_an_address_is_verified_by_its_mail(
    devnest: DevNest, client: httpx.Client, username: str
) -> None:
    """Once, with the token of the registration's mail."""
    sign_up(client, username)
    token = mailed_token(devnest, username, "Confirm your e-mail address")
    verified = "SELECT email_verified_at IS NOT NULL AS verified FROM accounts WHERE username = $1"
    assert devnest.query(verified, username) == [{"verified": False}]
    assert client.post(VERIFY, json={"token": token}).status_code == 204
    assert devnest.query(verified, username) == [{"verified": True}]
    assert client.post(VERIFY, json={"token": token}).status_code == 400


@pytest.mark.parametrize("path", [RESET, VERIFY])
@pytest.mark.parametrize("token", ["", "x", "\0", "ü" * 100])
def test_an_unknown_token_is_refused(client: httpx.Client, path: str, token: str) -> None:
    """400, whatever it looks like."""
    body = {"token": token} | ({"new": NEW} if path == RESET else {})
    answer = client.post(path, json=body)
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:devnest:token"


def test_the_operator_s_options_hold(data_dir: Path, tmp_path: Path, username: str) -> None:
    """A longer minimum, a list of breached passwords, a proxy.

    Five mails at once to one box, nobody is told.
    """
    breached = tmp_path / "breached"
    breached.write_text(f"{hashlib.sha1(b'leaked but otherwise fine').hexdigest().upper()}:1\n")
    options = ["--limits", "--password-min-length", "15", "--breached-passwords", str(breached)]
    options += ["--trusted-proxies", "127.0.0.1"]
    with running(data_dir, *options) as strict, strict.client() as client:
        account = {
            "username": username,
            "email": f"{username}@example.org",
            "password": "xk2vqz9wpmcb",
        }
        refused = client.post("/api/v1/auth/register", json=account)
        assert refused.json()["errors"] == [
            {"field": "password", "detail": "shorter than 15 characters"}
        ]
        refused = client.post(
            "/api/v1/auth/register", json={**account, "password": "leaked but otherwise fine"}
        )
        assert refused.json()["errors"] == [
            {"field": "password", "detail": "known from a data breach"}
        ]
        sign_up(client, username)
        forwarded = {
            "x-forwarded-for": "198.51.100.1, 203.0.113.9"
        }  # the first was there before the proxy
        client.post(LOGIN, json={"username": username, "password": PASSWORD}, headers=forwarded)
        addresses = {session["address"] for session in client.get("/api/v1/auth/sessions").json()}
        assert addresses == {"127.0.0.1", "203.0.113.9"}
        statuses = [
            client.post(FORGOT, json={"email": f"{username}@example.org"}).status_code
            for _ in range(6)
        ]
        assert statuses == [202] * 6
        assert strict.stop() == 0  # the queue is drained
    assert len(strict.mails_to(f"{username}@example.org", 1)) == 5
