"""Continuing, listing and ending sessions."""

import asyncio
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import httpx
import pytest

from devnest.store import DataDirectory, EmbeddedPostgres
from tests.support import (
    NO_TLS,
    PASSWORD,
    PATIENCE_S,
    DevNest,
    confirm,
    eventually,
    prepare,
    running,
    sign_in,
    sign_up,
)

SESSIONS = "/api/v1/auth/sessions"
REFRESH = "/api/v1/auth/refresh"
ME = "/api/v1/users/me"


def refresh(client: httpx.Client, token: str) -> httpx.Response:
    return client.post(REFRESH, json={"refresh_token": token})


def test_a_refresh_answers_a_new_pair(client: httpx.Client, username: str) -> None:
    """Both tokens work; the session is the same."""
    sign_up(client, username)
    tokens = sign_in(client, username)
    before = client.get(SESSIONS).json()
    answer = refresh(client, tokens["refresh_token"])
    assert answer.status_code == 200
    assert set(answer.json()) == {"access_token", "token_type", "expires_in", "refresh_token"}
    client.headers["authorization"] = f"Bearer {answer.json()['access_token']}"
    after = client.get(SESSIONS).json()
    assert [session["id"] for session in before] == [session["id"] for session in after]
    assert refresh(client, answer.json()["refresh_token"]).status_code == 200


def test_reuse_ends_the_whole_family(client: httpx.Client, username: str) -> None:
    """The thief's and the owner's tokens, access tokens included; other sessions live."""
    sign_up(client, username)
    other = client.headers["authorization"]
    first = sign_in(client, username)["refresh_token"]
    second = refresh(client, first).json()["refresh_token"]
    third = refresh(client, second).json()["refresh_token"]
    assert client.get(ME).status_code == 200
    answers = [
        refresh(client, first),
        refresh(client, third),
        refresh(client, second),
        refresh(client, "unknown"),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.json()["detail"] for answer in answers}) == 1
    assert client.get(ME).status_code == 401
    assert client.get(ME, headers={"authorization": other}).status_code == 200


def test_two_clients_that_refresh_at_once_both_go_on(devnest: DevNest, username: str) -> None:
    """They get the same token, and the family lives."""
    with devnest.client() as client:
        sign_up(client, username)
        token = sign_in(client, username)["refresh_token"]
        got: list[str] = []
        together = threading.Barrier(2)

        def go() -> None:
            with devnest.client() as own:
                together.wait(PATIENCE_S)
                got.append(refresh(own, token).json()["refresh_token"])

        threads = [threading.Thread(target=go) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert len(got) == 2
        assert got[0] == got[1]
        assert refresh(client, got[0]).status_code == 200


def test_nothing_tells_a_thief_when_the_holder_refreshes(
    devnest: DevNest, member: httpx.Client, username: str
) -> None:
    """Whatever an access token can read is the same before and after, on a session that was last
    used days ago.
    """
    tokens = sign_in(member, username)
    devnest.query(
        "UPDATE sessions SET created_at = created_at - interval '5 days', last_used_at = now() - interval '3 days'"
        " WHERE account_id = (SELECT id FROM accounts WHERE username = $1)",
        username,
    )

    def readable() -> list[tuple[int, bytes, dict[str, str]]]:
        answers = [member.get(path) for path in (SESSIONS, ME, f"/api/v1/users/{username}")]
        own = ("date", "x-request-id")
        return [
            (a.status_code, a.content, {k: v for k, v in a.headers.items() if k not in own})
            for a in answers
        ]

    before = readable()
    rotated = refresh(member, tokens["refresh_token"]).json()
    assert refresh(member, tokens["refresh_token"]).status_code == 200
    assert refresh(member, rotated["refresh_token"]).status_code == 200
    assert readable() == before
    for session in member.get(SESSIONS).json():
        assert session["last_used_at"].endswith("T00:00:00Z")


def test_a_repeat_is_audited_and_from_another_network_mailed(
    devnest: DevNest, member: httpx.Client, username: str
) -> None:
    """To an address that was confirmed. Nobody is signed out: it may be a phone on its way."""
    token = sign_in(member, username)["refresh_token"]
    account_id = member.get(ME).json()["id"]
    confirm(devnest, username)
    with httpx.Client(
        base_url=devnest.url, transport=httpx.HTTPTransport(NO_TLS, local_address="127.0.0.2")
    ) as elsewhere:
        for other in (member, elsewhere):
            rotated = refresh(member, token).json()["refresh_token"]
            assert refresh(other, token).json()["refresh_token"] == rotated
            token = rotated
    assert refresh(member, token).status_code == 200
    lines = devnest.query(
        "SELECT event, succeeded, address FROM audit_log WHERE account_id = $1 AND event LIKE 'refresh%' ORDER BY id",
        account_id,
    )
    assert [(line["event"], line["succeeded"], line["address"]) for line in lines] == [
        ("refresh", True, "127.0.0.1"),
        ("refresh_repeat", True, "127.0.0.1"),
        ("refresh", True, "127.0.0.1"),
        ("refresh_repeat", True, "127.0.0.2"),
        ("refresh", True, "127.0.0.1"),
    ]
    mails = devnest.mails_to(f"{username}@example.org", 2)
    assert [mail["Subject"] for mail in mails] == [
        "Confirm your e-mail address",
        "Your account was changed",
    ]
    assert "two networks" in mails[1].get_content()


def test_logging_out_ends_this_session_only(client: httpx.Client, username: str) -> None:
    """Its access token and its refresh token die at once."""
    sign_up(client, username)
    other = client.headers["authorization"]
    tokens = sign_in(client, username)
    assert client.post("/api/v1/auth/logout").status_code == 204
    assert client.get(ME).status_code == 401
    assert client.get(ME).headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert refresh(client, tokens["refresh_token"]).status_code == 401
    assert client.get(ME, headers={"authorization": other}).status_code == 200


def test_the_list_says_where_from(client: httpx.Client, username: str) -> None:
    """The newest sign-in first, this one marked, no token in it."""
    client.headers["user-agent"] = "first client\t1"
    sign_up(client, username)
    client.headers["user-agent"] = "second client"
    sign_in(client, username)
    sessions = client.get(SESSIONS).json()
    assert [session["user_agent"] for session in sessions] == ["second client", "first client1"]
    assert [session["current"] for session in sessions] == [True, False]
    assert {session["address"] for session in sessions} == {"127.0.0.1"}
    fields = {"id", "created_at", "last_used_at", "expires_at", "address", "user_agent", "current"}
    assert set(sessions[0]) == fields


def test_one_session_too_many_ends_the_one_unused_for_longest(
    devnest: DevNest, client: httpx.Client, username: str
) -> None:
    """At once; the others and the new one go on."""
    oldest = {"authorization": f"Bearer {sign_up(client, username)}"}
    other = {"authorization": f"Bearer {sign_in(client, username)['access_token']}"}
    owner = "account_id = (SELECT id FROM accounts WHERE username = $1)"
    devnest.query(
        "INSERT INTO sessions (id, account_id) SELECT gen_random_uuid(), id FROM accounts, generate_series(3, 300)"
        " WHERE username = $1",
        username,
    )
    devnest.query(
        "UPDATE sessions SET last_used_at = now() - interval '1 hour'"  # noqa: S608 (constants only)
        f" WHERE {owner} AND id = (SELECT id FROM sessions WHERE {owner} ORDER BY created_at LIMIT 1)",
        username,
    )
    sign_in(client, username)
    assert client.get(ME).status_code == 200
    assert [client.get(ME, headers=session).status_code for session in (oldest, other)] == [
        401,
        200,
    ]
    of_owner = f"FROM sessions WHERE {owner} AND ended_at IS NULL"
    live = devnest.query(f"SELECT count(*) {of_owner}", username)  # our own names
    assert live == [{"count": 300}]


def test_ending_one_session(client: httpx.Client, username: str) -> None:
    """204, then 404; another's is 404 as well."""
    sign_up(client, username)
    ended = client.headers["authorization"]
    session_id = client.get(SESSIONS).json()[0]["id"]
    sign_up(client, f"x{username[:20]}")
    assert client.delete(f"{SESSIONS}/{session_id}").status_code == 404
    assert client.get(ME, headers={"authorization": ended}).status_code == 200
    sign_in(client, username)
    assert client.delete(f"{SESSIONS}/{session_id}").status_code == 204
    assert client.delete(f"{SESSIONS}/{session_id}").status_code == 404
    assert client.get(ME, headers={"authorization": ended}).status_code == 401
    assert client.get(ME).status_code == 200


def test_ending_all_sessions(client: httpx.Client, username: str) -> None:
    """This one too."""
    sign_up(client, username)
    first = client.headers["authorization"]
    sign_in(client, username)
    assert client.delete(SESSIONS).status_code == 204
    for authorization in (first, client.headers["authorization"]):
        assert client.get(ME, headers={"authorization": authorization}).status_code == 401


def test_nobody_writes_an_address_for_himself(client: httpx.Client, username: str) -> None:
    """Headers of proxies are not believed unless one is named."""
    client.headers.update({"x-forwarded-for": "203.0.113.9", "forwarded": "for=203.0.113.9"})
    sign_up(client, username)
    assert [session["address"] for session in client.get(SESSIONS).json()] == ["127.0.0.1"]


@pytest.mark.parametrize("session_id", [str(uuid.UUID(int=1)), "no-uuid", "%00"])
def test_an_unknown_session_is_not_found(member: httpx.Client, session_id: str) -> None:
    """404, whatever stands in the path."""
    assert member.delete(f"{SESSIONS}/{session_id}").status_code == 404


@contextmanager
def two_servers(data_dir: Path) -> Iterator[tuple[DevNest, DevNest, EmbeddedPostgres]]:
    """Two DevNests on one PostgreSQL with one signing key."""
    prepare(data_dir)
    directory = DataDirectory(data_dir)
    directory.open()
    key = data_dir / "key"
    key.write_text("k" * 48)
    postgres = EmbeddedPostgres(directory)
    postgres.start()
    try:
        options = ["--database-url", postgres.url, "--signing-key-file", str(key)]
        with running(data_dir / "1", *options) as one, running(data_dir / "2", *options) as two:
            yield one, two, postgres
    finally:
        postgres.stop()
        directory.close()


def test_a_session_ended_on_one_server_is_over_on_the_other(data_dir: Path, username: str) -> None:
    """By notification, and where the notification's connection was killed before.

    A deleted account's too.
    """

    async def kill_listeners(url: str) -> None:
        connection = await asyncpg.connect(url)
        kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'devnest revocations'"
        assert len(await connection.fetch(kill)) >= 2
        await connection.close()

    with two_servers(data_dir) as (one, two, postgres), one.client() as here, two.client() as there:
        sign_up(here, username)
        for killed, way, path, body in (
            (False, "POST", "/api/v1/auth/logout", None),
            (True, "POST", "/api/v1/auth/logout", None),
            (True, "DELETE", ME, {"password": PASSWORD}),
        ):
            sign_in(here, username)
            there.headers["authorization"] = here.headers["authorization"]
            assert there.get(ME).status_code == 200
            if killed:
                asyncio.run(kill_listeners(postgres.url))
            assert here.request(way, path, json=body).status_code == 204
            assert here.get(ME).status_code == 401
            eventually(lambda: there.get(SESSIONS).status_code == 401)  # not for want of an account
