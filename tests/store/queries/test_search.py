"""Searches: what is asked, as PostgreSQL understands it, and what PostgreSQL stores to answer
it.
"""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devnest.store import (
    Account,
    Database,
    EmbeddedPostgres,
    Post,
    SearchRefused,
    SearchTooSlow,
    change_post,
    create_account,
    create_post,
    create_posts,
    search_database,
    search_posts,
)
from devnest.store.queries import search as module
from devnest.store.queries.posts import Draft
from devnest.store.queries.search import as_websearch

MAX_TITLE, MAX_BODY = 200, 50_000  # characters, of a post
QUERY = "SELECT querytree(query) FROM websearch_to_tsquery('simple', $1) AS query"

# What means something to this parser or to PostgreSQL's, and what may be a letter or a space to one
# of them alone.
PIECES = st.sampled_from([
    "-", "--", '"', "or", "OR", " ", "\t", "\n", "\x01", "\x7f", "\u00a0", "\u3000", "\u200b", "\ufeff", "\ud7ff",
    "a", "B", "b-c", "1.2e-3", "-4", "<b>", "</b>", "<", ">", "&amp;", "&", "|", "!", "(", ")", ":*", ":A", "*", "\\",
    "\\\\", "'", "''", "%", "_", "$1", "<->", "<0>", "http://a.b/c?d", "x@y.de", "/a/b", "日本", "😀", "\u0130", "ß",
])  # fmt: skip
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200)
ASKED = (st.lists(PIECES, max_size=100).map("".join) | TEXTS).filter(
    lambda asked: len(asked) <= 200
)


@pytest.fixture
async def searching(postgres: EmbeddedPostgres) -> AsyncIterator[Database]:
    """Connections for searches."""
    async with search_database(postgres.url, 1) as database:
        yield database


@pytest.fixture
async def author(database: Database) -> Account:
    name = f"u{uuid4().hex[:20]}"
    return await create_account(database, name, f"{name}@example.org", "hash")


@pytest.mark.parametrize(
    ("asked", "understood"),
    [
        ("one two", '"one" "two"'),
        ('one "two three" four', '"one" "two three" "four"'),
        ("one -two", '"one" -"two"'),
        ('-"one two" three', '-"one two" "three"'),
        ("one or two OR three", '"one" or "two" or "three"'),
        ("one or -two three", '"one" or -"two" "three"'),
        ("or one", '"or" "one"'),
        ("one or", '"one" "or"'),
        ("one or or two", '"one" or "or" "two"'),
        ('one or ""', '"one" "or"'),
        ("git --amend", '"git" "--amend"'),
        ("one - two", '"one" "-" "two"'),
        ('one "two', '"one" "two"'),
        ('one"two three"four', '"one" "two three" "four"'),
        ("-" * 33 + "a", f'"{"-" * 33}a"'),
        ("a & !b | (c:*)", '"a" "&" "!b" "|" "(c:*)"'),
    ],
)
def test_what_is_asked_is_put_in_quotes(asked: str, understood: str) -> None:
    """So that nothing in it means anything but what it says."""
    assert as_websearch(asked) == understood


@pytest.mark.parametrize(
    "asked",
    ["-aaa", '-"a b"', "-a -b", "a or -b", "-a or b", "", " ", '""', "-" * 33, "- " * 100, "&", "<b>", "-a <b>",
     '"<b>" -a or b', "--", "😀 or -x"],
)  # fmt: skip
async def test_a_search_without_a_word_is_refused(searching: Database, asked: str) -> None:
    """In each part of it: PostgreSQL would look at every post."""
    with pytest.raises(SearchRefused, match="has to be there"):
        await search_posts(searching, asked, 10)


@pytest.mark.parametrize("asked", [" ".join("a" * 100), "-".join("a" * 100), "a " + "-b " * 66])
async def test_a_search_of_very_many_words_is_refused(searching: Database, asked: str) -> None:
    """Each is a look-up."""
    with pytest.raises(SearchRefused, match="too many words"):
        await search_posts(searching, asked, 10)
    await search_posts(
        searching, " ".join(asked.split(" ")[:32]) if "a-a" not in asked else "a-a-a", 10
    )


@settings(
    max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(asked=ASKED)
async def test_postgresql_never_raises(searching: Database, asked: str) -> None:
    """For whatever is asked.

    And what is searched for has a word in each part, or every post would be read.
    """
    try:
        words = as_websearch(asked)
    except SearchRefused:
        return
    if await searching.fetch_value(QUERY, words) in ("", "T"):
        with pytest.raises(SearchRefused):
            await search_posts(searching, asked, 1)
    else:
        await search_posts(searching, asked, 1)


async def test_words_follow_a_change(
    database: Database, searching: Database, author: Account
) -> None:
    """The old ones find it no longer; nor do those of a tag."""
    old, new = f"w{uuid4().hex}", f"w{uuid4().hex}"
    post = await create_post(database, author.id, "a title", f"about {old}", [new[:32]])
    assert [found.id for found in await search_posts(searching, f"{old} title", 2)] == [post.id]
    assert await search_posts(searching, new, 2) == []
    assert await change_post(database, post.id, author.id, None, body=f"about {new}")
    assert await search_posts(searching, old, 2) == []
    assert [found.body for found in await search_posts(searching, new, 2)] == [f"about {new}"]


def letters(count: int) -> list[str]:
    """Different ones of four bytes each."""
    return [chr(0x20000 + number) for number in range(count)]


# The most bytes of words that a post may have: each letter a word, alone and in one or several
# joined words.
LONG = {
    "words of one letter": " ".join(letters(MAX_BODY // 2)),
    **{
        f"{count} joined": " ".join(
            "-".join(letters(40_000)[at : at + count])
            for at in range(0, MAX_BODY // (2 * count) * count, count)
        )
        for count in (2, 50)
    },
    "longest words": " ".join(letter * 511 for letter in letters(97)),
    "capitals that grow": " ".join("\u023a" * 400 + letter for letter in letters(120)),
    "hosts and paths": " ".join(f"{number:x}.com/{number:x}" for number in range(3800)),
}


@pytest.mark.parametrize("kind", LONG)
async def test_no_post_has_too_many_words(
    database: Database, searching: Database, author: Account, kind: str
) -> None:
    """Alone, in a group and changed: PostgreSQL stores the words of the longest posts there are,
    and finds one.
    """
    body, word = LONG[kind], f"w{uuid4().hex}"
    assert MAX_BODY * 0.8 < len(body) <= MAX_BODY
    title = (word + " " + "-".join(letters(MAX_TITLE)))[:MAX_TITLE]
    posts = await create_posts(
        database, [Draft(author.id, title, text, []) for text in (body, "short")]
    )
    assert [type(post) for post in posts] == [Post, Post]
    post = await create_post(database, author.id, title, "short", [])
    assert await change_post(database, post.id, author.id, None, body=body)
    assert len(await search_posts(searching, word, 10)) == 3
    size = await database.fetch_value(
        "SELECT max(pg_column_size(words)) FROM posts WHERE author_id = $1", author.id
    )
    assert size < 600_000  # PostgreSQL allows 1 MiB and says so when it is too late


async def test_a_search_has_little_time(
    postgres: EmbeddedPostgres, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL ends it, and the connection is as good as before."""
    monkeypatch.setattr(module, "MAX_SEARCH_S", 0.05)
    async with search_database(postgres.url, 1) as searching:
        async with database.connection() as connection, connection.transaction():
            await connection.execute("LOCK TABLE posts IN ACCESS EXCLUSIVE MODE")
            backend = await searching.fetch_value("SELECT pg_backend_pid()")
            with pytest.raises(SearchTooSlow, match=r"longer than 0\.05 s"):
                await search_posts(searching, "word", 1)
        assert await search_posts(searching, f"w{uuid4().hex}", 1) == []
        assert await searching.fetch_value("SELECT pg_backend_pid()") == backend
