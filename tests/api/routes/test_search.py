"""Searching posts: what is found, what is refused, and what nobody waits for."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import quote

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devnest.api.searches import Searches
from devnest.store import Database, EmbeddedPostgres
from tests.metrics import Page, requests, scrape, total, until
from tests.store.queries.test_search import ASKED
from tests.support import NO_TLS, PATIENCE_S, DevNest, sign_in

POSTS = "/api/v1/posts"
SEARCHING = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE application_name = 'devnest-search' AND wait_event = 'relation'"
)


@pytest.fixture
def no_error_is_logged(devnest: DevNest) -> Iterator[None]:
    """A test fails for an error of SQL that happened in it."""
    with (devnest.data_dir / "postgres.log").open() as log:
        log.seek(0, 2)
        yield
        assert [line for line in log if "ERROR:" in line] == []


def running_url_of(devnest: DevNest) -> str:
    """The URL of its database."""
    socket_dir = (devnest.data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[4]
    return f"postgresql://devnest@/devnest?host={quote(socket_dir)}"


@asynccontextmanager
async def nobody_reads_posts(url: str) -> AsyncIterator[None]:
    """Each search lasts until this ends, or until its time is up."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE posts IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


def test_search_finds_words_and_phrases(member: httpx.Client) -> None:
    """In title and body, newest first, page by page, with the other filters."""
    word = f"w{uuid.uuid4().hex}"
    for title, body in (
        ("One", f"the {word} event loop"),
        (f"{word} two", "loop of events"),
        ("Three", "no such"),
    ):
        assert (
            member.post(POSTS, json={"title": title, "body": body, "tags": [word[:20]]}).status_code
            == 201
        )

    def found(q: str, **more: str) -> list[str]:
        answer = member.get(POSTS, params={"q": q, **more})
        assert answer.status_code == 200, answer.text
        return [item["title"] for item in answer.json()["items"]]

    assert found(word.upper()) == [f"{word} two", "One"]
    assert found(f'{word} "event loop"') == ["One"]
    assert found(f'{word} -"event loop"') == [f"{word} two"]
    assert found(f"nothing{word} or {word}") == [f"{word} two", "One"]
    assert found(word, tag=word[:20], author="nobody-at-all") == []
    assert found(word, tag=word[:20]) == [f"{word} two", "One"]
    assert found(f"nothing{word}") == []
    first = member.get(POSTS, params={"q": word, "limit": "1"}).json()
    assert found(word, limit="1", cursor=first["next_cursor"]) == ["One"]


@pytest.mark.parametrize(
    "q",
    ["", "x" * 201, "a\0b", "-aaa", '-"a b"', "a or -b", "-" * 33, "- " * 100, "&", '"', "<b>", "a " * 100],
)  # fmt: skip
@pytest.mark.usefixtures("no_error_is_logged")
def test_a_wrong_search_is_named(client: httpx.Client, q: str) -> None:
    """400 with the parameter's name, whether it is too long, or would read every post."""
    answer = client.get(POSTS, params={"q": q})
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:devnest:parameter"
    assert [error["field"] for error in answer.json()["errors"]] == ["q"]


# What a client may put into a URL, be it UTF-8 or not.
RAW = st.binary(max_size=60).map(quote) | st.lists(
    st.sampled_from(["%00", "%ff", "%ed%a0%80", "%", "+", "a"])
).map("".join)
VALUES = ASKED.map(quote) | RAW
CURSORS = st.text("AQgw_-019az", min_size=20, max_size=24) | VALUES


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    names=st.lists(st.sampled_from(["q", "q", "author", "tag", "cursor"]), min_size=1, max_size=3),
    values=st.tuples(VALUES, VALUES, CURSORS),
)
@pytest.mark.usefixtures("no_error_is_logged")
def test_whatever_is_asked_is_answered(
    client: httpx.Client, names: list[str], values: tuple[str, ...]
) -> None:
    """Or refused with 400, without an error in the database: parameters of any bytes, alone and
    together.
    """
    query = "&".join(f"{name}={value}" for name, value in zip(names, values, strict=False))
    answer = client.get(f"{POSTS}?{query}")
    assert answer.status_code in (200, 400), query
    if answer.status_code == 400:
        assert answer.json()["errors"][0]["field"] in names, query


async def test_nobody_else_waits_for_a_search(
    devnest: DevNest, member: httpx.Client, username: str
) -> None:
    """While each search lasts as long as it may and the queue is full, sign-ins and pages are
    answered.
    """
    url = running_url_of(devnest)
    limits = httpx.Limits(max_connections=150)
    async with httpx.AsyncClient(
        base_url=devnest.url, timeout=PATIENCE_S, verify=NO_TLS, limits=limits
    ) as crowd:
        async with nobody_reads_posts(url):
            searches = [
                asyncio.create_task(crowd.get(POSTS, params={"q": f"word{n}"})) for n in range(110)
            ]
            full, _ = await asyncio.wait(searches, return_when=asyncio.FIRST_COMPLETED)
            for answer in [task.result() for task in full]:
                assert (answer.status_code, answer.json()["type"]) == (503, "urn:devnest:full")
                assert int(answer.headers["retry-after"]) >= 1
            for _ in range(10):
                await asyncio.to_thread(sign_in, member, username)
            assert (
                await asyncio.to_thread(lambda: member.get("/api/v1/users/me").status_code) == 200
            )
        answers = [
            answer.json().get("type", answer.status_code)
            for answer in await asyncio.gather(*searches)
        ]
    assert set(answers) <= {200, "urn:devnest:full", "urn:devnest:search-time"}
    assert answers.count("urn:devnest:full") >= 9


async def test_a_search_that_takes_too_long_is_ended(devnest: DevNest) -> None:
    """503 with a time to come back and a type of its own; the next one is answered."""
    async with httpx.AsyncClient(base_url=devnest.url, timeout=PATIENCE_S, verify=NO_TLS) as client:
        async with nobody_reads_posts(running_url_of(devnest)):
            answer = await client.get(POSTS, params={"q": "word"})
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:devnest:search-time")
        assert int(answer.headers["retry-after"]) >= 1
        assert (await client.get(POSTS, params={"q": "word"})).status_code == 200


async def test_a_search_ends_with_its_client(devnest: DevNest) -> None:
    """One that runs and those that wait: each counts as 499, unless its time was up before."""

    def ended(page: Page) -> float:
        return requests(page, "GET", POSTS, 499) + requests(page, "GET", POSTS, 503)

    before = scrape(devnest.url)
    host, port = devnest.url.removeprefix("http://").rsplit(":", 1)
    async with nobody_reads_posts(running_url_of(devnest)):
        for number in range(5):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(
                b"GET /api/v1/posts?q=word%d HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc"
                % number
            )
            await writer.drain()
            await asyncio.to_thread(
                until, devnest.url, lambda page: total(page, "http_server_active_requests") > 1
            )
            writer.close()
        after = await asyncio.to_thread(
            until, devnest.url, lambda page: ended(page) >= ended(before) + 5
        )
        assert requests(after, "GET", POSTS, 499) > requests(before, "GET", POSTS, 499)
        await asyncio.to_thread(until, devnest.url, lambda page: total(page, "search_waiting") == 0)


async def test_a_cancelled_search_makes_room_when_postgresql_has_ended_it(
    postgres: EmbeddedPostgres, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many clients come and go, one search runs."""
    monkeypatch.setattr("devnest.store.queries.search.MAX_SEARCH_S", 600)
    async with Searches(postgres.url, database) as searches:
        async with nobody_reads_posts(postgres.url):
            for number in range(20):
                search = asyncio.create_task(searches.find(f"{number}", "word", 1))
                while not await database.fetch_value(SEARCHING):
                    await asyncio.sleep(0.005)
                assert await database.fetch_value(SEARCHING) <= 1
                search.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await search
        assert await searches.find("a", "word", 1) == []
        assert await database.fetch_value(SEARCHING) == 0
