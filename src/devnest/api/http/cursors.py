"""Cursors: where the next page begins, opaque to clients."""

import base64
from typing import Annotated
from uuid import UUID

from litestar.params import Parameter

from devnest.api.http import patterns

__all__ = ["Cursor", "decode_cursor", "encode_cursor"]

Cursor = Annotated[
    str | None, Parameter(pattern=patterns.CURSOR, description="`next_cursor` of the page before")
]


def encode_cursor(last: UUID) -> str:
    """The cursor after the item with this id."""
    return base64.urlsafe_b64encode(last.bytes).rstrip(b"=").decode("ascii")


def decode_cursor(cursor: str) -> UUID:
    """The id of the item before the page; the cursor has matched its pattern in `texts`."""
    return UUID(bytes=base64.urlsafe_b64decode(cursor + "=="))
