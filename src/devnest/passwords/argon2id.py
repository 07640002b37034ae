"""argon2id, the alternative to bcrypt. Its stored form is the PHC string `$argon2id$v=19$…`.

The work is the second recommendation of RFC 9106, section 4, for machines with little memory: 64
MiB, three passes, four lanes. OWASP's Password Storage Cheat Sheet asks for at least 19 MiB, two
passes and one lane.
https://www.rfc-editor.org/rfc/rfc9106.html#section-4
https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html#argon2id

A hash is computed by one thread, whatever its lanes: the result depends on the lanes alone, and a
pool has a worker for each CPU already.
"""

import base64
import binascii
import re
import secrets
from functools import partial
from typing import Any

from devnest.extras import MissingExtra
from devnest.passwords.errors import UnusableHash
from devnest.passwords.stored import DerivedKey

ffi: Any
try:
    from argon2.low_level import core, error_to_str, ffi
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "argon2":
        raise
    IS_INSTALLED = False
else:
    IS_INSTALLED = True

__all__ = [
    "PREFIX",
    "check_installed",
    "decoy",
    "hash_secret_with_argon2id",
    "is_below_policy",
    "parse_argon2",
]

PREFIX = "$argon2id$"
VERSION = 19
MEMORY_KIB = 64 * 1024
PASSES = 3
LANES = 4
SALT_BYTES = 16
DIGEST_BYTES = 32
OK = 0  # ARGON2_OK of argon2.h
TYPES = {"i": 1, "id": 2}  # argon2_type of argon2.h; argon2i is what Django wrote before 3.2

# A stored hash that asks for more is refused before any work. At most it takes 21 times the work of
# ours: four times the memory and 16 / 3 times the passes.
MAX_MEMORY_KIB = 256 * 1024
MAX_PASSES = 16
MAX_LANES = 16

FORM = re.compile(
    r"(?:argon2)?"  # Django puts the name of its hasher before the PHC string
    r"\$argon2(?P<type>id?)\$v=19"
    r"\$m=(?P<memory>[1-9]\d{0,6}),t=(?P<passes>[1-9]\d{0,2}),p=(?P<lanes>[1-9]\d{0,2})"
    # salts of 8 to 64 bytes, digests of 16 to 64
    r"\$(?P<salt>[A-Za-z0-9+/]{11,86})\$(?P<digest>[A-Za-z0-9+/]{22,86})",
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
        MemoryError: There is no memory for it.
    """
    check_installed()
    salt = secrets.token_bytes(SALT_BYTES)
    digest = _derive(
        secret,
        salt=salt,
        passes=PASSES,
        memory=MEMORY_KIB,
        lanes=LANES,
        length=DIGEST_BYTES,
        kind=TYPES["id"],
    )
    return _form(salt, digest)


def parse_argon2(stored: str) -> DerivedKey:
    """Read a stored form of argon2id, or of argon2i.

    Raises:
        UnusableHash: It is malformed, or asks for too much work.
        MissingExtra: argon2-cffi is not installed.
    """
    match = _match(stored)
    try:
        salt, digest = _decoded(match["salt"]), _decoded(match["digest"])
    except binascii.Error:
        raise UnusableHash("a stored password hash is not well-formed argon2") from None
    check_installed()
    derive = partial(
        _derive,
        salt=salt,
        passes=int(match["passes"]),
        memory=int(match["memory"]),
        lanes=int(match["lanes"]),
        length=len(digest),
        kind=TYPES[match["type"]],
    )
    return DerivedKey(digest, derive)


def is_below_policy(stored: str) -> bool:
    """Return whether the stored hash took less work than a new one; raises `UnusableHash`."""
    match = _match(stored)
    return int(match["memory"]) < MEMORY_KIB or int(match["passes"]) < PASSES


def decoy() -> str:
    """Return a stored form that matches no password and takes as long to check as a real one."""
    return _form(secrets.token_bytes(SALT_BYTES), secrets.token_bytes(DIGEST_BYTES))


def _match(stored: str) -> "re.Match[str]":
    """Return the parts of a stored form, whose work is within bounds."""
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
    return match


def _derive(
    secret: bytes, *, salt: bytes, passes: int, memory: int, lanes: int, length: int, kind: int
) -> bytes:
    """Return argon2's tag. `memory` is in KiB."""
    digest = ffi.new("uint8_t[]", length)
    password, salted = ffi.new("uint8_t[]", secret or b"\0"), ffi.new("uint8_t[]", salt)
    context = ffi.new(
        "argon2_context *",
        {
            "out": digest,
            "outlen": length,
            "pwd": password,
            "pwdlen": len(secret),
            "salt": salted,
            "saltlen": len(salt),
            "secret": ffi.NULL,
            "secretlen": 0,
            "ad": ffi.NULL,
            "adlen": 0,
            "t_cost": passes,
            "m_cost": memory,
            "lanes": lanes,
            "threads": 1,
            "version": VERSION,
            "allocate_cbk": ffi.NULL,
            "free_cbk": ffi.NULL,
            "flags": 0,
        },
    )
    code = core(context, kind)
    if code != OK:  # the parameters are within bounds, so only memory can be missing
        raise MemoryError(f"argon2id: {error_to_str(code)}")
    return bytes(ffi.buffer(digest, length))


def _form(salt: bytes, digest: bytes) -> str:
    work = f"v={VERSION}$m={MEMORY_KIB},t={PASSES},p={LANES}"
    return f"{PREFIX}{work}${_encoded(salt)}${_encoded(digest)}"


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).rstrip(b"=").decode("ascii")


def _decoded(text: str) -> bytes:
    """Return the bytes of unpadded base64; raise `binascii.Error` for bits that no byte has."""
    data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    if _encoded(data) != text:
        raise binascii.Error("spare bits are not zero")
    return data
