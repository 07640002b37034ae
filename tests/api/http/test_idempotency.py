"""`Idempotency-Key`: what comes twice is done once."""

import asyncio
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import pytest

from devnest.store import Database, purge
from tests.support import NO_TLS, PASSWORD, PATIENCE_S, DevNest, running, sign_in, sign_up

REGISTER = "/api/v1/auth/register"
POSTS = "/api/v1/posts"
POST = {"title": "Hello", "body": "A body", "tags": ["python"]}


def account(username: str, password: str = PASSWORD) -> dict[str, str]:
    return {"username": username, "email": f"{username}@example.org", "password": password}


@pytest.fixture(params=["post", "comment", "register"])
def request_for(
    request: pytest.FixtureRequest, member: httpx.Client
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """A path, a body for it, and another body."""
    if request.param == "post":
        return POSTS, POST, {**POST, "title": "Other"}
    if request.param == "comment":
        path = f"{POSTS}/{member.post(POSTS, json=POST).json()['id']}/comments"
        return path, {"body": "Well said."}, {"body": "Other"}
    name = f"r{uuid.uuid4().hex[:20]}"
    return REGISTER, account(name), {**account(name), "email": f"other-{name}@example.org"}


def keyed(key: str | None = None) -> dict[str, str]:
    return {"idempotency-key": key or str(uuid.uuid4())}


def same(one: httpx.Response, other: httpx.Response) -> bool:
    def parts(answer: httpx.Response) -> object:
        headers = {k: v for k, v in answer.headers.items() if k not in ("date", "x-request-id")}
        return answer.status_code, headers, answer.content

    return parts(one) == parts(other)


def test_the_same_request_gets_the_same_answer(
    member: httpx.Client, request_for: tuple[str, dict[str, Any], dict[str, Any]]
) -> None:
    """Status, body and Location.

    Another key is another request, and another body under the key is refused.
    """
    path, body, other = request_for
    headers = keyed()
    first = member.post(path, json=body, headers=headers)
    assert first.status_code == 201
    reordered = dict(reversed(body.items()))
    assert same(member.post(path, json=reordered, headers=headers), first)
    refused = member.post(path, json=other, headers=headers)
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:devnest:key-reused")
    second = member.post(path, json=body, headers=keyed())
    assert second.status_code == (409 if path == REGISTER else 201)
    assert same(member.post(path, json=body, headers=headers), first)


@pytest.mark.parametrize(
    "spell",
    [
        lambda path: f"{path}/",
        lambda path: path.replace("/v1/", "//v1///"),
        lambda path: path.replace("s", "%73"),
        lambda path: f"{path[:-1]}%{ord(path[-1]):x}",
        lambda path: f"{path}?again=1",
        lambda path: path.replace("0", "%30").replace("1", "%31"),
    ],
    ids=range(6),
)
def test_a_key_holds_for_every_spelling_of_a_path(
    member: httpx.Client,
    request_for: tuple[str, dict[str, Any], dict[str, Any]],
    spell: Callable[[str], str],
) -> None:
    """It is bound to what is done, not to how it was written."""
    path, body, _ = request_for
    headers = keyed()
    first = member.post(path, json=body, headers=headers)
    assert first.status_code == 201
    again = member.post(spell(path), json=body, headers=headers)
    assert (again.status_code, again.json()) == (201, first.json())


@pytest.mark.parametrize(
    "spell", [str.upper, lambda text: f"{{{text}}}", lambda text: text.replace("-", "")]
)
def test_no_spelling_of_an_id_is_a_way_around_a_key(
    member: httpx.Client, spell: Callable[[str], str]
) -> None:
    """A second comment under the same key does not come about."""
    post_id = member.post(POSTS, json=POST).json()["id"]
    path, headers = f"{POSTS}/{post_id}/comments", keyed()
    assert member.post(path, json={"body": "b"}, headers=headers).status_code == 201
    assert (
        member.post(
            f"{POSTS}/{spell(post_id)}/comments", json={"body": "b"}, headers=headers
        ).status_code
        == 404
    )
    assert len(member.get(path).json()["items"]) == 1


def test_two_keys_are_none(member: httpx.Client) -> None:
    """400, the same twice too: which one a proxy took, nobody knows."""
    for second in ("a", "b"):
        keys = [("idempotency-key", "a"), ("idempotency-key", second)]
        answer = member.post(POSTS, json=POST, headers=keys)
        assert answer.status_code == 400
        assert [error["field"] for error in answer.json()["errors"]] == ["Idempotency-Key"]


def test_two_at_once_are_one(
    devnest: DevNest, member: httpx.Client, request_for: tuple[str, dict[str, Any], dict[str, Any]]
) -> None:
    """All get the answer of the one that was done."""
    path, body, _ = request_for
    headers = {**keyed(), "authorization": member.headers["authorization"]}

    async def send_all() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=devnest.url, timeout=60, verify=NO_TLS) as client:
            return await asyncio.gather(
                *(client.post(path, json=body, headers=headers) for _ in range(12))
            )

    answers = asyncio.run(send_all())
    assert all(same(answer, answers[0]) for answer in answers)
    assert answers[0].status_code == 201
    table = "accounts" if path == REGISTER else "comments" if path.endswith("comments") else "posts"
    mine = {
        "accounts": "username = $1",
        "comments": "post_id::text = $1",
        "posts": "author_id::text = $1",
    }[table]
    whose = {"accounts": body.get("username"), "comments": path.split("/")[-2], "posts": ""}[table]
    whose = whose or member.get("/api/v1/users/me").json()["id"]
    assert len(devnest.query(f"SELECT 1 FROM {table} WHERE {mine}", whose)) == 1  # noqa: S608 (constants only)


def test_an_answer_is_what_it_was(member: httpx.Client) -> None:
    """Also after the post was changed or deleted."""
    headers = keyed()
    first = member.post(POSTS, json=POST, headers=headers)
    path = first.headers["location"]
    assert member.patch(path, json={"title": "Changed"}).status_code == 200
    assert same(member.post(POSTS, json=POST, headers=headers), first)
    assert member.delete(path).status_code == 204
    assert same(member.post(POSTS, json=POST, headers=headers), first)
    assert member.get(path).status_code == 404


def test_a_key_is_its_caller_s_and_its_path_s(devnest: DevNest, member: httpx.Client) -> None:
    """The same key of another account, or for another post, is another."""
    headers = keyed()
    first = member.post(POSTS, json=POST, headers=headers).json()
    with devnest.client() as other:
        sign_up(other, f"u{uuid.uuid4().hex[:20]}")
        second = other.post(POSTS, json=POST, headers=headers).json()
    assert first["id"] != second["id"]
    paths = [f"{POSTS}/{post['id']}/comments" for post in (first, second)]
    comments = [
        member.post(path, json={"body": "b"}, headers=headers).json()["id"] for path in paths
    ]
    assert len(set(comments)) == 2


def test_registering_again_needs_the_same_password(
    devnest: DevNest, client: httpx.Client, username: str
) -> None:
    """422 for another, and nothing of a password is kept with the key."""
    headers = keyed()
    assert client.post(REGISTER, json=account(username), headers=headers).status_code == 201
    refused = client.post(REGISTER, json=account(username, "another long phrase"), headers=headers)
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:devnest:key-reused")
    sign_in(client, username)
    (row,) = devnest.query(
        "SELECT k.* FROM idempotency_keys k JOIN accounts a ON a.id = k.account_id WHERE username = $1",
        username,
    )
    for hidden in (PASSWORD, headers["idempotency-key"], "$2b$"):
        assert hidden.encode() not in b"".join(
            value for value in row.values() if isinstance(value, bytes)
        )
    assert len(devnest.mails_to(f"{username}@example.org", 1)) == 1


def test_a_refusal_leaves_the_key_free(member: httpx.Client, username: str) -> None:
    """Nothing was done, so the mended request may have the same key."""
    headers = keyed()
    assert member.post(POSTS, json={"title": "t"}, headers=headers).status_code == 422
    assert (
        member.post(
            f"{POSTS}/{uuid.uuid4()}/comments", json={"body": "b"}, headers=headers
        ).status_code
        == 404
    )
    assert member.post(POSTS, json=POST, headers=headers).status_code == 201
    assert member.post(REGISTER, json=account(username), headers=headers).status_code == 409
    assert (
        member.post(REGISTER, json=account(f"x{username[:20]}"), headers=headers).status_code == 201
    )


@pytest.mark.parametrize("path", [POSTS, REGISTER])
@pytest.mark.parametrize("key", ["", "x" * 129, "two words", "ünï", "a\tb"])
def test_what_is_no_key_is_refused(member: httpx.Client, path: str, key: str) -> None:
    """400 with the header's name; nothing is done."""
    body = POST if path == POSTS else account(f"r{uuid.uuid4().hex[:20]}")
    answer = member.post(path, json=body, headers=[(b"idempotency-key", key.encode())])
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == ["Idempotency-Key"]
    assert (
        member.post(path, json=body, headers=keyed(uuid.uuid4().hex.ljust(128, "~"))).status_code
        == 201
    )


def test_an_answer_survives_the_death_of_everything(data_dir: Path, username: str) -> None:
    """What was answered before is answered after, by a server that knew nothing of it."""
    headers, register = keyed(), keyed()
    with running(data_dir) as devnest, devnest.client() as client:
        registered = client.post(REGISTER, json=account(username), headers=register)
        sign_in(client, username)
        first = client.post(POSTS, json=POST, headers=headers)
        devnest.kill_everything()
    with running(data_dir) as devnest, devnest.client() as client:
        assert same(client.post(REGISTER, json=account(username), headers=register), registered)
        sign_in(client, username)
        assert same(client.post(POSTS, json=POST, headers=headers), first)
        # A server that dies between the work and its end leaves neither.
        headers = {**keyed(), "authorization": client.headers["authorization"]}
        asyncio.run(send_and_kill_the_server(devnest, headers))
        with devnest.client() as again:  # the old connection ended with the server
            assert again.get(POSTS, params={"author": username}).json()["items"] == [first.json()]
            assert again.post(POSTS, json=POST, headers=headers).status_code == 201
            assert len(again.get(POSTS, params={"author": username}).json()["items"]) == 2


async def send_and_kill_the_server(devnest: DevNest, headers: dict[str, str]) -> None:
    """The post is written, its key has to wait for us, and the server does not live to see it."""
    socket_dir = (devnest.data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[4]
    connection = await asyncpg.connect(f"postgresql://devnest@/devnest?host={quote(socket_dir)}")
    async with (
        httpx.AsyncClient(base_url=devnest.url, timeout=PATIENCE_S, verify=NO_TLS) as client,
        connection.transaction(),
    ):
        await connection.execute("LOCK TABLE idempotency_keys IN EXCLUSIVE MODE")
        sent = asyncio.create_task(client.post(POSTS, json=POST, headers=headers))
        while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            await asyncio.sleep(0.01)
        for server in devnest.find("devnest.cluster.server"):
            server.kill()
        with pytest.raises(httpx.TransportError):
            await sent
    await connection.close()


async def test_keys_are_forgotten_after_a_day(database: Database) -> None:
    """By housekeeping; younger ones stay."""
    account_id = await database.fetch_value(
        "INSERT INTO accounts (id, username, email, password_hash) VALUES ($1, $2, $2, '') RETURNING id",
        uuid.uuid4(), uuid.uuid4().hex,
    )  # fmt: skip
    for age in ("23 hours", "25 hours"):
        await database.fetch(
            "INSERT INTO idempotency_keys VALUES ($1, '', $2, '', now() - $3::text::interval)",
            age.encode(), account_id, age,
        )  # fmt: skip
    await purge(database)
    rows = await database.fetch("SELECT id FROM idempotency_keys WHERE account_id = $1", account_id)
    assert [row["id"] for row in rows] == [b"23 hours"]
