"""PBKDF2 and scrypt as other software stores them, to be verified and never written.

| | form |
| --- | --- |
| Django | `pbkdf2_sha256$iterations$salt$key`, `scrypt$n$salt$r$p$key` |
| Werkzeug (Flask) | `pbkdf2:sha256:iterations$salt$key`, `scrypt:n:r:p$salt$key` |
| passlib | `$pbkdf2-sha256$iterations$salt$key`, `$scrypt$ln=…,r=…,p=…$salt$key` |
| PHC string format | `$scrypt$ln=…,r=…,p=…$salt$key` |
| Firebase | `$fbscrypt$v=1,n=…,r=…,p=1,ss=…,sk=…$salt$key`, as GoTrue writes it |

https://github.com/P-H-C/phc-string-format
https://github.com/firebase/scrypt
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from devnest.extras import MissingExtra
from devnest.passwords.errors import UnusableHash
from devnest.passwords.stored import DerivedKey

__all__ = ["parse_foreign"]

MAX_STORED_CHARS = 1024  # of a stored form; the longest known one has about 300
MAX_ITERATIONS = 10_000_000  # of PBKDF2, about 5 s; Django 6.0 writes 1,200,000
MAX_SCRYPT_BYTES = 256 * 1024 * 1024  # of memory, 128 * r * (n + p); Werkzeug writes 32 MiB
MAX_SCRYPT_WORK = 2**24  # n * r * p, about 5 s; Werkzeug writes 2^18
MEMORY_MARGIN_BYTES = 64 * 1024 * 1024  # OpenSSL counts small blocks too

NUMBER = r"([1-9]\d{0,9})"
TEXT = r"([^$\ud800-\udfff]{1,128})"  # surrogates are no UTF-8
BASE64 = r"([A-Za-z0-9+/]{16,128}={0,2})"
AB64 = r"([A-Za-z0-9./]{16,128})"  # passlib's base64: a dot for the plus, no padding


def parse_foreign(stored: str) -> DerivedKey:
    """Read a stored form of PBKDF2 or scrypt.

    Raises:
        UnusableHash: It is malformed, or asks for too much work.
        MissingExtra: It is Firebase's, and the extra `firebase` is not installed.
    """
    if len(stored) <= MAX_STORED_CHARS:
        for form, read in FORMS:
            if match := form.fullmatch(stored):
                return read(*match.groups())
    raise UnusableHash("a stored password hash is in no known format")


def _django_pbkdf2(digest: str, iterations: str, salt: str, key: str) -> DerivedKey:
    return _pbkdf2(digest, iterations, salt.encode(), _base64(key))


def _werkzeug_pbkdf2(digest: str, iterations: str, salt: str, key: str) -> DerivedKey:
    return _pbkdf2(digest, iterations, salt.encode(), _hexadecimal(key))


def _passlib_pbkdf2(digest: str | None, iterations: str, salt: str, key: str) -> DerivedKey:
    return _pbkdf2(digest or "sha1", iterations, _ab64(salt), _ab64(key))


def _pbkdf2(digest: str, iterations: str, salt: bytes, key: bytes) -> DerivedKey:
    if int(iterations) > MAX_ITERATIONS:
        raise UnusableHash(
            f"a stored password hash asks for {iterations} iterations of PBKDF2; "
            f"the limit is {MAX_ITERATIONS}"
        )
    if len(key) != hashlib.new(digest, usedforsecurity=False).digest_size:
        raise UnusableHash("a stored password hash has a key of the wrong length")
    return DerivedKey(
        key, lambda secret: hashlib.pbkdf2_hmac(digest, secret, salt, int(iterations)), pads=True
    )


def _django_scrypt(n: str, salt: str, r: str, p: str, key: str) -> DerivedKey:
    return _scrypt(int(n), int(r), int(p), salt.encode(), _base64(key))


def _werkzeug_scrypt(n: str, r: str, p: str, salt: str, key: str) -> DerivedKey:
    return _scrypt(int(n), int(r), int(p), salt.encode(), _hexadecimal(key))


def _phc_scrypt(log_n: str, r: str, p: str, salt: str, key: str) -> DerivedKey:
    return _scrypt(_power(log_n), int(r), int(p), _base64(salt), _base64(key))


def _scrypt(n: int, r: int, p: int, salt: bytes, key: bytes) -> DerivedKey:
    return DerivedKey(key, _scrypt_function(n, r, p, salt, len(key)), pads=True)


def _firebase(
    log_n: str, r: str, separator: str, signer_key: str, salt: str, key: str
) -> DerivedKey:
    """Firebase encrypts the project's signer key by the derived key, and stores the result."""
    try:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    except ModuleNotFoundError:
        raise MissingExtra("Firebase's scrypt", "firebase") from None
    derive = _scrypt_function(_power(log_n), int(r), 1, _base64(salt) + _base64(separator), 64)
    signer = _base64(signer_key)

    def encrypt(secret: bytes) -> bytes:
        cipher = Cipher(algorithms.AES(derive(secret)[:32]), modes.CTR(bytes(16)))
        return cipher.encryptor().update(signer)

    return DerivedKey(_base64(key), encrypt, pads=True)


def _scrypt_function(n: int, r: int, p: int, salt: bytes, length: int) -> Callable[[bytes], bytes]:
    if 128 * r * (n + p) > MAX_SCRYPT_BYTES or n * r * p > MAX_SCRYPT_WORK:
        raise UnusableHash(
            f"a stored password hash asks for scrypt with n={n}, r={r}, p={p}; the limits are "
            f"{MAX_SCRYPT_BYTES} bytes (128 r (n + p)) and {MAX_SCRYPT_WORK} steps (n r p)"
        )
    if n < 2 or n & (n - 1) or n.bit_length() > 16 * r:  # RFC 7914, section 6
        raise UnusableHash(
            "a stored password hash asks for scrypt with an n that is no power of 2, or too large for r"
        )
    memory = MAX_SCRYPT_BYTES + MEMORY_MARGIN_BYTES
    return partial(_derive_by_scrypt, salt=salt, n=n, r=r, p=p, maxmem=memory, dklen=length)


def _derive_by_scrypt(secret: bytes, **options: object) -> bytes:
    try:
        return hashlib.scrypt(secret, **options)  # type: ignore[arg-type]
    except ValueError as error:  # the parameters are within OpenSSL's bounds, so memory is missing
        raise MemoryError("there is no memory for scrypt") from error


def _power(log_n: str) -> int:
    return 1 << min(int(log_n), 64)  # what is above is out of bounds in any case


def _base64(text: str) -> bytes:
    text = text.rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise UnusableHash("a stored password hash has malformed base64") from None


def _hexadecimal(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise UnusableHash("a stored password hash has an odd number of digits") from None


def _ab64(text: str) -> bytes:
    return _base64(text.replace(".", "+"))


Reader: TypeAlias = Callable[..., DerivedKey]
READERS: dict[str, Reader] = {
    rf"pbkdf2_(sha1|sha256)\${NUMBER}\${TEXT}\${BASE64}": _django_pbkdf2,
    rf"pbkdf2:(sha1|sha256|sha512):{NUMBER}\${TEXT}\$([0-9a-f]{{40,128}})": _werkzeug_pbkdf2,
    rf"\$pbkdf2(?:-(sha256|sha512))?\${NUMBER}\${AB64}\${AB64}": _passlib_pbkdf2,
    rf"scrypt\${NUMBER}\${TEXT}\${NUMBER}\${NUMBER}\${BASE64}": _django_scrypt,
    rf"scrypt:{NUMBER}:{NUMBER}:{NUMBER}\${TEXT}\$([0-9a-f]{{64,256}})": _werkzeug_scrypt,
    rf"\$scrypt\$ln={NUMBER},r={NUMBER},p={NUMBER}\${BASE64}\${BASE64}": _phc_scrypt,
    rf"\$fbscrypt\$v=1,n={NUMBER},r={NUMBER},p=1,ss=([A-Za-z0-9+/]{{0,64}}={{0,2}})"
    rf",sk={BASE64}\$([A-Za-z0-9+/]{{4,128}}={{0,2}})\${BASE64}": _firebase,
}
FORMS = [(re.compile(form, re.ASCII), read) for form, read in READERS.items()]
