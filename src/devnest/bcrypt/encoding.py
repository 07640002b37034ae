"""Reads and writes salts and hashes exactly as pyca/bcrypt does."""

import base64
import operator
import os
import re
from typing import NamedTuple

STANDARD = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
BCRYPT = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
TO_BCRYPT = bytes.maketrans(STANDARD, BCRYPT)
TO_STANDARD = bytes.maketrans(BCRYPT, STANDARD)

MIN_COST, MAX_COST = 4, 31  # the work is 2 to the power of the cost
SALT_BYTES = 16
VERSIONS = (b"2b", b"2a", b"2y", b"2x")  # pyca/bcrypt uses one algorithm for all four

COST = re.compile(rb"\+?0*([0-9]{1,2})", re.ASCII)
# 22 characters carry 132 bits, a salt has 128. pyca/bcrypt refuses a last character whose four
# spare bits are not zero.
SALT = re.compile(rb"[./A-Za-z0-9]{21}[.Oeu]")


class Setting(NamedTuple):
    """The version, cost and salt of a hash."""

    version: bytes
    cost: int
    salt: bytes

    def text(self) -> bytes:
        """Return the salt as `gensalt` writes it."""
        return b"$%s$%02d$%s" % (self.version, self.cost, encode64(self.salt))

    def hash_text(self, digest: bytes) -> bytes:
        """Return the hash as `hashpw` writes it."""
        return self.text() + encode64(digest)


def encode64(data: bytes) -> bytes:
    """Encode in bcrypt's base64: an alphabet of its own, without padding."""
    return base64.b64encode(data).rstrip(b"=").translate(TO_BCRYPT)


def parse(text: bytes) -> Setting:
    """Return the setting in a salt or a hash; raises `ValueError` where pyca/bcrypt does.

    pyca/bcrypt accepts more than the usual form: it ignores empty fields between dollar signs, a
    plus sign and zeros before the cost, and whatever follows the salt.
    """
    fields = [field for field in text.split(b"$") if field]
    if len(fields) == 3 and fields[0] in VERSIONS:
        cost = COST.fullmatch(fields[1])
        salt = SALT.match(fields[2])
        if cost and salt and MIN_COST <= int(cost[1]) <= MAX_COST:
            raw = base64.b64decode(salt[0].translate(TO_STANDARD) + b"==")
            return Setting(fields[0], int(cost[1]), raw)
    raise ValueError("Invalid salt")


def require_bytes(name: str, value: object) -> None:
    """Raise `TypeError`, in pyca/bcrypt's words, for anything but bytes."""
    if not isinstance(value, bytes):
        kind = type(value).__name__
        raise TypeError(f"argument '{name}': '{kind}' object cannot be converted to 'PyBytes'")


def gensalt(rounds: int = 12, prefix: bytes | None = b"2b") -> bytes:
    """Return a new random salt for `hashpw`.

    Args:
        rounds: The cost, 4 to 31. The work is 2 to the power of it.
        prefix: `b"2b"` or `b"2a"`; None is `b"2b"`.

    Raises:
        TypeError: An argument has another type.
        OverflowError: The cost does not fit 16 bits.
        ValueError: The cost or the prefix is not one of those above.
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
    if not MIN_COST <= cost <= MAX_COST:
        raise ValueError("Invalid rounds")
    return Setting(version, cost, os.urandom(SALT_BYTES)).text()
