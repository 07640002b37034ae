"""The stored form of a password, as plain functions: text in, text out, nothing awaited.

New passwords are hashed with one scheme; stored ones of both are verified. Of several calls together, bcrypt's are
computed interleaved and argon2id's one after another, for they use threads of their own.

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
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TypeVar

from devnest import bcrypt
from devnest.passwords import argon2id
from devnest.passwords.errors import UnusableHash

__all__ = [
    "MAXIMUM_COST",
    "MINIMUM_COST",
    "Scheme",
    "decoy",
    "hash_password",
    "hash_passwords",
    "is_interleaved",
    "needs_rehash",
    "verify_password",
    "verify_passwords",
]

A = TypeVar("A")
B = TypeVar("B")
R = TypeVar("R")
T = TypeVar("T")

MINIMUM_COST = 4  # bcrypt's own bounds are 4 and 31; 4 is for tests only
MAXIMUM_COST = 18  # 2^6 times the work of the default: about 15 s. A stored hash above it is refused before any work.
BCRYPT_BYTES = 72
ALPHABET = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

PLAIN = re.compile(r"\$2[aby]\$(?P<cost>\d\d)\$[./A-Za-z0-9]{53}", re.ASCII)
WRAPPED = re.compile(
    r"\$bcrypt-sha256\$v=2,t=2b,r=(?P<cost>\d{1,2})\$(?P<salt>[./A-Za-z0-9]{22})\$(?P<digest>[./A-Za-z0-9]{31})",
    re.ASCII,
)


class Scheme(StrEnum):
    """How new passwords are hashed."""

    BCRYPT = "bcrypt"
    ARGON2ID = "argon2id"


def hash_password(password: str, cost: int, scheme: str = Scheme.BCRYPT) -> str:
    """The stored form of a password with a new salt: `$2b$…`, `$bcrypt-sha256$…` or `$argon2id$…`.

    With bcrypt about 0.2 s at cost 12; each step of cost doubles it. argon2id takes no notice of the cost. Raises
    ValueError for a cost outside 4 to 18.
    """
    return _only(hash_passwords([(password, cost, scheme)]))


def verify_password(password: str, stored: str) -> bool:
    """Whether the password is the one that was stored. Raises `UnusableHash` before any work."""
    return _only(verify_passwords([(password, stored)]))


def hash_passwords(calls: Sequence[tuple[str, int, str]]) -> list[str | Exception]:
    """`hash_password` for several (password, cost, scheme); what one would raise is its result."""
    bcrypt_hashes = iter(_hash_with_bcrypt([call[:2] for call in calls if call[2] != Scheme.ARGON2ID]))
    return [
        _result(argon2id.hash_secret_with_argon2id, password) if scheme == Scheme.ARGON2ID else next(bcrypt_hashes)
        for password, _, scheme in calls
    ]


def verify_passwords(calls: Sequence[tuple[str, str]]) -> list[bool | Exception]:
    """`verify_password` for several (password, stored); what one would raise is its result."""
    bcrypt_answers = iter(_verify_with_bcrypt([call for call in calls if not call[1].startswith(argon2id.PREFIX)]))
    return [
        _result(argon2id.verify_secret_with_argon2id, password, stored)
        if stored.startswith(argon2id.PREFIX)
        else next(bcrypt_answers)
        for password, stored in calls
    ]


def is_interleaved(scheme_or_stored: str) -> bool:
    """Whether the work of this scheme, or for this stored hash, is done beside that of other calls."""
    return not scheme_or_stored.startswith((Scheme.ARGON2ID, argon2id.PREFIX))


def _result(work: Callable[..., T], password: str, *arguments: str) -> T | Exception:
    try:
        return work(_normal(password), *arguments)
    except (ValueError, MemoryError) as error:
        return error


def _hash_with_bcrypt(calls: Sequence[tuple[str, int]]) -> list[str | Exception]:
    def prepare(password: str, cost: int) -> tuple[bytes, bytes]:
        if not MINIMUM_COST <= cost <= MAXIMUM_COST:
            raise ValueError(f"the cost {cost} is not within {MINIMUM_COST} and {MAXIMUM_COST}")
        salt = bcrypt.gensalt(cost)
        return _fit(_normal(password), salt), salt

    def finish(index: int, hashed: bytes) -> str:
        plain = hashed.decode("ascii")
        if _fits(_normal(calls[index][0])):
            return plain
        return f"$bcrypt-sha256$v=2,t=2b,r={int(plain[4:6])}${plain[7:29]}${plain[29:]}"

    return _several(calls, prepare, bcrypt.hashpw_many, finish)


def _verify_with_bcrypt(calls: Sequence[tuple[str, str]]) -> list[bool | Exception]:
    def prepare(password: str, stored: str) -> tuple[bytes, bytes]:
        cost = _cost(stored)
        secret = _normal(password)
        if wrapped := WRAPPED.fullmatch(stored):
            salt = wrapped["salt"].encode("ascii")
            return _short(secret, salt), b"$2b$%02d$%b%b" % (cost, salt, wrapped["digest"].encode("ascii"))
        # A plain hash is never of a password that does not fit; the same work is done to say no.
        plain = stored.encode("ascii")
        return _fit(secret, plain), plain

    return _several(calls, prepare, bcrypt.checkpw_many, lambda _, matches: matches)


def _several(
    calls: Sequence[tuple[A, B]],
    prepare: Callable[[A, B], tuple[bytes, bytes]],
    work: Callable[[list[bytes], list[bytes]], list[R]],
    finish: Callable[[int, R], T],
) -> list[T | Exception]:
    """Do the work of all calls that can be prepared as one batch, and put every result in its call's place."""
    results: dict[int, T | Exception] = {}
    prepared: dict[int, tuple[bytes, bytes]] = {}
    for index, (first, second) in enumerate(calls):
        try:
            prepared[index] = prepare(first, second)
        except ValueError as error:
            results[index] = error
    done = work([secret for secret, _ in prepared.values()], [salt for _, salt in prepared.values()])
    results |= {index: finish(index, result) for index, result in zip(prepared, done, strict=True)}
    return [results[index] for index in range(len(calls))]


def _only(results: list[T | Exception]) -> T:
    (result,) = results
    if isinstance(result, Exception):
        raise result
    return result


def needs_rehash(stored: str, cost: int, scheme: str = Scheme.BCRYPT) -> bool:
    """Whether a stored hash is below what `hash_password` would write today: another scheme, less work, an old prefix.

    One that took more work stays: a lower cost is for new passwords, and makes none that is stored weaker.
    """
    try:
        if scheme == Scheme.ARGON2ID:
            return not stored.startswith(argon2id.PREFIX) or argon2id.is_below_policy(stored)
        return _cost(stored) < cost or stored.startswith(("$2a$", "$2y$"))
    except UnusableHash:
        return True


def decoy(cost: int, scheme: str = Scheme.BCRYPT) -> str:
    """A stored form that no password matches and that takes as long to check as a new one."""
    if scheme == Scheme.ARGON2ID:
        return argon2id.decoy()
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


def _fit(secret: bytes, salt_or_hash: bytes) -> bytes:
    return secret if _fits(secret) else _short(secret, salt_or_hash[7:29])


def _short(secret: bytes, salt: bytes) -> bytes:
    return base64.b64encode(hmac.digest(salt, secret, "sha256"))
