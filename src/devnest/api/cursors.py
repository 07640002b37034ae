"""Cursors: where the next page begins, opaque to clients."""

import base64
from uuid import UUID

from devnest.api.bodies import NOT_AT_THE_END

__all__ = ["CURSOR", "decode_cursor", "encode_cursor"]

# The 16 bytes of a UUID in base64url without padding: the last of 22 characters carries 2 bits.
CURSOR = f"^[A-Za-z0-9_-]{{21}}[AQgw]{NOT_AT_THE_END}"


def encode_cursor(last: UUID) -> str:
    """The cursor after the item with this id."""
    return base64.urlsafe_b64encode(last.bytes).rstrip(b"=").decode("ascii")


def decode_cursor(cursor: str) -> UUID:
    """The id of the item before the page; the cursor has matched `CURSOR`."""
    return UUID(bytes=base64.urlsafe_b64decode(cursor + "=="))
