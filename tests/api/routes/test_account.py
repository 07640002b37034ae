"""What holders do to their accounts: another name, another address, an end."""

import re
import uuid
from typing import Any

import asyncpg
import httpx
import pytest

from tests.support import PASSWORD, DevNest, confirm, sign_in, sign_up

ME = "/api/v1/users/me"
REGISTER = "/api/v1/auth/register"
LOGIN = "/api/v1/auth/login"
VERIFY = "/api/v1/auth/email/verify"
FORGOT = "/api/v1/auth/password/forgot"
RESET = "/api/v1/auth/password/reset"
POSTS = "/api/v1/posts"


def other_name() -> str:
    return f"n{uuid.uuid4().hex[:20]}"


def register(client: httpx.Client, username: str, email: str | None = None) -> httpx.Response:
    account = {
        "username": username,
        "email": email or f"{username}@example.org",
        "password": PASSWORD,
    }
    return client.post(REGISTER, json=account)


def rename(client: httpx.Client, username: str, password: str = PASSWORD) -> httpx.Response:
    return client.patch(ME, json={"username": username, "password": password})


def leave(client: httpx.Client, password: str = PASSWORD) -> httpx.Response:
    return client.request("DELETE", ME, json={"password": password})


def events(devnest: DevNest, account_id: str) -> list[tuple[str, str | None]]:
    rows = devnest.query(
        "SELECT event, reason FROM audit_log WHERE account_id = $1 ORDER BY id", account_id
    )
    return [(row["event"], row["reason"]) for row in rows]


def test_a_new_name_is_taken_at_once(devnest: DevNest, member: httpx.Client, username: str) -> None:
    """Posts, page and sign-in go by it; the holder is told; the session goes on."""
    confirm(devnest, username)
    before = member.get(ME).json()
    member.post(POSTS, json={"title": "t", "body": "b"})
    name = other_name()
    answer = rename(member, name)
    assert (answer.status_code, answer.json()) == (200, {**before, "username": name})
    assert member.get(ME).json() == answer.json()
    assert len(member.get(POSTS, params={"author": name}).json()["items"]) == 1
    assert member.get(f"/api/v1/users/{username}").status_code == 404
    assert member.post(LOGIN, json={"username": username, "password": PASSWORD}).status_code == 401
    sign_in(member, name)
    assert name in devnest.mails_to(f"{username}@example.org", 2)[-1].get_content()
    assert ("username_change", None) in events(devnest, before["id"])


def test_a_change_of_nothing_changes_nothing(member: httpx.Client, username: str) -> None:
    """An empty body, and the name that is.

    Another case of the name is a change, and takes none of the three.
    """
    before = member.get(ME).json()
    assert member.patch(ME, json={}).json() == before
    assert rename(member, username).json() == before
    for _ in range(2):
        assert rename(member, username.upper()).json()["username"] == username.upper()
        assert rename(member, username).json()["username"] == username
    assert rename(member, other_name()).status_code == 200


def test_a_taken_name_or_address_is_refused(
    devnest: DevNest, member: httpx.Client, username: str
) -> None:
    """409 with the field, whatever the case; nothing of the request is done."""
    taken = other_name()
    with devnest.client() as other:
        sign_up(other, taken)
    change = {
        "username": taken.upper(),
        "email": f"new-{username}@example.org",
        "password": PASSWORD,
    }
    for body, field in (
        (change, "username"),
        ({**change, "username": other_name(), "email": f"{taken}@EXAMPLE.org"}, "email"),
    ):
        answer = member.patch(ME, json=body)
        assert answer.status_code == 409
        assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert member.get(ME).json()["username"] == username
    assert (
        devnest.query("SELECT 1 FROM mailed_tokens WHERE email = $1", f"new-{username}@example.org")
        == []
    )


def test_a_name_that_was_given_up_misleads_nobody(
    devnest: DevNest, member: httpx.Client, username: str
) -> None:
    """Each of them, for 90 days: its holder alone may take it back. Then it is free."""
    names = [username, other_name(), other_name()]
    assert [rename(member, name).status_code for name in names[1:]] == [200] * 2
    with devnest.client() as other:
        email = f"{other_name()}@example.org"
        for held in (names[0], names[1].upper()):
            answer = register(other, held, email)
            assert answer.status_code == 409
            assert [error["field"] for error in answer.json()["errors"]] == ["username"]
        sign_up(other, other_name())
        assert [rename(other, name).status_code for name in names] == [409] * 3
        assert rename(member, username).status_code == 200
        assert [rename(other, name).status_code for name in names] == [409] * 3
        devnest.query("UPDATE held_names SET until = now() WHERE username = $1", names[2])
        assert rename(other, names[2]).status_code == 200


def test_a_name_changes_three_times_in_90_days(devnest: DevNest, member: httpx.Client) -> None:
    """The fourth is a 429 with the time until the first is 90 days old, whether the name is free
    or taken.
    """
    taken = other_name()
    with devnest.client() as other:
        sign_up(other, taken)
    before = [rename(member, other_name()) for _ in range(3)][-1].json()
    for name in (other_name(), taken):
        refused = rename(member, name)
        assert (refused.status_code, refused.json()["type"]) == (429, "urn:devnest:renames")
        assert 89 * 86_400 < int(refused.headers["retry-after"]) <= 90 * 86_400
    assert member.get(ME).json() == before
    assert events(devnest, before["id"])[-1] == ("username_change", "too often")
    devnest.query(
        "UPDATE accounts SET renamed_at[3] = now() - interval '90 days' WHERE id = $1", before["id"]
    )
    assert [rename(member, other_name()).status_code for _ in range(2)] == [200, 429]


def test_a_new_address_takes_effect_when_it_is_confirmed(
    devnest: DevNest, member: httpx.Client, username: str
) -> None:
    """Not before; the old address is told at both moments.

    A reset mailed to the old one is of no more use.
    """
    confirm(devnest, username)
    old, new = f"{username}@example.org", f"new-{username}@example.org"
    answer = member.patch(ME, json={"email": new, "password": PASSWORD})
    assert (answer.status_code, answer.json()["email"]) == (200, old)
    assert new in devnest.mails_to(old, 2)[1].get_content()
    assert member.post(LOGIN, json={"email": new, "password": PASSWORD}).status_code == 401
    member.post(FORGOT, json={"email": old})
    reset = devnest.mailed_code(old, 3)
    assert member.post(VERIFY, json={"token": devnest.mailed_code(new, 1)}).status_code == 204
    assert member.get(ME).json()["email"] == new
    assert "from now on" in devnest.mails_to(old, 4)[3].get_content()
    assert member.post(LOGIN, json={"email": old, "password": PASSWORD}).status_code == 401
    assert member.post(LOGIN, json={"email": new, "password": PASSWORD}).status_code == 200
    assert (
        member.post(RESET, json={"token": reset, "new": "another long phrase"}).status_code == 400
    )
    names = [event for event, _ in events(devnest, answer.json()["id"])]
    assert [name for name in names if name.startswith("email")] == ["email_change", "email_verify"]


@pytest.mark.parametrize("way", ["change", "reset"])
def test_a_code_that_never_came_is_asked_for_again(
    devnest: DevNest, member: httpx.Client, username: str, way: str
) -> None:
    """As where a server died before it sent the mail: naming the same address mails another, and
    so does "forgot".
    """
    email = f"{username}@example.org"
    lost = devnest.mailed_code(email, 1)
    if way == "change":
        assert member.patch(ME, json={"email": email, "password": PASSWORD}).status_code == 200
        body = {"token": devnest.mailed_code(email, 2)}
        assert member.post(VERIFY, json=body).status_code == 204
        assert member.post(VERIFY, json={"token": lost}).status_code == 400
    else:
        member.post(FORGOT, json={"email": email})
        body = {"token": devnest.mailed_code(email, 2), "new": "another long phrase"}
        assert member.post(RESET, json=body).status_code == 204
    (row,) = devnest.query("SELECT email_verified_at FROM accounts WHERE email = $1", email)
    assert row["email_verified_at"] is not None


@pytest.mark.parametrize(("password", "status"), [(None, 422), ("not the password", 403)])
@pytest.mark.parametrize("change", [("email",), ("username",), ("email", "username")])
def test_another_address_or_name_needs_the_password(
    devnest: DevNest,
    member: httpx.Client,
    username: str,
    password: str | None,
    status: int,
    change: tuple[str, ...],
) -> None:
    """A stolen access token moves no account, and a request that is refused does nothing."""
    new = f"new-{username}@example.org"
    given = {"email": new, "username": other_name(), "password": password}
    answer = member.patch(
        ME, json={name: given[name] for name in (*change, "password") if given[name]}
    )
    assert answer.status_code == status
    if password is None:
        assert answer.json()["errors"] == [{"field": "password", "detail": "missing"}]
    assert member.get(ME).json()["username"] == username
    assert devnest.query("SELECT 1 FROM mailed_tokens WHERE email = $1", new) == []


@pytest.mark.parametrize("way", ["change", "reset"])
def test_a_new_password_stops_a_thief_s_change_of_address(
    devnest: DevNest, member: httpx.Client, username: str, way: str
) -> None:
    """The code that was mailed to the thief is of no more use.

    The one for the address that is, is.
    """
    old, new = f"{username}@example.org", f"thief-{username}@example.org"
    own = devnest.mailed_code(old, 1)
    member.patch(ME, json={"email": new, "password": PASSWORD})
    stolen = devnest.mailed_code(new, 1)
    if way == "change":
        body = {"current": PASSWORD, "new": "another long phrase"}
        assert member.post("/api/v1/auth/password/change", json=body).status_code == 200
    else:
        member.post(FORGOT, json={"email": old})
        body = {"token": devnest.mailed_code(old, 2), "new": "another long phrase"}
        assert member.post(RESET, json=body).status_code == 204
        devnest.mails_to(old, 3)  # the notice
    assert member.post(VERIFY, json={"token": stolen}).status_code == 400
    assert member.post(VERIFY, json={"token": own}).status_code == 400  # replaced by the thief's
    sign_in(member, username, "another long phrase")
    body = {"email": old, "password": "another long phrase"}
    assert member.patch(ME, json=body).status_code == 200
    count = 2 if way == "change" else 4
    assert member.post(VERIFY, json={"token": devnest.mailed_code(old, count)}).status_code == 204


def test_an_address_taken_meanwhile_stays_another_s(
    devnest: DevNest, member: httpx.Client, username: str
) -> None:
    """The code is refused like any unknown one."""
    new = f"new-{username}@example.org"
    member.patch(ME, json={"email": new, "password": PASSWORD})
    code = devnest.mailed_code(new, 1)
    with devnest.client() as other:
        assert register(other, other_name(), new).status_code == 201
    assert member.post(VERIFY, json={"token": code}).status_code == 400
    assert member.get(ME).json()["email"] == f"{username}@example.org"


def test_a_deleted_account_leaves_no_person(
    devnest: DevNest, member: httpx.Client, username: str
) -> None:
    """Name, address, password, mailed codes, addresses and devices of sessions go.

    What was said to others stays.
    """
    confirm(devnest, username)
    refresh = {"refresh_token": sign_in(member, username)["refresh_token"]}
    assert member.post("/api/v1/auth/refresh", json=refresh).status_code == 200
    account_id = member.get(ME).json()["id"]
    post = member.post(POSTS, json={"title": "t", "body": "b"}).json()
    comments = f"{POSTS}/{post['id']}/comments"
    assert member.post(comments, json={"body": "c"}).status_code == 201
    assert leave(member).status_code == 204
    with devnest.client() as anyone:
        read = anyone.get(f"{POSTS}/{post['id']}").json()
        author = read["author"]
        assert read == {**post, "author": author}
        assert re.fullmatch("deleted:[0-9a-f]{16}", author["username"])
        assert [comment["author"] for comment in anyone.get(comments).json()["items"]] == [author]
        assert anyone.get(f"/api/v1/users/{username}").status_code == 404
        assert anyone.get(f"/api/v1/users/{author['username']}").status_code == 404
    assert "deleted" in devnest.mails_to(f"{username}@example.org", 2)[1].get_content()
    (row,) = devnest.query("SELECT email, password_hash FROM accounts WHERE id = $1", account_id)
    assert row == {"email": None, "password_hash": ""}
    left = (
        "SELECT address, user_agent, refreshed_from, ended_at IS NOT NULL AS ended "
        "FROM sessions WHERE account_id = $1"
    )
    nothing = {"address": None, "user_agent": None, "refreshed_from": None, "ended": True}
    assert devnest.query(left, account_id) == [nothing] * 2
    assert devnest.query("SELECT 1 FROM mailed_tokens WHERE account_id = $1", account_id) == []
    assert events(devnest, account_id)[-1] == ("account_delete", None)


def test_a_deleted_account_is_over_at_once(
    devnest: DevNest, client: httpx.Client, username: str
) -> None:
    """No session, no refresh, no sign-in, no reset; an operator cannot bring it back."""
    sign_up(client, username)
    other = sign_in(client, username)
    account_id = client.get(ME).json()["id"]
    assert leave(client).status_code == 204
    refused: dict[str, dict[str, Any]] = {
        "/api/v1/auth/refresh": {"refresh_token": other["refresh_token"]},
        LOGIN: {"username": username, "password": PASSWORD},
        POSTS: {"title": "t", "body": "b"},
    }
    assert [client.post(path, json=body).status_code for path, body in refused.items()] == [401] * 3
    assert [client.get(ME).status_code, client.patch(ME, json={}).status_code] == [401] * 2
    assert leave(client).status_code == 401
    assert client.post(FORGOT, json={"email": f"{username}@example.org"}).status_code == 202
    sign_up(client, other_name())
    client.post(FORGOT, json={"email": f"{username}@example.org"})
    assert devnest.query("SELECT 1 FROM mailed_tokens WHERE account_id = $1", account_id) == []


def test_a_deleted_account_s_name_waits_and_its_address_does_not(
    devnest: DevNest, client: httpx.Client, username: str
) -> None:
    """Nobody speaks under the name at once, not even its holder.

    The address may have an account again.
    """
    sign_up(client, username)
    assert leave(client).status_code == 204
    assert register(client, username).status_code == 409
    assert register(client, other_name(), f"{username}@example.org").status_code == 201
    devnest.query("UPDATE held_names SET until = now() WHERE username = $1", username)
    assert register(client, username, f"{other_name()}@example.org").status_code == 201


def test_an_account_is_not_deleted_without_its_password(member: httpx.Client) -> None:
    """403 with a wrong one, 422 without."""
    assert leave(member, "not the password").status_code == 403
    assert member.request("DELETE", ME, json={}).status_code == 422
    assert member.get(ME).status_code == 200


def test_two_accounts_cannot_have_one_name(devnest: DevNest) -> None:
    """The database itself refuses a name that is held, however the row is made."""
    with devnest.client() as client:
        name = other_name()
        sign_up(client, name)
        assert rename(client, other_name()).status_code == 200
    insert = "INSERT INTO accounts (id, username, email, password_hash) VALUES ($1, $2, $2, '')"
    with pytest.raises(asyncpg.UniqueViolationError, match="given up"):
        devnest.query(insert, uuid.uuid4(), name)
