"""Device tokens: what a sign-in leaves on a device, so that strangers' failures do not hold there.

OWASP calls them device cookies. A sign-in that presents one has a counter of its own; all others share the account's.
A token opens nothing, and only its own account takes it: it is signed with a key of that account, which a reset of the
password replaces. Nothing is stored for one.

Its number says which of the account's counters its failures are counted by. There are `MAX_DEVICES` of them, so who
steals any number of tokens has no more tries than that many names; two devices may share one by chance.
"""

import hmac
import secrets
import struct
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from uuid import UUID

__all__ = ["MAX_DEVICES", "find_device", "issue_device_token", "new_device"]

MAX_DEVICES = 64  # counters of one account, and so 64 times the tries of a name for who has stolen all of its tokens
LIFETIME_S = (
    180 * 24 * 60 * 60
)  # a device that has not signed in for half a year is not known any more
VERSION = 1
CLAIMS = struct.Struct(">BBQ")  # version, number of the device, second of the issue
TOKEN_LENGTH = 56  # 10 bytes of claims and 32 of HMAC-SHA-256, as base64 without padding


def new_device() -> int:
    """The number of a device that has no token yet."""
    return secrets.randbelow(MAX_DEVICES)


def issue_device_token(key: UUID, device: int) -> str:
    """A token for a device of the account with this key, good for 180 days."""
    return _sign(key, CLAIMS.pack(VERSION, device, int(time.time())))


def find_device(key: UUID, token: str) -> int | None:
    """The number of the device, None for anything but a good token of this account."""
    if len(token) != TOKEN_LENGTH or not token.isascii():
        return None
    try:
        claims = urlsafe_b64decode(token)[: CLAIMS.size]
    except ValueError:
        return None
    version, device, issued_at = CLAIMS.unpack(claims.ljust(CLAIMS.size, b"\0"))
    # The whole text is compared, so a token has one spelling.
    if not hmac.compare_digest(_sign(key, claims), token) or version != VERSION:
        return None
    return device if time.time() < issued_at + LIFETIME_S else None


def _sign(key: UUID, claims: bytes) -> str:
    signature = hmac.digest(key.bytes, claims, "sha256")
    return urlsafe_b64encode(claims + signature).decode()
