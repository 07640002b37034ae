"""Hashes and verifies passwords by plain functions that block.

New passwords are hashed with one scheme; passwords are verified against stored hashes of every
known form. Of several calls together, those with bcrypt are interleaved on one core, new passwords
and guesses alike, since both are a hash of a password with a salt. The others run one after
another.

bcrypt reads 72 bytes of a password, and treats a password as a string that repeats with a NUL after
it. So longer passwords would be cut, and some passwords with a NUL inside would be equal to others.
Passwords with a NUL or of 72 bytes and more are stored as `$bcrypt-sha256$v=2`, all others as plain
`$2b$`. Other software knows both forms.

A password of up to 1024 characters is hashed in Unicode's normalization form NFKC, so that it does
not matter how a keyboard composes its characters (NIST SP 800-63B-4, 3.1.1.2). Other software
mostly hashes it as it is, and cuts it at 72 bytes for bcrypt. A guess is tried in these ways too,
since a `$2b$` does not tell who wrote it. The number of hashes depends on the guess alone, not on
the stored form.
"""

import hmac
import secrets
import unicodedata
from collections.abc import Sequence
from enum import IntEnum, StrEnum
from typing import NamedTuple

from devnest import bcrypt
from devnest.extras import MissingExtra
from devnest.passwords import argon2id
from devnest.passwords.errors import UnusableHash
from devnest.passwords.foreign import parse_foreign
from devnest.passwords.stored import (
    MAX_BCRYPT_BYTES,
    MAX_COST,
    MIN_COST,
    DerivedKey,
    is_bcrypt,
    parse_bcrypt,
    wrap,
)

__all__ = [
    "Guess",
    "NewPassword",
    "Scheme",
    "Verdict",
    "compute",
    "compute_all",
    "decoy",
    "hash_password",
    "is_known",
    "needs_rehash",
    "verify_password",
]

ALPHABET = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
# A longer password is hashed as it is: normalizing takes quadratic time for some texts.
MAX_NORMALIZED_CHARS = 1024
DIGEST_CHARS = 31  # of a bcrypt hash
OURS = ("$2b$", "$bcrypt-sha256$")  # how hashes begin that are written here


class Scheme(StrEnum):
    """How new passwords are hashed."""

    BCRYPT = "bcrypt"
    ARGON2ID = "argon2id"


class Verdict(IntEnum):
    """Whether a password is the one that was stored; only `WRONG` is false."""

    WRONG = 0
    RIGHT = 1
    OUTDATED = 2  # right, but the stored hash should be replaced by a new one
    # Right, but the stored hash does not cover all of the password: the rest may be mistyped. A new
    # hash of it could lock the owner out, so the present one stays.
    PARTIAL = 3


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

    def __repr__(self) -> str:
        """Return a text that can be logged."""
        return "NewPassword(...)"

    @property
    def is_interleaved(self) -> bool:
        """Return whether the work is interleaved with that of other calls."""
        return self.scheme != Scheme.ARGON2ID


class Guess(NamedTuple):
    """A password to be checked against a stored hash.

    Attributes:
        password: Of any length.
        stored: The stored form.
        usual_cost: bcrypt's usual cost here. Others should not wait for much more.
    """

    password: str
    stored: str
    usual_cost: int = MAX_COST

    def __repr__(self) -> str:
        """Return a text that can be logged."""
        return "Guess(...)"

    @property
    def is_interleaved(self) -> bool:
        """Return whether the work is interleaved with that of other calls."""
        return is_bcrypt(self.stored)

    @property
    def is_slow(self) -> bool:
        """Return whether the stored hash costs more than twice the usual."""
        try:
            return is_bcrypt(self.stored) and parse_bcrypt(self.stored).cost > self.usual_cost + 1
        except UnusableHash:  # costs nothing
            return False


def hash_password(password: str, cost: int, scheme: str = Scheme.BCRYPT) -> str:
    """Hash a password with a new salt. With bcrypt, each step of cost doubles the time.

    Args:
        password: Of any length.
        cost: bcrypt's cost, 4 to 18; argon2id ignores it.
        scheme: One of `Scheme`.

    Returns:
        The stored form: `$2b$…`, `$bcrypt-sha256$…` or `$argon2id$…`.

    Raises:
        ValueError: The cost or the scheme is out of bounds, or UTF-8 cannot encode the password.
        MissingExtra: The scheme is argon2id, and the extra `argon2` is not installed.
        MemoryError: There is no memory for argon2id.
    """
    return str(compute(NewPassword(password, cost, Scheme(scheme))))


def verify_password(password: str, stored: str) -> bool:
    """Return whether the password is the one that was stored.

    Raises:
        UnusableHash: The stored form has no known format or asks for too much work; raised before
            any work.
        MissingExtra: The stored form needs an extra that is not installed.
        MemoryError: There is no memory for it.
    """
    check_text("a stored hash", stored)
    return bool(compute(Guess(password, stored)))


def compute(call: NewPassword | Guess) -> str | Verdict:
    """Return the stored form of a new password, or whether a guess is right.

    The verdict is `OUTDATED` if the password was stored without NFKC. Whether the hash took enough
    work, and whose form it has, is not considered.

    Raises what `hash_password` and `verify_password` raise.
    """
    (result,) = compute_all([call])
    if isinstance(result, Exception):
        raise result
    return result


def compute_all(calls: Sequence[NewPassword | Guess]) -> list[str | Verdict | Exception]:
    """Return what `compute` returns for each call, or the exception that it would raise."""
    results: list[str | Verdict | Exception] = [Verdict.WRONG] * len(calls)
    jobs: list[_Job] = []
    for index, call in enumerate(calls):
        try:
            if not call.is_interleaved:
                results[index] = _compute_alone(call)
            else:
                jobs += _guess(index, call) if isinstance(call, Guess) else [_new(index, call)]
        except (TypeError, ValueError, MemoryError, MissingExtra) as error:
            results[index] = error
    hashes = bcrypt.hashpw_many([job.secret for job in jobs], [job.setting for job in jobs])
    for job, computed in zip(jobs, hashes, strict=True):
        if isinstance(calls[job.call], NewPassword):
            results[job.call] = _form(computed, is_wrapped=job.is_wrapped)
        elif hmac.compare_digest(computed[-DIGEST_CHARS:], job.digest):
            results[job.call] = job.verdict
    return results


class _Job(NamedTuple):
    """One bcrypt hash of a batch."""

    call: int  # its index
    secret: bytes  # what bcrypt hashes
    setting: bytes
    digest: bytes = b""  # of a guess: the digest that the right password has
    verdict: Verdict = Verdict.RIGHT
    is_wrapped: bool = False  # of a new password: it does not fit into bcrypt


def _compute_alone(call: NewPassword | Guess) -> str | Verdict:
    if isinstance(call, NewPassword):
        return argon2id.hash_secret_with_argon2id(_spellings(call.password)[0])
    stored = _parse_alone(call.stored)
    normal, *others = _spellings(call.password)
    if stored.matches(normal):
        # HMAC, and so PBKDF2 and scrypt, do not tell a password from one with NULs after it.
        return Verdict.PARTIAL if normal.endswith(b"\0") and stored.pads else Verdict.RIGHT
    return Verdict.OUTDATED if any(stored.matches(other) for other in others) else Verdict.WRONG


def _parse_alone(stored: str) -> DerivedKey:
    if stored.startswith(("$argon2", "argon2")):
        return argon2id.parse_argon2(stored)
    return parse_foreign(stored)


def _new(index: int, call: NewPassword) -> _Job:
    if not MIN_COST <= call.cost <= MAX_COST:
        raise ValueError(f"the cost {call.cost} is not within {MIN_COST} and {MAX_COST}")
    secret, setting = _spellings(call.password)[0], bcrypt.gensalt(call.cost)
    if _fits(secret):
        return _Job(index, secret, setting)
    return _Job(index, wrap(secret, setting[7:]), setting, is_wrapped=True)


def _form(computed: bytes, *, is_wrapped: bool) -> str:
    plain = computed.decode("ascii")
    if not is_wrapped:
        return plain
    return f"$bcrypt-sha256$v=2,t=2b,r={int(plain[4:6])}${plain[7:29]}${plain[29:]}"


def _guess(index: int, call: Guess) -> list[_Job]:
    """Return a hash for each spelling; the normal one comes last, as the last match counts."""
    stored = parse_bcrypt(call.stored)
    normal, *others = _spellings(call.password)
    verdicts = [(other, Verdict.OUTDATED) for other in others]
    verdicts.append((normal, Verdict.RIGHT))
    return [
        _Job(
            index,
            stored.secret(password, stored.setting[7:]),
            stored.setting,
            stored.digest,
            Verdict.PARTIAL if stored.cuts and not _fits(password) else verdict,
        )
        for password, verdict in verdicts
    ]


def needs_rehash(stored: str, cost: int, scheme: str = Scheme.BCRYPT) -> bool:
    """Return whether a stored hash should be replaced by a new one.

    It should where it has another scheme or a form of other software, or took less work. A hash
    that took more work stays: a lower cost applies to new passwords only.
    """
    check_text("a stored hash", stored)
    try:
        if Scheme(scheme) is Scheme.ARGON2ID:
            return not stored.startswith(argon2id.PREFIX) or argon2id.is_below_policy(stored)
        return not stored.startswith(OURS) or parse_bcrypt(stored).cost < cost
    except UnusableHash:
        return True


def is_known(stored: str) -> bool:
    """Return whether a stored hash has a form that can be verified, with a bounded amount of work.

    Raises:
        MissingExtra: The form needs an extra that is not installed.
    """
    check_text("a stored hash", stored)
    try:
        parse_bcrypt(stored) if is_bcrypt(stored) else _parse_alone(stored)
    except UnusableHash:
        return False
    return True


def decoy(cost: int, scheme: str = Scheme.BCRYPT) -> str:
    """Return a stored form that matches no password and takes as long to check as a new one."""
    if scheme == Scheme.ARGON2ID:
        return argon2id.decoy()
    return bcrypt.gensalt(cost).decode("ascii") + "".join(
        secrets.choice(ALPHABET) for _ in range(DIGEST_CHARS)
    )


def check_text(name: str, value: object) -> None:
    """Raise `TypeError` for what is no string, above all for bytes."""
    if not isinstance(value, str):
        decode = "; decode it, by .decode()" if isinstance(value, bytes) else ""
        raise TypeError(f"{name} must be str, not {type(value).__name__}{decode}")


def _spellings(password: str) -> list[bytes]:
    """Return the normal form of a password, and after it the password as it is if that differs."""
    check_text("a password", password)
    normal = password
    if len(password) <= MAX_NORMALIZED_CHARS:
        normal = unicodedata.normalize("NFKC", password)
    try:
        return list(dict.fromkeys((normal.encode("utf-8"), password.encode("utf-8"))))
    except UnicodeEncodeError:  # it has the password among its attributes
        raise ValueError("a password has a character that UTF-8 cannot encode") from None


def _fits(secret: bytes) -> bool:
    """Return whether bcrypt reads all of it, and not as a part of something longer."""
    return len(secret) < MAX_BCRYPT_BYTES and b"\0" not in secret
