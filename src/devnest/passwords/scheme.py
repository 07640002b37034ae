"""The stored form of a password, as plain functions: text in, text out, nothing awaited.

bcrypt reads 72 bytes of a password and treats it as a string that repeats with a NUL after it, so longer passwords
would be cut, and some passwords with a NUL inside would be alike. Those two kinds are stored as passlib's
`$bcrypt-sha256$v=2` (an HMAC-SHA-256 of the password, keyed by the salt, in base64, is what bcrypt hashes); all others
as plain `$2b$`. Both formats are known to other software.
https://passlib.readthedocs.io/en/stable/lib/passlib.hash.bcrypt_sha256.html
"""

import base64
import hmac
import re
import secrets
import unicodedata

import bcrypt

__all__ = [
    "MAXIMUM_COST",
    "MINIMUM_COST",
    "UnusableHash",
    "decoy",
    "hash_password",
    "needs_rehash",
    "verify_password",
]

MINIMUM_COST = 4  # bcrypt's own bounds are 4 and 31; 4 is for tests only
MAXIMUM_COST = 18  # 2^6 times the work of the default: about 15 s. A stored hash above it is refused before any work.
BCRYPT_BYTES = 72
ALPHABET = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

PLAIN = re.compile(r"\$2[aby]\$(?P<cost>\d\d)\$[./A-Za-z0-9]{53}", re.ASCII)
WRAPPED = re.compile(
    r"\$bcrypt-sha256\$v=2,t=2b,r=(?P<cost>\d{1,2})\$(?P<salt>[./A-Za-z0-9]{22})\$(?P<digest>[./A-Za-z0-9]{31})",
    re.ASCII,
)


class UnusableHash(ValueError):
    """A stored hash is in no known format, or asks for more work than allowed. The message does not quote it."""


def hash_password(password: str, cost: int) -> str:
    """The stored form of a password with a new salt: `$2b$…` or `$bcrypt-sha256$…`.

    Takes about 0.2 s at cost 12; each step of cost doubles it. Raises ValueError for a cost outside 4 to 18.
    """
    if not MINIMUM_COST <= cost <= MAXIMUM_COST:
        raise ValueError(f"the cost {cost} is not within {MINIMUM_COST} and {MAXIMUM_COST}")
    secret = _normal(password)
    salt = bcrypt.gensalt(cost)
    if _fits(secret):
        return bcrypt.hashpw(secret, salt).decode("ascii")
    hashed = bcrypt.hashpw(_short(secret, salt[7:]), salt).decode("ascii")
    return f"$bcrypt-sha256$v=2,t=2b,r={cost}${hashed[7:29]}${hashed[29:]}"


def verify_password(password: str, stored: str) -> bool:
    """Whether the password is the one that was stored. Raises `UnusableHash` before any work."""
    cost = _cost(stored)
    secret = _normal(password)
    if wrapped := WRAPPED.fullmatch(stored):
        salt = wrapped["salt"].encode("ascii")
        plain = b"$2b$%02d$%b%b" % (cost, salt, wrapped["digest"].encode("ascii"))
        return bcrypt.checkpw(_short(secret, salt), plain)
    # Software that cuts at 72 bytes may have written a plain hash of a longer password: cut as it did.
    return bcrypt.checkpw(secret[:BCRYPT_BYTES], stored.encode("ascii"))


def needs_rehash(stored: str, cost: int) -> bool:
    """Whether a stored hash is not what `hash_password` would write today with this cost."""
    try:
        return _cost(stored) != cost or stored.startswith(("$2a$", "$2y$"))
    except UnusableHash:
        return True


def decoy(cost: int) -> str:
    """A stored form that no password matches and that takes as long to check as a real one of this cost."""
    return bcrypt.gensalt(cost).decode("ascii") + "".join(secrets.choice(ALPHABET) for _ in range(31))


def _cost(stored: str) -> int:
    match = PLAIN.fullmatch(stored) or WRAPPED.fullmatch(stored)
    if match is None:
        raise UnusableHash("a stored password hash is in no known format")
    cost = int(match["cost"])
    if not MINIMUM_COST <= cost <= MAXIMUM_COST:
        raise UnusableHash(
            f"a stored password hash has cost {cost}, above the limit of {MAXIMUM_COST} or below {MINIMUM_COST}"
        )
    return cost


def _normal(password: str) -> bytes:
    """One byte string for all the ways a keyboard may compose the same characters (NIST SP 800-63B-4, 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password).encode("utf-8")


def _fits(secret: bytes) -> bool:
    return len(secret) <= BCRYPT_BYTES and b"\0" not in secret


def _short(secret: bytes, salt: bytes) -> bytes:
    return base64.b64encode(hmac.digest(salt, secret, "sha256"))
