"""Throttling and the audit log, on a DevNest with its limits on."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import argon2
import httpx
import psutil
import pytest

from tests.support import PASSWORD, DevNest, eventually, sign_in, sign_up

LOGIN, REGISTER, REFRESH = "/api/v1/auth/login", "/api/v1/auth/register", "/api/v1/auth/refresh"
ELSEWHERE = "127.0.0.2"
WRONG = "not the password"


@pytest.fixture
def client(limited: DevNest) -> Iterator[httpx.Client]:
    """An HTTP client of nobody, whose address has no failures yet."""
    with limited.client() as client:
        forgive(limited, client)
        yield client


def forgive(devnest: DevNest, client: httpx.Client) -> None:
    """Forget all failures, and wait until the server has: for a second it believes what it heard
    of who hammers.
    """
    devnest.query("DELETE FROM throttles")
    eventually(lambda: client.post(REGISTER).status_code != 429)  # no body, so it is not counted


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
    with limited.client(ELSEWHERE) as stranger:
        for name in (username, f"x{username[:20]}"):
            limited.query("DELETE FROM throttles")
            assert statuses(stranger, name, 11) == [401] * 11
            lengthen_waits(limited)
            refused = fail(stranger, name, PASSWORD)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.json()["type"] == "urn:devnest:throttled"


def test_no_network_is_privileged(limited: DevNest, client: httpx.Client, username: str) -> None:
    """Failures from elsewhere hold where the account signs in too: or the difference would tell
    that there is one.
    """
    sign_up(client, username)
    with limited.client(ELSEWHERE) as stranger:
        assert statuses(stranger, username, 11) == [401] * 11
    lengthen_waits(limited)
    assert fail(client, username, PASSWORD).status_code == 429


def test_a_stranger_makes_nobody_wait_for_long(
    limited: DevNest, client: httpx.Client, username: str
) -> None:
    """Half a minute at most, however often a stranger fails; what is told is the real time."""
    sign_up(client, username)
    for number in range(25):
        with limited.client(f"127.0.3.{number + 1}") as stranger:
            assert statuses(stranger, username, 1) == [401]
        limited.query("UPDATE throttles SET blocked_until = least(blocked_until, now())")
    assert statuses(client, username, 1) == [401]
    refused = fail(client, username, PASSWORD)
    (wait,) = limited.query(
        "SELECT extract(epoch FROM max(blocked_until) - now())::float8 AS s FROM throttles"
    )
    if refused.status_code == 429:  # a very slow machine has served the wait
        assert wait["s"] <= int(refused.headers["retry-after"]) <= 30
    limited.query("UPDATE throttles SET blocked_until = '-infinity'")
    assert sign_in(client, username)


def test_both_names_of_an_account_have_one_counter(
    limited: DevNest, client: httpx.Client, username: str
) -> None:
    """In any case of its letters; what is asked of who is signed in has another."""
    sign_up(client, username)
    names = [
        username,
        username.upper(),
        f"{username}@example.org",
        f"{username.upper()}@Example.org",
    ]
    for number in range(11):
        name = names[number % 4]
        body = {"email" if "@" in name else "username": name, "password": WRONG}
        assert client.post(LOGIN, json=body).status_code == 401
    lengthen_waits(limited)
    for name in names:
        body = {"email" if "@" in name else "username": name, "password": PASSWORD}
        assert client.post(LOGIN, json=body).status_code == 429
    change = {"email": f"{username}@example.org", "password": PASSWORD}
    assert client.patch("/api/v1/users/me", json=change).status_code == 200


def test_success_forgets_no_failure(limited: DevNest, client: httpx.Client, username: str) -> None:
    """A guesser would see when the holder signs in, and have ten more tries."""
    sign_up(client, username)
    with limited.client(ELSEWHERE) as stranger:
        assert statuses(stranger, username, 6) == [401] * 6
        sign_in(client, username)
        assert statuses(stranger, username, 5) == [401] * 5
        lengthen_waits(limited)
        assert statuses(stranger, username, 1) == [429]


def test_an_address_is_slowed_down_whatever_the_names(
    limited: DevNest, client: httpx.Client, username: str
) -> None:
    """Thirty failures are free, and forgotten one by one, also while somebody signs in from
    there.
    """
    sign_up(client, username)
    assert [fail(client, f"{username[:18]}{number:02}").status_code for number in range(31)] == [
        401
    ] * 31
    lengthen_waits(limited)
    refused = fail(client, username, PASSWORD)
    assert refused.status_code == 429
    (wait,) = limited.query(
        "SELECT extract(epoch FROM max(blocked_until) - now())::float8 AS s FROM throttles"
    )
    assert wait["s"] <= int(refused.headers["retry-after"]) <= 3601
    past = "UPDATE throttles SET empty_at = empty_at - $1::interval, blocked_until = '-infinity'"
    limited.query(past.replace("$1", "'1 hour'"))
    for _ in range(3):
        sign_in(client, username)
    (left,) = limited.query(
        "SELECT extract(epoch FROM max(empty_at) - now())::float8 AS s FROM throttles"
    )
    assert left["s"] < 120  # of 31 failures, one in two minutes is forgotten
    assert fail(client, f"y{username[:20]}").status_code == 401


def test_success_is_never_counted(client: httpx.Client, username: str) -> None:
    """Nor is a free name: more good sign-ins and changes of the name's case in a row than
    failures are free.
    """
    sign_up(client, username)
    for _ in range(32):
        sign_in(client, username)
        for name in (username.upper(), username):
            change = {"username": name, "password": PASSWORD}
            assert client.patch("/api/v1/users/me", json=change).status_code == 200


def test_a_guess_that_could_not_be_checked_is_not_counted(
    limited: DevNest, client: httpx.Client, username: str
) -> None:
    """503 where the worker has no memory for argon2id.

    Neither the address nor the account pays for it.
    """
    sign_up(client, username)
    heavy = argon2.PasswordHasher(time_cost=1, memory_cost=65536, parallelism=1).hash(PASSWORD)
    limited.query("UPDATE accounts SET password_hash = $2 WHERE username = $1", username, heavy)
    limited.query("DELETE FROM throttles")
    (worker,) = limited.find("devnest.cluster.hashing_pool")[0].children()
    failures = "SELECT 1 FROM throttles WHERE empty_at > now()"
    with limited.client(ELSEWHERE) as elsewhere:
        unlimited = worker.rlimit(psutil.RLIMIT_AS)
        worker.rlimit(psutil.RLIMIT_AS, (worker.memory_info().vms, unlimited[1]))
        refused = fail(elsewhere, username, PASSWORD)
        worker.rlimit(psutil.RLIMIT_AS, unlimited)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert limited.query(failures) == []
        assert fail(elsewhere, username).status_code == 401
        assert len(limited.query(failures)) == 2
        sign_in(elsewhere, username)


def test_listing_names_and_tokens_is_slowed_down(
    limited: DevNest, client: httpx.Client, username: str
) -> None:
    """Registering taken names and held ones, and refresh tokens of nobody."""
    sign_up(client, before := f"y{username[:20]}")
    change = {"username": username, "password": PASSWORD}
    assert client.patch("/api/v1/users/me", json=change).status_code == 200
    account = {"username": username, "email": f"x{username}@example.org", "password": PASSWORD}
    held, free = {**account, "username": before}, {**account, "username": f"x{username[:20]}"}
    answers = [
        client.post(REGISTER, json=(account, held)[number % 2]).status_code for number in range(31)
    ]
    assert answers == [409] * 31
    lengthen_waits(limited)
    for name in (account, held, free):  # or the wait itself would tell them apart
        assert client.post(REGISTER, json=name).status_code == 429
        change = {"username": name["username"].upper(), "password": PASSWORD}
        assert client.patch("/api/v1/users/me", json=change).status_code == 429
    forgive(limited, client)
    answers = [client.post(REFRESH, json={"refresh_token": "x"}).status_code for _ in range(31)]
    assert answers == [401] * 31
    lengthen_waits(limited)
    assert client.post(REFRESH, json={"refresh_token": "x"}).status_code == 429


def test_a_taken_name_is_changed_to_no_faster(
    limited: DevNest, client: httpx.Client, username: str
) -> None:
    """With the password of one's own account, to another's name or address."""
    sign_up(client, other := f"x{username[:20]}")
    sign_up(client, username)
    changes = [
        {"username": other, "password": PASSWORD},
        {"email": f"{other}@example.org", "password": PASSWORD},
    ]
    answers = [
        client.patch("/api/v1/users/me", json=changes[number % 2]).status_code
        for number in range(31)
    ]
    assert answers == [409] * 31
    lengthen_waits(limited)
    for change in changes:
        assert client.patch("/api/v1/users/me", json=change).status_code == 429


def test_an_ended_session_s_token_does_not_fill_the_audit_log(
    limited: DevNest, client: httpx.Client, username: str
) -> None:
    """It is refused as often as it comes; of the refusals beyond ten a few are written.

    Nobody else is slowed down.
    """
    sign_up(client, username)
    tokens = sign_in(client, username)
    assert client.post("/api/v1/auth/logout").status_code == 204
    limited.query("DELETE FROM audit_log")
    body = {"refresh_token": tokens["refresh_token"]}
    assert [client.post(REFRESH, json=body).status_code for _ in range(11)] == [401] * 11
    lengthen_waits(limited)
    answers = [client.post(REFRESH, json=body) for _ in range(30)]
    assert {answer.status_code for answer in answers} == {429}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
    reasons = [row["reason"] for row in limited.query("SELECT reason FROM audit_log ORDER BY id")]
    assert reasons == ["ended"] * 11 + ["throttled"]
    other = sign_in(client, username)
    assert client.post(REFRESH, json={"refresh_token": other["refresh_token"]}).status_code == 200


@pytest.mark.parametrize("change", [{"username": "another-name"}, {"email": "another@example.org"}])
def test_a_change_of_name_or_address_is_no_way_to_guess(
    limited: DevNest, client: httpx.Client, username: str, change: dict[str, str]
) -> None:
    """Wrong passwords are throttled as at a sign-in, for whoever has an access token alone."""
    sign_up(client, username)
    answers = [
        client.patch("/api/v1/users/me", json={**change, "password": WRONG}).status_code
        for _ in range(11)
    ]
    assert answers == [403] * 11
    lengthen_waits(limited)
    assert (
        client.patch("/api/v1/users/me", json={**change, "password": PASSWORD}).status_code == 429
    )
    assert client.get("/api/v1/users/me").json()["username"] == username


def test_the_audit_log_tells_everything_but_secrets(
    limited: DevNest, client: httpx.Client, username: str
) -> None:
    """Each operation, success and failure, who, from where, under which request id."""
    client.headers["user-agent"] = "the auditor"
    sign_up(client, username)
    account_id = client.get("/api/v1/users/me").json()["id"]
    first = sign_in(client, username)
    second = client.post(
        "/api/v1/auth/refresh", json={"refresh_token": first["refresh_token"]}
    ).json()
    third = client.post(
        "/api/v1/auth/refresh", json={"refresh_token": second["refresh_token"]}
    ).json()
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


def test_nor_does_hammering_beside_right_sign_ins(
    limited: DevNest, client: httpx.Client, username: str
) -> None:
    """A right sign-in ends a wait: refusals in the next one are written when a second has
    passed, not before.
    """
    sign_up(client, username)

    def is_unwritten() -> bool:
        """Whether the next wait is not written.

        It may be where the machine took longer than a second.
        """
        limited.forget_failures()
        assert statuses(client, username, 10) == [401] * 10
        refused_while_under_way(limited, client, username)
        limited.query(
            "UPDATE throttles SET blocked_until = now() + interval '1 hour', told = false WHERE told"
        )
        limited.query("DELETE FROM audit_log")
        assert statuses(client, username, 3) == [429] * 3
        return not limited.query("SELECT FROM audit_log")

    eventually(is_unwritten)

    def is_written() -> bool:
        assert fail(client, username).status_code == 429
        return [row["reason"] for row in limited.query("SELECT reason FROM audit_log")] == [
            "throttled"
        ]

    eventually(is_written)


def refused_while_under_way(devnest: DevNest, client: httpx.Client, username: str) -> None:
    """Begin a wait with a right sign-in, hammer until that is answered, and so end the wait."""
    workers = devnest.find("devnest.cluster.hashing_pool")[0].children()
    with devnest.client() as holder, ThreadPoolExecutor(1) as thread:
        for worker in workers:
            worker.suspend()
        try:
            right = thread.submit(fail, holder, username, PASSWORD)
            eventually(
                lambda: bool(
                    devnest.query("SELECT FROM throttles WHERE blocked_until > '-infinity'")
                )
            )
            lengthen_waits(devnest)
            assert statuses(client, username, 3) == [429] * 3
        finally:
            for worker in workers:
                worker.resume()
        assert right.result().status_code == 200
