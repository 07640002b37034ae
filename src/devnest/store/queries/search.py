"""Searching posts: what may be asked, and what the answer may cost.

A search reads no post whose words the index does not name: each of its parts between `or` has a word or phrase that has
to be there. Its statements run on connections of their own, which PostgreSQL gives little time.

What is asked is taken apart here and put together again in quotes, for `websearch_to_tsquery` does raise for some
texts: each `-` that begins a word goes on a stack of 32.
"""

import re
from typing import Any

import asyncpg

from devnest.store.database import Database
from devnest.store.errors import DatabaseUnavailable, SearchRefused, SearchTooSlow
from devnest.store.queries.posts import Post, list_posts

__all__ = ["MAX_SEARCH_S", "as_websearch", "search_database", "search_posts"]

MAX_SEARCH_S = 2.0  # of a statement: a hundred times what 400 of the longest posts take
# Words, and what negates and joins them: 32 words or more. Each is a look-up in the index.
MAX_NODES = 96
SETTINGS = {
    "application_name": "devnest-search",
    # What is asked decides which index serves, so no plan is made for all searches.
    "plan_cache_mode": "force_custom_plan",
    # The words of long posts are stored apart from the table, and the planner takes reading them for free.
    "enable_seqscan": "off",
}
NO_WORD = "a word that has to be there is needed, in each part between or"
TOO_MANY = "too many words"
TERM = re.compile(r'(?P<minus>-?)"(?P<phrase>[^"]*)"?|(?P<word>[^\s"]+)')


def search_database(url: str, connections: int) -> Database:
    """Connections for searches, not yet open."""
    return Database(url, connections, statement_timeout_s=MAX_SEARCH_S, settings=SETTINGS)


async def search_posts(database: Database, query: str, limit: int, **more: Any) -> list[Post]:
    """Find posts by their words, newest first.

    Args:
        database: What `search_database` made.
        query: Words and `"phrases"`, all of which have to be there, with `-` before what must not be there, and `or`
            between alternatives.
        limit: How many posts, at most.
        more: Other arguments of `list_posts`.

    Raises:
        SearchRefused: Nothing that has to be there is asked for, or too much.
        SearchTooSlow: PostgreSQL has ended the search.
        DatabaseUnavailable: As for every statement.
    """
    words = as_websearch(query)
    try:
        row = await database.fetch_row(
            "SELECT querytree(query), numnode(query) FROM websearch_to_tsquery('simple', $1) AS query",
            words,
        )
        assert row is not None
        indexed, nodes = row
        if indexed in (
            "",
            "T",
        ):  # no word that can be looked up; T: for one of the parts there is none
            raise SearchRefused(NO_WORD)
        if nodes > MAX_NODES:
            raise SearchRefused(TOO_MANY)
        return await list_posts(database, limit, words=words, **more)
    except DatabaseUnavailable as error:
        if isinstance(error.__cause__, asyncpg.QueryCanceledError):
            raise SearchTooSlow(MAX_SEARCH_S) from error
        raise


def as_websearch(query: str) -> str:
    """What is asked, as a text for which `websearch_to_tsquery` never raises: words and phrases, each in quotes.

    One `-` before a word or a phrase negates it. Several are part of it, as in `--help`, and one alone is nothing.

    Raises:
        SearchRefused: A part between `or` has nothing that has to be there. Whether what it has is a word, and not a
            sign, PostgreSQL knows.
    """
    parts: list[list[str]] = [[]]
    terms = [match for match in TERM.finditer(query) if match["word"] or match["phrase"]]
    for match in terms:
        word = match["word"]
        if word is None:
            minus, text = match["minus"], match["phrase"]
        elif word.lower() == "or" and parts[-1] and match is not terms[-1]:
            parts.append([])
            continue
        else:
            minus, text = ("-", word[1:]) if re.match("-[^-]", word) else ("", word)
        parts[-1].append(f'{minus}"{text}"')
    if not all(any(term.startswith('"') for term in part) for part in parts):
        raise SearchRefused(NO_WORD)
    return " or ".join(" ".join(part) for part in parts)
