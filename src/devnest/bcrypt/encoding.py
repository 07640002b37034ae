"""Salts and hashes as text: taken apart and put together exactly as pyca/bcrypt does."""

import base64
import operator
import os
import re
from typing import NamedTuple

STANDARD = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
BCRYPT = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
TO_BCRYPT = bytes.maketrans(STANDARD, BCRYPT)
TO_STANDARD = bytes.maketrans(BCRYPT, STANDARD)

COST_MIN, COST_MAX = 4, 31
SALT_BYTES, SALT_CHARS = 16, 22
VERSIONS = (b"2b", b"2a", b"2y", b"2x")  # one algorithm for all four, as in pyca/bcrypt

COST = re.compile(rb"\+?0*([0-9]{1,2})", re.ASCII)
# 22 characters carry 132 bits for 128: pyca/bcrypt refuses a last character whose spare bits are not zero.
SALT = re.compile(rb"[./A-Za-z0-9]{21}[.Oeu]")


class Setting(NamedTuple):
    """What a hash is computed with, beside the password."""

    version: bytes
    cost: int
    salt: bytes

    def text(self) -> bytes:
        """The salt as gensalt writes it."""
        return b"$%s$%02d$%s" % (self.version, self.cost, encode64(self.salt))

    def hash_text(self, digest: bytes) -> bytes:
        """The hash as hashpw writes it."""
        return self.text() + encode64(digest)


def encode64(data: bytes) -> bytes:
    """bcrypt's base64: its own alphabet, no padding."""
    return base64.b64encode(data).rstrip(b"=").translate(TO_BCRYPT)


def parse(text: bytes) -> Setting:
    """The setting in a salt or a hash; ValueError where pyca/bcrypt refuses it.

    Its grammar is wider than the usual form: empty fields between dollar signs do not count, a cost may
    have a plus sign and any number of zeros before it, and whatever follows the salt is not looked at.
    """
    fields = [field for field in text.split(b"$") if field]
    if len(fields) == 3 and fields[0] in VERSIONS:
        cost = COST.fullmatch(fields[1])
        salt = SALT.match(fields[2])
        if cost and salt and COST_MIN <= int(cost[1]) <= COST_MAX:
            raw = base64.b64decode(salt[0].translate(TO_STANDARD) + b"==")
            return Setting(fields[0], int(cost[1]), raw)
    raise ValueError("Invalid salt")


def require_bytes(name: str, value: object) -> None:
    """TypeError, in pyca/bcrypt's words, for anything but bytes."""
    if not isinstance(value, bytes):
        kind = type(value).__name__
        raise TypeError(f"argument '{name}': '{kind}' object cannot be converted to 'PyBytes'")


def gensalt(rounds: int = 12, prefix: bytes | None = b"2b") -> bytes:
    """A new random salt for `hashpw`.

    `rounds` is the cost, 4 to 31: the work is two to its power. `prefix` is b"2b" or b"2a".
    Raises ValueError for any other, OverflowError for a cost that does not fit 16 bits, TypeError for a
    wrong type.
    """
    try:
        cost = operator.index(rounds)
    except TypeError as error:
        raise TypeError(f"argument 'rounds': {error}") from None
    if not 0 <= cost < 1 << 16:
        raise OverflowError("out of range integral type conversion attempted")
    version = b"2b" if prefix is None else prefix
    require_bytes("prefix", version)
    if version not in (b"2a", b"2b"):
        raise ValueError("Supported prefixes are b'2a' or b'2b'")
    if not COST_MIN <= cost <= COST_MAX:
        raise ValueError("Invalid rounds")
    return Setting(version, cost, os.urandom(SALT_BYTES)).text()
