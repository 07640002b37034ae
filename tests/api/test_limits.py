"""Throttling and the audit log, on a DevNest with its limits on."""

from collections.abc import Iterator

import argon2
import httpx
import psutil
import pytest

from tests.support import NO_TLS, PASSWORD, DevNest, data_directory, eventually, running, sign_in, sign_up

LOGIN = "/api/v1/auth/login"
WRONG = "not the password"


@pytest.fixture(scope="module")
def limited() -> Iterator[DevNest]:
    """A DevNest with limits."""
    with data_directory() as data_dir, running(data_dir, "--limits") as process:
        yield process


@pytest.fixture
def client(limited: DevNest) -> Iterator[httpx.Client]:
    """An HTTP client of nobody, whose address has no failures yet."""
    with limited.client() as client:
        forgive(limited, client)
        yield client


def forgive(devnest: DevNest, client: httpx.Client) -> None:
    """Forget all failures, and wait until the server has: for a second it believes what it heard of who hammers."""
    devnest.query("DELETE FROM throttles")
    eventually(lambda: client.post(LOGIN).status_code != 429)  # no body, so it is not counted


def fail(client: httpx.Client, username: str, password: str = WRONG) -> httpx.Response:
    return client.post(LOGIN, json={"username": username, "password": password})


def lengthen_waits(devnest: DevNest) -> None:
    """So that none is over before a slow machine looks; nobody gets one who has none."""
    devnest.query("UPDATE throttles SET blocked_until = blocked_until + interval '1 hour'")


def statuses(client: httpx.Client, username: str, tries: int) -> list[int]:
    return [fail(client, username).status_code for _ in range(tries)]


def test_guessing_is_slowed_down(limited: DevNest, client: httpx.Client, username: str) -> None:
    """Ten failures are free; then 429 with the time to wait, for known and unknown names alike."""
    sign_up(client, username)
    with httpx.Client(
        base_url=limited.url, transport=httpx.HTTPTransport(NO_TLS, local_address="127.0.0.2")
    ) as stranger:
        for name in (username, f"x{username[:20]}"):
            limited.query("DELETE FROM throttles")
            assert statuses(stranger, name, 11) == [401] * 11
            lengthen_waits(limited)
            refused = fail(stranger, name, PASSWORD)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.json()["type"] == "urn:devnest:throttled"


def test_a_stranger_locks_nobody_out(limited: DevNest, client: httpx.Client, username: str) -> None:
    """Failures from elsewhere do not count where the account is at home, and count half a minute elsewhere."""
    sign_up(client, username)
    with httpx.Client(
        base_url=limited.url, transport=httpx.HTTPTransport(NO_TLS, local_address="127.0.0.2")
    ) as stranger:
        assert statuses(stranger, username, 11) == [401] * 11
        limited.query("UPDATE throttles SET failures = 1000, blocked_until = now()")
        assert statuses(stranger, username, 1) == [401]
        lengthen_waits(limited)
        assert statuses(stranger, username, 1) == [429]
    with httpx.Client(
        base_url=limited.url, transport=httpx.HTTPTransport(NO_TLS, local_address="127.0.0.3")
    ) as elsewhere:
        limited.query("UPDATE throttles SET blocked_until = now() + longest WHERE longest < interval '1 minute'")
        limited.query("UPDATE throttles SET blocked_until = now() WHERE longest > interval '1 minute'")
        refused = fail(elsewhere, username, PASSWORD)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) <= 30
    assert sign_in(client, username)


def test_the_wait_does_not_tell_who_is_at_home(limited: DevNest, client: httpx.Client, username: str) -> None:
    """From an address where the account signs in, it comes after as many tries as for a name of nobody."""
    sign_up(client, username)
    for name in (username, f"x{username[:20]}"):
        assert statuses(client, name, 11) == [401] * 11
        lengthen_waits(limited)
        assert statuses(client, name, 1) == [429]


def test_success_is_never_counted(client: httpx.Client, username: str) -> None:
    """Nor is a free name: more good sign-ins and changes of the name's case in a row than failures are free."""
    sign_up(client, username)
    for _ in range(32):
        sign_in(client, username)
        for name in (username.upper(), username):
            change = {"username": name, "password": PASSWORD}
            assert client.patch("/api/v1/users/me", json=change).status_code == 200


def test_a_guess_that_could_not_be_checked_is_not_counted(
    limited: DevNest, client: httpx.Client, username: str
) -> None:
    """503 where the worker has no memory for argon2id; neither the address nor the account pays for it."""
    sign_up(client, username)
    heavy = argon2.PasswordHasher(time_cost=1, memory_cost=65536, parallelism=1).hash(PASSWORD)
    limited.query("UPDATE accounts SET password_hash = $2 WHERE username = $1", username, heavy)
    limited.query("DELETE FROM throttles")
    (worker,) = limited.find("devnest.cluster.hashing_pool")[0].children()
    with httpx.Client(
        base_url=limited.url, transport=httpx.HTTPTransport(NO_TLS, local_address="127.0.0.2")
    ) as elsewhere:
        unlimited = worker.rlimit(psutil.RLIMIT_AS)
        worker.rlimit(psutil.RLIMIT_AS, (worker.memory_info().vms, unlimited[1]))
        refused = fail(elsewhere, username, PASSWORD)
        worker.rlimit(psutil.RLIMIT_AS, unlimited)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert [row["failures"] for row in limited.query("SELECT failures FROM throttles")] == [0, 0]
        assert fail(elsewhere, username).status_code == 401
        assert [row["failures"] for row in limited.query("SELECT failures FROM throttles")] == [1, 1]
        sign_in(elsewhere, username)


def test_listing_names_and_tokens_is_slowed_down(limited: DevNest, client: httpx.Client, username: str) -> None:
    """Registering taken names, and refresh tokens of nobody."""
    sign_up(client, username)
    account = {"username": username, "email": f"{username}@example.org", "password": PASSWORD}
    answers = [client.post("/api/v1/auth/register", json=account).status_code for _ in range(31)]
    assert answers == [409] * 31
    lengthen_waits(limited)
    free = {**account, "username": f"x{username[:20]}", "email": f"x{username}@example.org"}
    for name in (account, free):  # or the wait itself would tell them apart
        assert client.post("/api/v1/auth/register", json=name).status_code == 429
        change = {"username": name["username"].upper(), "password": PASSWORD}
        changed = client.patch("/api/v1/users/me", json=change)
        assert changed.status_code == 429
    forgive(limited, client)
    answers = [client.post("/api/v1/auth/refresh", json={"refresh_token": "x"}).status_code for _ in range(31)]
    assert answers == [401] * 31
    lengthen_waits(limited)
    assert client.post("/api/v1/auth/refresh", json={"refresh_token": "x"}).status_code == 429


@pytest.mark.parametrize("change", [{"username": "another-name"}, {"email": "another@example.org"}])
def test_a_change_of_name_or_address_is_no_way_to_guess(
    limited: DevNest, client: httpx.Client, username: str, change: dict[str, str]
) -> None:
    """Wrong passwords are throttled as at a sign-in, for whoever has an access token alone."""
    sign_up(client, username)
    answers = [client.patch("/api/v1/users/me", json={**change, "password": WRONG}).status_code for _ in range(11)]
    assert answers == [403] * 11
    lengthen_waits(limited)
    assert client.patch("/api/v1/users/me", json={**change, "password": PASSWORD}).status_code == 429
    assert client.get("/api/v1/users/me").json()["username"] == username


def test_the_audit_log_tells_everything_but_secrets(limited: DevNest, client: httpx.Client, username: str) -> None:
    """Each operation, success and failure, who, from where, under which request id."""
    client.headers["user-agent"] = "the auditor"
    sign_up(client, username)
    account_id = client.get("/api/v1/users/me").json()["id"]
    first = sign_in(client, username)
    second = client.post("/api/v1/auth/refresh", json={"refresh_token": first["refresh_token"]}).json()
    third = client.post("/api/v1/auth/refresh", json={"refresh_token": second["refresh_token"]}).json()
    fail(client, username)
    reused = client.post("/api/v1/auth/refresh", json={"refresh_token": first["refresh_token"]})
    sign_in(client, username)
    client.post("/api/v1/auth/logout")
    sign_in(client, username)
    client.delete(f"/api/v1/auth/sessions/{client.get('/api/v1/auth/sessions').json()[-1]['id']}")
    client.delete("/api/v1/auth/sessions")
    rows = limited.query("SELECT * FROM audit_log WHERE account_id = $1 ORDER BY id", account_id)
    assert [(row["event"], row["reason"]) for row in rows] == [
        ("register", None),
        ("login", None),
        ("login", None),
        ("refresh", None),
        ("refresh", None),
        ("login", "wrong password"),
        ("refresh", "reused"),
        ("login", None),
        ("logout", None),
        ("login", None),
        ("session_end", None),
        ("sessions_end", None),
    ]
    assert all(row["succeeded"] is (row["reason"] is None) for row in rows)
    assert {row["address"] for row in rows} == {"127.0.0.1"}
    assert {row["user_agent"] for row in rows} == {"the auditor"}
    assert rows[6]["request_id"] == reused.headers["x-request-id"]
    assert rows[6]["session_id"] == rows[2]["session_id"]
    everything = str(limited.query("SELECT * FROM audit_log"))
    secrets = [PASSWORD, WRONG, "$2b$", *first.values(), *second.values(), *third.values()]
    for secret in secrets:
        assert str(secret) == "900" or secret == "Bearer" or secret not in everything


def test_hammering_does_not_fill_the_audit_log(limited: DevNest, client: httpx.Client) -> None:
    """Of all refusals of one wait, the first is written."""
    for _ in range(11):
        fail(client, "nobody-at-all")
    limited.query("UPDATE throttles SET blocked_until = now() + interval '1 hour'")
    limited.query("DELETE FROM audit_log")
    assert statuses(client, "nobody-at-all", 20) == [429] * 20
    assert [row["reason"] for row in limited.query("SELECT reason FROM audit_log")] == ["throttled"]
