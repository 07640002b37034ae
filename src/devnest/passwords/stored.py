"""The stored forms of passwords: what each one says, and that it asks for bounded work."""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from typing import NamedTuple

from devnest.passwords.errors import UnusableHash

__all__ = ["MAX_COST", "MIN_COST", "BcryptHash", "DerivedKey", "is_bcrypt", "parse_bcrypt", "wrap"]

MIN_COST = 4  # bcrypt's own bounds are 4 and 31; 4 is for tests only
# 2^6 times the work of the default cost, about 15 s. A stored hash above it is refused before any
# work.
MAX_COST = 18
MAX_BCRYPT_BYTES = 72  # of a password; bcrypt reads no more

SALT = "[./A-Za-z0-9]{21}[.Oeu]"  # 132 bits for 128; bcrypt wants the four spare bits to be zero
DIGEST = "[./A-Za-z0-9]{31}"
# Modular crypt format. Django writes `bcrypt$` before it, for its `BCryptPasswordHasher`.
PLAIN = re.compile(
    rf"(?P<django>bcrypt\$)?\$2[aby]\$(?P<cost>\d\d)\$(?P<salt>{SALT})(?P<digest>{DIGEST})",
    re.ASCII,
)
# passlib's `bcrypt_sha256`, and the form of our own long passwords.
# https://passlib.readthedocs.io/en/stable/lib/passlib.hash.bcrypt_sha256.html
WRAPPED = re.compile(
    rf"\$bcrypt-sha256\$v=2,t=2b,r=(?P<cost>\d{{1,2}})\$(?P<salt>{SALT})\$(?P<digest>{DIGEST})",
    re.ASCII,
)
# Django's `BCryptSHA256PasswordHasher`: bcrypt of the hexadecimal SHA-256 of the password.
DJANGO_SHA256 = re.compile(
    rf"bcrypt_sha256\$\$2[aby]\$(?P<cost>\d\d)\$(?P<salt>{SALT})(?P<digest>{DIGEST})", re.ASCII
)
PREFIXES = ("$2a$", "$2b$", "$2y$", "$bcrypt-sha256$", "bcrypt$", "bcrypt_sha256$")


class BcryptHash(NamedTuple):
    """A stored form whose work is one bcrypt hash.

    Attributes:
        cost: bcrypt's cost.
        setting: bcrypt's prefix, cost and salt: 29 characters.
        digest: The other 31 characters of the bcrypt hash.
        secret: Returns the bytes that bcrypt hashes, given the password's bytes and the salt.
        cuts: Whether the form ignores what follows the first 72 bytes of a password.
    """

    cost: int
    setting: bytes
    digest: bytes
    secret: Callable[[bytes, bytes], bytes]
    cuts: bool = False


class DerivedKey(NamedTuple):
    """A stored form of another scheme: a key that is derived from the password.

    Attributes:
        key: The stored key.
        derive: Derives a key from the password's bytes.
        pads: Whether a password and the same with NULs after it have the same key.
    """

    key: bytes
    derive: Callable[[bytes], bytes]
    pads: bool = False

    def matches(self, secret: bytes) -> bool:
        """Return whether the key is derived from these bytes."""
        return hmac.compare_digest(self.derive(secret), self.key)


def is_bcrypt(stored: str) -> bool:
    """Return whether a stored form begins as those that bcrypt computes."""
    return stored.startswith(PREFIXES)


def parse_bcrypt(stored: str) -> BcryptHash:
    """Read a stored form that bcrypt computes.

    Raises:
        UnusableHash: It is malformed, or its cost is out of bounds.
    """
    for form, secret in ((PLAIN, _cut), (WRAPPED, wrap), (DJANGO_SHA256, _hexadecimal)):
        if match := form.fullmatch(stored):
            return _bounded(match, secret, cuts=form is PLAIN)
    raise UnusableHash("a stored password hash is in no known format")


def _bounded(
    match: "re.Match[str]", secret: Callable[[bytes, bytes], bytes], *, cuts: bool
) -> BcryptHash:
    cost = int(match["cost"])
    if not MIN_COST <= cost <= MAX_COST:
        raise UnusableHash(
            f"a stored password hash has cost {cost}, "
            f"above the limit of {MAX_COST} or below {MIN_COST}"
        )
    setting = f"$2b${cost:02d}${match['salt']}".encode("ascii")
    return BcryptHash(cost, setting, match["digest"].encode("ascii"), secret, cuts)


def wrap(password: bytes, salt: bytes) -> bytes:
    """Return what bcrypt hashes for passlib's `bcrypt_sha256`: 44 bytes for any password."""
    return base64.b64encode(hmac.digest(salt, password, "sha256"))


def _cut(password: bytes, salt: bytes) -> bytes:
    # bcrypt takes a password as a string that repeats with a NUL after it, so some passwords with a
    # NUL inside would be equal to others. Such a password matches no plain hash, after the same
    # work.
    return wrap(password, salt) if b"\0" in password else password[:MAX_BCRYPT_BYTES]


def _hexadecimal(password: bytes, _salt: bytes) -> bytes:
    return hashlib.sha256(password).hexdigest().encode("ascii")
