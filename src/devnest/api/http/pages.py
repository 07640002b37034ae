"""Pages: how many items and how many bytes one holds, and where the next one begins."""

from collections.abc import Sequence
from typing import Annotated, Protocol
from uuid import UUID

import msgspec
from litestar.openapi.spec.enums import OpenAPIType
from litestar.params import Parameter

from devnest.api.http import patterns
from devnest.api.http.cursors import encode_cursor
from devnest.api.http.response import encode

__all__ = ["DEFAULT_LIMIT", "MAX_PAGE_BYTES", "Limit", "encode_page"]

DEFAULT_LIMIT = "20"
MAX_LIMIT = 100  # the pattern in `texts` says the same
# Of the items of a page in JSON, a page with one item aside. A post has at most 302 kB, so three of the largest fit;
# a hundred posts of 10 kB fit too.
MAX_PAGE_BYTES = 1024 * 1024

# A text with a pattern, not a number: msgspec reads `1e1` and `10.0` as numbers too.
Limit = Annotated[
    str,
    Parameter(
        pattern=patterns.LIMIT,
        description="Items, at most; a page of large ones has fewer",
        schema_extra={
            "type": OpenAPIType.INTEGER, "minimum": 1, "maximum": MAX_LIMIT, "default": int(DEFAULT_LIMIT),
            "pattern": None,
        },
    ),
]  # fmt: skip


# Of the bodies of a page, in characters: below, six bytes for each leave room for all the rest, as a rule.
MAX_SMALL_CHARACTERS = MAX_PAGE_BYTES // 8


class Item(Protocol):
    """What a page lists."""

    @property
    def id(self) -> UUID:
        """The next page's cursor is made of it."""

    @property
    def body(self) -> str:
        """The largest part of it."""


class Encoded(msgspec.Struct):
    """A page, or one whose items are in JSON already."""

    items: Sequence[Item] | list[msgspec.Raw]
    next_cursor: str | None


def encode_page(found: Sequence[Item], limit: int) -> bytes:
    """Encode as many items as a page may hold, in number and in bytes, at least one.

    Args:
        found: The items from the page's beginning on. There are more of them than the page holds, unless they are the
            last ones: a page that holds all of them has no next.
        limit: How many items the page may hold.

    Returns:
        The page in JSON, of at most `MAX_PAGE_BYTES` and some brackets, or of one item.
    """
    items = found[:limit]
    if (
        sum([len(item.body) for item in items]) <= MAX_SMALL_CHARACTERS
    ):  # nearly always, and half the work
        page = _encode(items, found)
        if len(page) <= MAX_PAGE_BYTES:
            return page
    encoded = list[msgspec.Raw]()
    size = 0
    for item in items:
        raw = encode(item)
        size += len(raw) + 1
        if size > MAX_PAGE_BYTES and encoded:
            break
        encoded.append(msgspec.Raw(raw))
    return _encode(encoded, found)


def _encode(items: Sequence[Item] | list[msgspec.Raw], found: Sequence[Item]) -> bytes:
    """The page, with the cursor after its last item where that is not the last of all."""
    return encode(
        Encoded(items, encode_cursor(found[len(items) - 1].id) if len(items) < len(found) else None)
    )
