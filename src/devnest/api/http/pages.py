"""Pages of items: how many items and bytes one may hold, and where the next one begins."""

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
MAX_LIMIT = 100  # `patterns.LIMIT` has to say the same
# The JSON of a page's items. A page with a single item may be larger. Three posts of the largest
# size (302 kB) fit, and a hundred posts of 10 kB.
MAX_PAGE_BYTES = 1024 * 1024
# The bodies of all items of a page. Up to here the JSON nearly always fits: a character takes 6
# bytes at most, and 2 more for each are left for the other fields.
MAX_SMALL_CHARS = MAX_PAGE_BYTES // 8

# A text with a pattern instead of a number, because msgspec also reads `1e1` and `10.0` as 10.
Limit = Annotated[
    str,
    Parameter(
        pattern=patterns.LIMIT,
        description="The maximum number of items. A page of large items has fewer.",
        schema_extra={
            "type": OpenAPIType.INTEGER,
            "minimum": 1,
            "maximum": MAX_LIMIT,
            "default": int(DEFAULT_LIMIT),
            "pattern": None,
        },
    ),
]


class Item(Protocol):
    """An item of a page."""

    @property
    def id(self) -> UUID:
        """The cursor of the next page is made from it."""

    @property
    def body(self) -> str:
        """The text that makes up most of the item's JSON."""


class EncodedPage(msgspec.Struct):
    """A page as it is sent; its items may be encoded already."""

    items: Sequence[Item] | list[msgspec.Raw]
    next_cursor: str | None


def encode_page(found: Sequence[Item], limit: int) -> bytes:
    """Encode as many items as a page may hold, and at least one if there is one.

    Args:
        found: The items from the beginning of the page on. It has to hold at least one item more
            than the page, unless these are the last items: if the page holds all of `found`, its
            `next_cursor` is null.
        limit: How many items the page may hold.

    Returns:
        The page in JSON. Its items have `MAX_PAGE_BYTES` at most, or there is only one item.
    """
    items = found[:limit]
    # Encoding all items at once is half the work of encoding one at a time.
    if sum([len(item.body) for item in items]) <= MAX_SMALL_CHARS:
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
    """Encode a page, with a cursor unless its last item is the last of all."""
    return encode(
        EncodedPage(
            items, encode_cursor(found[len(items) - 1].id) if len(items) < len(found) else None
        )
    )
