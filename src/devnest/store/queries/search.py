"""The search for posts: valid searches, and limits for their cost.

A search reads only posts that the index finds: each alternative between `or` must contain a word or
phrase that has to occur. The statements run on separate connections with a short time limit.

The search is parsed here and written again in quotes, because `websearch_to_tsquery` can fail: each
`-` before a word uses one level of a stack of 32.
"""

import re
from typing import Any

import asyncpg

from devnest.store.database import Database
from devnest.store.errors import DatabaseUnavailable, SearchRefused, SearchTooSlow
from devnest.store.queries.posts import Post, list_posts

__all__ = ["MAX_SEARCH_S", "as_websearch", "search_database", "search_posts"]

MAX_SEARCH_S = 2.0  # per statement: a hundred times what a search in 400 of the longest posts takes
# The words of a search and the operators between them, so 32 words or more. Each word is a look-up
# in the index.
MAX_NODES = 96
SETTINGS = {
    "application_name": "devnest-search",
    # The best index depends on the search, so no plan is shared by all searches.
    "plan_cache_mode": "force_custom_plan",
    # The planner ignores the cost of reading the words of long posts, which PostgreSQL stores
    # outside the table. It would choose a scan of the whole table.
    "enable_seqscan": "off",
}
NO_WORD = "each part between or needs a word that has to be there"
TOO_MANY = "too many words"
TERM = re.compile(r'(?P<minus>-?)"(?P<phrase>[^"]*)"?|(?P<word>[^\s"]+)')


def search_database(url: str, connections: int) -> Database:
    """Return a database for searches, not yet open."""
    return Database(url, connections, statement_timeout_s=MAX_SEARCH_S, settings=SETTINGS)


async def search_posts(database: Database, query: str, limit: int, **more: Any) -> list[Post]:
    """Find posts by their words, newest first.

    Args:
        database: What `search_database` returned.
        query: Words and `"phrases"` that have to occur, with `-` before those that must not, and
            `or` between alternatives.
        limit: The most posts.
        more: Other arguments of `list_posts`.

    Raises:
        SearchRefused: An alternative has no word that has to occur, or there are too many words.
        SearchTooSlow: PostgreSQL ended the search after `MAX_SEARCH_S`.
        DatabaseUnavailable: The database does not answer.
    """
    words = as_websearch(query)
    try:
        row = await database.fetch_row(
            "SELECT querytree(query), numnode(query)"
            " FROM websearch_to_tsquery('simple', $1) AS query",
            words,
        )
        assert row is not None
        indexed, nodes = row
        # Empty: no word can be looked up. T: in one of the alternatives none can.
        if indexed in ("", "T"):
            raise SearchRefused(NO_WORD)
        if nodes > MAX_NODES:
            raise SearchRefused(TOO_MANY)
        return await list_posts(database, limit, words=words, **more)
    except DatabaseUnavailable as error:
        if isinstance(error.__cause__, asyncpg.QueryCanceledError):
            raise SearchTooSlow(MAX_SEARCH_S) from error
        raise


def as_websearch(query: str) -> str:
    """Return the search as a text that `websearch_to_tsquery` always accepts.

    Each word and phrase is quoted. One `-` before it negates it. Several belong to the word, as in
    `--help`, and a single `-` is ignored.

    Raises:
        SearchRefused: An alternative has nothing that has to occur. Only PostgreSQL can tell
            whether it is a word or just a sign.
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
