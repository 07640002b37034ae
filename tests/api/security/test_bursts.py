"""Many at once from one address: a school is let through, a guesser is not."""

import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from devnest.api.security.in_flight import MAX_IN_FLIGHT, InFlight
from devnest.api.security.throttle_cache import MAX_AGE_S
from devnest.store import Throttled
from tests.support import PASSWORD, DevNest, data_directory, eventually, running, sign_up

LOGIN, REGISTER = "/api/v1/auth/login", "/api/v1/auth/register"
CROWD = 100
OLD_FAILURES = """
UPDATE throttles SET empty_at = now() + $1::int * interval '2 minutes', blocked_until = '-infinity'"""


@pytest.fixture(scope="module")
def limited() -> Iterator[DevNest]:
    """Two servers with limits, and hashes that take longer than requests."""
    with (
        data_directory() as data_dir,
        running(data_dir, "--limits", "--processes=2", "--hash-cost=6") as process,
    ):
        yield process


@pytest.fixture(autouse=True)
def forgiven(limited: DevNest) -> None:
    """Nobody has failures yet, and no server remembers any."""
    limited.forget_failures()


async def post(devnest: DevNest, path: str, body: dict[str, str]) -> int:
    """The status of the answer, over a connection of its own.

    httpx takes ten times the CPU for each.
    """
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: devnest\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    url = httpx.URL(devnest.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write(f"{head}\r\nConnection: close\r\n\r\n".encode() + content)
        return int((await reader.readline()).split()[1])
    finally:
        writer.close()


def all_at_once(devnest: DevNest, path: str, bodies: list[dict[str, str]]) -> Counter[int]:
    """The statuses of the answers to so many requests, which come faster than they can be
    answered.
    """

    async def send() -> list[int]:
        return await asyncio.gather(*(post(devnest, path, body) for body in bodies))

    return Counter(asyncio.run(send()))


def test_a_hundred_register_and_sign_in_at_once(limited: DevNest, username: str) -> None:
    """From one address, with the right passwords: no 429, for what is under way is no failure."""
    accounts = [
        {
            "username": f"{username[:18]}{number:03}",
            "email": f"{username}{number}@example.org",
            "password": PASSWORD,
        }
        for number in range(CROWD)
    ]
    assert all_at_once(limited, REGISTER, accounts) == {201: CROWD}
    logins = [{"username": account["username"], "password": PASSWORD} for account in accounts]
    assert all_at_once(limited, LOGIN, logins) == {200: CROWD}
    # With old failures at the address too, be they more than are free.
    with limited.client() as client:
        assert (
            client.post(LOGIN, json={"username": username, "password": "wrong"}).status_code == 401
        )
    limited.query(OLD_FAILURES, 45)
    assert all_at_once(limited, LOGIN, logins) == {200: CROWD}


def test_of_many_guesses_at_once_eleven_are_checked(limited: DevNest, username: str) -> None:
    """At one account, over all servers."""
    with limited.client("127.0.0.2") as client:
        sign_up(client, username)
    bodies = [{"username": username, "password": f"wrong {number}"} for number in range(200)]
    started = time.monotonic()
    answers = all_at_once(limited, LOGIN, bodies)
    # After 1, 3, 7 … seconds one more may be, should a machine take as long.
    waits_served = int(math.log2(time.monotonic() - started + 1))
    assert answers[401] <= 11 + waits_served
    assert answers == {401: answers[401], 429: 200 - answers[401]}


def test_a_guesser_with_many_names_has_one_burst(limited: DevNest, username: str) -> None:
    """No more are under way than there may be failures, and what fails counts: then one at a
    time, and with a wait.
    """
    names = [f"{username[:16]}{number:04}" for number in range(2 * MAX_IN_FLIGHT + CROWD)]
    bodies = [{"username": name, "password": PASSWORD} for name in names]
    started = time.monotonic()
    answers = all_at_once(limited, LOGIN, bodies)
    assert answers[401] <= 2 * MAX_IN_FLIGHT  # of two servers
    assert (
        answers[429] + answers[503] == len(names) - answers[401]
    )  # 503: a very slow machine has no time for some
    (level,) = limited.query(
        "SELECT extract(epoch FROM max(empty_at) - now())::float8 / 120 AS failures FROM throttles"
    )
    forgotten = 1 + (time.monotonic() - started) / 120
    assert level["failures"] >= min(MAX_IN_FLIGHT, answers[401]) - forgotten
    time.sleep(MAX_AGE_S)  # what a server believes of who hammers
    limited.query(OLD_FAILURES, MAX_IN_FLIGHT)
    answers = all_at_once(
        limited, LOGIN, [{"username": f"x{name}", "password": PASSWORD} for name in names[:50]]
    )
    assert answers[401] <= 2  # one of each server
    assert answers[429] + answers[503] == 50 - answers[401]


def test_what_is_under_way_leaves_room_for_fewer_failures() -> None:
    """Each address has a number of its own.

    One attempt is always let through, so that nobody is shut out.
    """
    under_way = InFlight()
    assert under_way.enter("one") is None
    assert [under_way.enter("one") for _ in range(3)] == [
        MAX_IN_FLIGHT - 2,
        MAX_IN_FLIGHT - 3,
        MAX_IN_FLIGHT - 4,
    ]
    assert under_way.enter("other") is None
    for _ in range(MAX_IN_FLIGHT - 4):
        under_way.enter("one")
    with pytest.raises(Throttled) as caught:
        under_way.enter("one")
    assert (caught.value.retry_after, caught.value.first) == (1, False)
    under_way.leave("one")
    assert under_way.enter("one") == 0
    for _ in range(MAX_IN_FLIGHT):
        under_way.leave("one")
    assert under_way.enter("one") is None


def test_nothing_stays_under_way(limited: DevNest, username: str) -> None:
    """Where clients go before their answer: there is room for as many others."""

    async def come_and_go() -> None:
        names = [
            {"username": f"x{username[:17]}{number:03}", "password": PASSWORD}
            for number in range(CROWD)
        ]
        leaving = [asyncio.create_task(post(limited, LOGIN, name)) for name in names]
        await asyncio.wait(leaving, return_when=asyncio.FIRST_COMPLETED)
        for request in leaving:
            request.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)

    def all_are_let_through() -> bool:
        limited.forget_failures()  # what has just failed late, of those who went
        names = [
            {"username": f"{username[:18]}{number:03}", "password": PASSWORD}
            for number in range(CROWD)
        ]
        return all_at_once(limited, LOGIN, names) == {401: CROWD}

    for _ in range(2 * MAX_IN_FLIGHT // CROWD + 1):
        asyncio.run(come_and_go())
        limited.query("DELETE FROM throttles")
    eventually(all_are_let_through)
