"""The stored form of a password, as plain functions that block.

New passwords are hashed with one scheme; passwords are verified against stored hashes of both. Of
several calls together, those with bcrypt are interleaved on one core, new passwords and guesses
alike, since both are a hash of a password with a salt. Those with argon2id run one after another,
because each uses several threads itself.

bcrypt reads 72 bytes of a password, and treats a password as a string that repeats with a NUL after
it. So longer passwords would be cut, and some passwords with a NUL inside would be equal to others.
These two kinds are stored in passlib's format `$bcrypt-sha256$v=2`, where bcrypt hashes the base64
of an HMAC-SHA-256 of the password, keyed by the salt. All others are stored as plain `$2b$`. Other
software knows both formats.
https://passlib.readthedocs.io/en/stable/lib/passlib.hash.bcrypt_sha256.html
"""

import base64
import hmac
import re
import secrets
import unicodedata
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, TypeVar

from devnest import bcrypt
from devnest.extras import MissingExtra
from devnest.passwords import argon2id
from devnest.passwords.errors import UnusableHash

__all__ = [
    "MAX_COST",
    "MIN_COST",
    "Guess",
    "NewPassword",
    "Scheme",
    "compute",
    "compute_all",
    "decoy",
    "hash_password",
    "needs_rehash",
    "verify_password",
]

T = TypeVar("T")

MIN_COST = 4  # bcrypt's own bounds are 4 and 31; 4 is for tests only
# 2^6 times the work of the default cost, about 15 s. A stored hash above it is refused before any
# work.
MAX_COST = 18
MAX_BCRYPT_BYTES = 72  # of a password; bcrypt reads no more
DIGEST_CHARS = 31
ALPHABET = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

SALT = "[./A-Za-z0-9]{21}[.Oeu]"  # 132 bits for 128; bcrypt wants the four spare bits to be zero
DIGEST = "[./A-Za-z0-9]{31}"
PLAIN = re.compile(rf"\$2[aby]\$(?P<cost>\d\d)\${SALT}{DIGEST}", re.ASCII)
WRAPPED = re.compile(
    rf"\$bcrypt-sha256\$v=2,t=2b,r=(?P<cost>\d{{1,2}})\$(?P<salt>{SALT})\$(?P<digest>{DIGEST})",
    re.ASCII,
)


class Scheme(StrEnum):
    """How new passwords are hashed."""

    BCRYPT = "bcrypt"
    ARGON2ID = "argon2id"


class NewPassword(NamedTuple):
    """A password to be hashed with a new salt.

    Attributes:
        password: Of any length.
        cost: bcrypt's cost; argon2id ignores it.
        scheme: One of `Scheme`.
    """

    password: str
    cost: int
    scheme: str = Scheme.BCRYPT

    @property
    def is_interleaved(self) -> bool:
        """Return whether the work is interleaved with that of other calls."""
        return self.scheme != Scheme.ARGON2ID


class Guess(NamedTuple):
    """A password to be checked against a stored hash.

    Attributes:
        password: Of any length.
        stored: The stored form.
    """

    password: str
    stored: str

    @property
    def is_interleaved(self) -> bool:
        """Return whether the work is interleaved with that of other calls."""
        return not self.stored.startswith(argon2id.PREFIX)


def hash_password(password: str, cost: int, scheme: str = Scheme.BCRYPT) -> str:
    """Hash a password with a new salt. With bcrypt, each step of cost doubles the time.

    Args:
        password: Of any length.
        cost: bcrypt's cost, 4 to 18; argon2id ignores it.
        scheme: One of `Scheme`.

    Returns:
        The stored form: `$2b$…`, `$bcrypt-sha256$…` or `$argon2id$…`.

    Raises:
        ValueError: The cost is out of bounds.
        MissingExtra: The scheme is argon2id, and the extra `argon2` is not installed.
        MemoryError: There is no memory for argon2id.
    """
    return str(compute(NewPassword(password, cost, scheme)))


def verify_password(password: str, stored: str) -> bool:
    """Return whether the password is the one that was stored.

    Raises:
        UnusableHash: The stored form has no known format or asks for too much work; raised before
        any
            work.
        MissingExtra: It is an argon2id hash, and the extra `argon2` is not installed.
        MemoryError: There is no memory for argon2id.
    """
    return bool(compute(Guess(password, stored)))


def compute(call: NewPassword | Guess) -> str | bool:
    """Return the stored form of a new password, or whether a guess is right.

    Raises what `hash_password` and `verify_password` raise.
    """
    (result,) = compute_all([call])
    if isinstance(result, Exception):
        raise result
    return result


def compute_all(calls: Sequence[NewPassword | Guess]) -> list[str | bool | Exception]:
    """Return what `compute` returns for each call, or the exception that it would raise."""
    results: list[str | bool | Exception] = [False] * len(calls)
    prepared: dict[int, tuple[bytes, bytes]] = {}
    for index, call in enumerate(calls):
        try:
            if call.is_interleaved:
                prepared[index] = _prepare(call)
            else:
                results[index] = _with_argon2id(call)
        except (ValueError, MemoryError, MissingExtra) as error:
            results[index] = error
    hashed = bcrypt.hashpw_many(
        [secret for secret, _ in prepared.values()], [salt for _, salt in prepared.values()]
    )
    for index, computed in zip(prepared, hashed, strict=True):
        results[index] = _finish(calls[index], prepared[index], computed)
    return results


def _with_argon2id(call: NewPassword | Guess) -> str | bool:
    secret = _normal(call.password)
    if isinstance(call, Guess):
        return argon2id.verify_secret_with_argon2id(secret, call.stored)
    return argon2id.hash_secret_with_argon2id(secret)


def _prepare(call: NewPassword | Guess) -> tuple[bytes, bytes]:
    """Return what bcrypt has to hash, and the salt, which a digest may follow."""
    secret = _normal(call.password)
    if isinstance(call, NewPassword):
        if not MIN_COST <= call.cost <= MAX_COST:
            raise ValueError(f"the cost {call.cost} is not within {MIN_COST} and {MAX_COST}")
        salt = bcrypt.gensalt(call.cost)
        return _fit(secret, salt), salt
    cost = _cost(call.stored)
    if wrapped := WRAPPED.fullmatch(call.stored):
        salt = wrapped["salt"].encode("ascii")
        return _short(secret, salt), b"$2b$%02d$%b%b" % (
            cost,
            salt,
            wrapped["digest"].encode("ascii"),
        )
    # A password that does not fit never has a plain hash, but is refused after the same work.
    plain = call.stored.encode("ascii")
    return _fit(secret, plain), plain


def _finish(
    call: NewPassword | Guess, prepared: tuple[bytes, bytes], computed: bytes
) -> str | bool:
    if isinstance(call, Guess):
        return hmac.compare_digest(computed[-DIGEST_CHARS:], prepared[1][-DIGEST_CHARS:])
    plain = computed.decode("ascii")
    if _fits(_normal(call.password)):
        return plain
    return f"$bcrypt-sha256$v=2,t=2b,r={int(plain[4:6])}${plain[7:29]}${plain[29:]}"


def needs_rehash(stored: str, cost: int, scheme: str = Scheme.BCRYPT) -> bool:
    """Return whether a stored hash should be replaced by a new one.

    It should where it has another scheme, took less work, or has an old prefix. A hash that took
    more work stays: a lower cost applies to new passwords only.
    """
    try:
        if scheme == Scheme.ARGON2ID:
            return not stored.startswith(argon2id.PREFIX) or argon2id.is_below_policy(stored)
        return _cost(stored) < cost or stored.startswith(("$2a$", "$2y$"))
    except UnusableHash:
        return True


def decoy(cost: int, scheme: str = Scheme.BCRYPT) -> str:
    """Return a stored form that matches no password and takes as long to check as a new one."""
    if scheme == Scheme.ARGON2ID:
        return argon2id.decoy()
    return bcrypt.gensalt(cost).decode("ascii") + "".join(
        secrets.choice(ALPHABET) for _ in range(31)
    )


def _cost(stored: str) -> int:
    match = PLAIN.fullmatch(stored) or WRAPPED.fullmatch(stored)
    if match is None:
        raise UnusableHash("a stored password hash is in no known format")
    cost = int(match["cost"])
    if not MIN_COST <= cost <= MAX_COST:
        raise UnusableHash(
            f"a stored password hash has cost {cost}, "
            f"above the limit of {MAX_COST} or below {MIN_COST}"
        )
    return cost


def _normal(password: str) -> bytes:
    """Return the same bytes for equivalent characters (NIST SP 800-63B-4, 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password).encode("utf-8")


def _fits(secret: bytes) -> bool:
    return len(secret) <= MAX_BCRYPT_BYTES and b"\0" not in secret


def _fit(secret: bytes, salt_or_hash: bytes) -> bytes:
    return secret if _fits(secret) else _short(secret, salt_or_hash[7:29])


def _short(secret: bytes, salt: bytes) -> bytes:
    return base64.b64encode(hmac.digest(salt, secret, "sha256"))
