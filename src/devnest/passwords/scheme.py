"""The stored form of a password, as plain functions: text in, text out, nothing awaited.

New passwords are hashed with one scheme; guesses at stored ones of both are checked. Of several calls together,
bcrypt's are computed interleaved, whether they are new or guesses: both are a hash of a password with a salt.
argon2id's go one after another, for they use threads of their own.

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
MAX_COST = 18  # 2^6 times the work of the default: about 15 s. A stored hash above it is refused before any work.
BCRYPT_BYTES = 72
DIGEST_CHARACTERS = 31
ALPHABET = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

SALT = "[./A-Za-z0-9]{21}[.Oeu]"  # 132 bits for 128: the spare ones are zero, or bcrypt refuses it
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
    """A password to be hashed with a new salt. argon2id takes no notice of the cost."""

    password: str
    cost: int
    scheme: str = Scheme.BCRYPT

    @property
    def is_interleaved(self) -> bool:
        """Whether the work is done beside that of other calls."""
        return self.scheme != Scheme.ARGON2ID


class Guess(NamedTuple):
    """A password, and the stored form it may be that of."""

    password: str
    stored: str

    @property
    def is_interleaved(self) -> bool:
        """Whether the work is done beside that of other calls."""
        return not self.stored.startswith(argon2id.PREFIX)


def hash_password(password: str, cost: int, scheme: str = Scheme.BCRYPT) -> str:
    """The stored form of a password with a new salt: `$2b$…`, `$bcrypt-sha256$…` or `$argon2id$…`.

    With bcrypt about 0.2 s at cost 12; each step of cost doubles it. Raises ValueError for a cost outside 4 to 18,
    and `MissingExtra` for argon2id where the extra `argon2` is not installed.
    """
    return str(compute(NewPassword(password, cost, scheme)))


def verify_password(password: str, stored: str) -> bool:
    """Whether the password is the one that was stored.

    Raises `UnusableHash` before any work, and `MissingExtra` for an argon2id hash without the extra `argon2`.
    """
    return bool(compute(Guess(password, stored)))


def compute(call: NewPassword | Guess) -> str | bool:
    """The stored form of a new password; whether a guess is right. Raises as the two functions above do."""
    (result,) = compute_all([call])
    if isinstance(result, Exception):
        raise result
    return result


def compute_all(calls: Sequence[NewPassword | Guess]) -> list[str | bool | Exception]:
    """`compute` for several; what one would raise is its result."""
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
    """What bcrypt hashes, and with which salt; a stored form is a salt with its digest after it."""
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
    # A plain hash is never of a password that does not fit; the same work is done to say no.
    plain = call.stored.encode("ascii")
    return _fit(secret, plain), plain


def _finish(
    call: NewPassword | Guess, prepared: tuple[bytes, bytes], computed: bytes
) -> str | bool:
    if isinstance(call, Guess):
        return hmac.compare_digest(computed[-DIGEST_CHARACTERS:], prepared[1][-DIGEST_CHARACTERS:])
    plain = computed.decode("ascii")
    if _fits(_normal(call.password)):
        return plain
    return f"$bcrypt-sha256$v=2,t=2b,r={int(plain[4:6])}${plain[7:29]}${plain[29:]}"


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
            f"a stored password hash has cost {cost}, above the limit of {MAX_COST} or below {MIN_COST}"
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
