"""Device tokens: they let a known device sign in while an attacker's failures block the account.

OWASP calls them device cookies. Each sign-in returns a token for its device. A later sign-in with
that token is charged to the device's own counter, and all sign-ins without one share the counter
of the account. A token does not give access to anything. It is signed with a key of the account,
so no other account accepts it, and a password reset replaces that key. The server stores no tokens.

A token contains the number of one of the account's `MAX_DEVICES` counters. An attacker who has
stolen any number of tokens therefore has only that many counters to fail against. Two devices may
share a counter by chance.
"""

import hmac
import secrets
import struct
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from uuid import UUID

__all__ = ["MAX_DEVICES", "find_device", "issue_device_token", "new_device"]

# Counters of one account. With tokens of all of them, an attacker has 64 times the attempts that
# one name has, and a person's devices rarely share one.
MAX_DEVICES = 64
LIFETIME_S = 180 * 24 * 60 * 60  # a device that has not signed in for 180 days is unknown again
VERSION = 1
CLAIMS = struct.Struct(">BBQ")  # version, number of the device, second of the issue
TOKEN_CHARS = 56  # 10 bytes of claims and 32 of HMAC-SHA-256, in base64 without padding


def new_device() -> int:
    """Choose a number for a device that has no token yet."""
    return secrets.randbelow(MAX_DEVICES)


def issue_device_token(key: UUID, device: int) -> str:
    """Make a token, which is valid for 180 days.

    Args:
        key: The account's device key.
        device: The number of the device.
    """
    return _sign(key, CLAIMS.pack(VERSION, device, int(time.time())))


def find_device(key: UUID, token: str) -> int | None:
    """Read the number of a device from its token.

    Args:
        key: The account's device key.
        token: What the client has sent, which may be any text.

    Returns:
        The number, or None if the token is not a valid one of this account.
    """
    if len(token) != TOKEN_CHARS or not token.isascii():
        return None
    try:
        claims = urlsafe_b64decode(token)[: CLAIMS.size]
    except ValueError:
        return None
    version, device, issued_at = CLAIMS.unpack(claims.ljust(CLAIMS.size, b"\0"))
    # The text is compared and not the decoded signature, so a token has exactly one spelling.
    if not hmac.compare_digest(_sign(key, claims), token) or version != VERSION:
        return None
    return device if time.time() < issued_at + LIFETIME_S else None


def _sign(key: UUID, claims: bytes) -> str:
    signature = hmac.digest(key.bytes, claims, "sha256")
    return urlsafe_b64encode(claims + signature).decode()
