"""argon2id, the alternative to bcrypt. Its stored form is the PHC string `$argon2id$v=19$…`.

The work is the second recommendation of RFC 9106, section 4, for machines with little memory: 64
MiB, three passes, four lanes. OWASP's Password Storage Cheat Sheet asks for at least 19 MiB, two
passes and one lane.
https://www.rfc-editor.org/rfc/rfc9106.html#section-4
https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html#argon2id
"""

import base64
import re
import secrets

from devnest.extras import MissingExtra
from devnest.passwords.errors import UnusableHash

try:
    import argon2
    from argon2.low_level import Type, error_to_str, hash_secret, verify_secret
except ModuleNotFoundError as error:
    if error.name != "argon2":
        raise
    IS_INSTALLED = False
else:
    IS_INSTALLED = True
    # ARGON2_MEMORY_ALLOCATION_ERROR and ARGON2_THREAD_FAIL of argon2.h. An error of argon2-cffi has
    # only the text of its code.
    STARVED = (error_to_str(-22), error_to_str(-33))

__all__ = [
    "PREFIX",
    "check_installed",
    "decoy",
    "hash_secret_with_argon2id",
    "is_below_policy",
    "verify_secret_with_argon2id",
]

PREFIX = "$argon2id$"
MEMORY_KIB = 64 * 1024
PASSES = 3
LANES = 4
SALT_BYTES = 16
DIGEST_BYTES = 32

# A stored hash that asks for more is refused before any work. At most it takes 21 times the work of
# ours: four times the memory and 16 / 3 times the passes.
MAX_MEMORY_KIB = 256 * 1024
MAX_PASSES = 16
MAX_LANES = 16

FORM = re.compile(
    r"\$argon2id\$v=19"
    r"\$m=(?P<memory>[1-9]\d{0,6}),t=(?P<passes>[1-9]\d{0,2}),p=(?P<lanes>[1-9]\d{0,2})"
    r"\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,86}",  # salts of 8 to 64 bytes, digests of 16 to 64
    re.ASCII,
)


def check_installed() -> None:
    """Raise `MissingExtra` where argon2-cffi is not installed."""
    if not IS_INSTALLED:
        raise MissingExtra("argon2id", "argon2")


def hash_secret_with_argon2id(secret: bytes) -> str:
    """Hash a secret with a new salt.

    Raises:
        MissingExtra: argon2-cffi is not installed.
        MemoryError: There is no memory or no thread for it.
    """
    check_installed()
    salt = secrets.token_bytes(SALT_BYTES)
    try:
        return hash_secret(secret, salt, PASSES, MEMORY_KIB, LANES, DIGEST_BYTES, Type.ID).decode(
            "ascii"
        )
    except argon2.exceptions.HashingError as error:
        raise MemoryError(
            f"argon2id: {error}"
        ) from error  # nothing else can fail: the parameters are ours


def verify_secret_with_argon2id(secret: bytes, stored: str) -> bool:
    """Return whether the secret is the one that was stored.

    Raises:
        UnusableHash: The stored form is malformed or asks for too much work; raised before any
        work. MissingExtra: argon2-cffi is not installed. MemoryError: There is no memory or no
        thread for it.
    """
    _parameters(stored)
    check_installed()
    try:
        return verify_secret(stored.encode("ascii"), secret, Type.ID)
    except argon2.exceptions.VerifyMismatchError:
        return False
    except argon2.exceptions.VerificationError as error:
        if str(error) in STARVED:
            raise MemoryError(f"argon2id: {error}") from error
        # Only argon2 itself decodes the salt and the digest.
        raise UnusableHash("a stored password hash is not well-formed argon2id") from None


def is_below_policy(stored: str) -> bool:
    """Return whether the stored hash took less work than a new one; raises `UnusableHash`."""
    memory, passes = _parameters(stored)
    return memory < MEMORY_KIB or passes < PASSES


def decoy() -> str:
    """Return a stored form that matches no password and takes as long to check as a real one."""
    salt, digest = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(DIGEST_BYTES)
    return f"{PREFIX}v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${_encoded(salt)}${_encoded(digest)}"


def _parameters(stored: str) -> tuple[int, int]:
    """Return the memory in KiB and the passes, which are within bounds."""
    match = FORM.fullmatch(stored)
    if match is None:
        raise UnusableHash("a stored password hash is in no known format")
    memory, passes, lanes = int(match["memory"]), int(match["passes"]), int(match["lanes"])
    if memory > MAX_MEMORY_KIB or passes > MAX_PASSES or lanes > MAX_LANES or memory < 8 * lanes:
        raise UnusableHash(
            f"a stored password hash asks for {memory} KiB, {passes} passes and {lanes} lanes; "
            f"the limits are {MAX_MEMORY_KIB}, {MAX_PASSES} and {MAX_LANES}, "
            "with 8 KiB for each lane at least"
        )
    return memory, passes


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).rstrip(b"=").decode("ascii")
