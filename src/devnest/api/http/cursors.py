"""Cursors: opaque strings that say where the next page begins."""

import base64
from typing import Annotated
from uuid import UUID

from litestar.params import Parameter

from devnest.api.http import patterns

__all__ = ["Cursor", "decode_cursor", "encode_cursor"]

Cursor = Annotated[
    str | None,
    Parameter(
        pattern=patterns.CURSOR,
        description="The `next_cursor` of the previous page. Leave it out for the first page.",
    ),
]


def encode_cursor(last: UUID) -> str:
    """Make the cursor of the page that follows an item.

    Args:
        last: The id of that item, the last one of its page.
    """
    return base64.urlsafe_b64encode(last.bytes).rstrip(b"=").decode("ascii")


def decode_cursor(cursor: str) -> UUID:
    """Read the id of the item before the page.

    Args:
        cursor: A cursor that matches `patterns.CURSOR`, which the `Cursor` parameter has checked.
    """
    return UUID(bytes=base64.urlsafe_b64decode(cursor + "=="))
