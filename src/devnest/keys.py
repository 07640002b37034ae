"""The keys of access tokens: one signs, and older ones verify until their last token has expired.

The keys are in one file, `signing-keys.json` in the data directory, with mode 0600. Every server
reads the file every two seconds, so rotation needs no signal. A new key is written before it signs,
so that every server can already verify its first token. Tokens carry the name of their key (`kid`),
and the key decides the algorithm: the algorithm that a token claims is ignored.

An operator can also supply a key file. It holds either the raw bytes of a single key, or a copy of
`signing-keys.json`. A file whose name ends in `.json` is always read as the latter.
"""

import base64
import fcntl
import hashlib
import math
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec

__all__ = [
    "KEYS_FILE",
    "Algorithm",
    "Key",
    "KeySet",
    "KeysUnusable",
    "ReadyKey",
    "ensure_keys",
    "load_keys",
    "rotate_keys",
]

KEYS_FILE = "signing-keys.json"
OLD_FILE = "signing.key"  # one key as raw bytes: the format before keys could be rotated
MIN_KEY_BYTES = 32  # the output of SHA-256 (RFC 7518, 3.2), and the seed of Ed25519
GENERATED_KEY_BYTES = {"HS256": 48, "EdDSA": 32}  # new keys that DevNest makes
# How long a key still verifies after its successor began to sign: the 15 minutes of a token, and
# five for a server that reads the new key late.
VERIFY_OVERLAP_S = 20 * 60.0
MAX_KEYS = 16  # in one file: more rotations within `VERIFY_OVERLAP_S` are refused


class KeysUnusable(Exception):
    """A file of signing keys cannot be used. The message contains no key material."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"the signing keys in {path} cannot be used: {reason}")


class Algorithm(StrEnum):
    """The signature algorithm of a key.

    `EdDSA` (Ed25519) lets other services verify tokens with a public key; it needs the extra
    `eddsa`.
    """

    HS256 = "HS256"
    EDDSA = "EdDSA"


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is stored.

    Attributes:
        kid: The name that tokens carry.
        signs_from: The Unix time in seconds from which this key may sign.
        named: False for a key supplied as raw bytes, whose tokens may lack a `kid`.
    """

    kid: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]
    algorithm: Algorithm
    secret: Annotated[bytes, msgspec.Meta(min_length=MIN_KEY_BYTES)]
    signs_from: float
    named: bool = True

    def __repr__(self) -> str:
        return f"<Key {self.kid} {self.algorithm}>"

    def signing(self) -> Any:
        """Return the key object with which PyJWT signs."""
        return self.secret if self.algorithm is Algorithm.HS256 else _ed25519(self.secret)

    def verifying(self) -> Any:
        """Return the key object with which PyJWT verifies."""
        return (
            self.secret if self.algorithm is Algorithm.HS256 else _ed25519(self.secret).public_key()
        )


class _File(msgspec.Struct, frozen=True):
    keys: Annotated[list[Key], msgspec.Meta(min_length=1)]


@dataclass(frozen=True, slots=True, repr=False)
class ReadyKey:
    """A parsed key.

    Attributes:
        verifies_until: The Unix time in seconds at which the key stops verifying.
    """

    key: Key
    signing: Any
    verifying: Any
    verifies_until: float


class KeySet:
    """The keys of one file, in the order in which they sign."""

    def __init__(self, keys: Sequence[Key]) -> None:
        ordered = sorted(keys, key=lambda key: key.signs_from)
        ends = [*(key.signs_from + VERIFY_OVERLAP_S for key in ordered[1:]), math.inf]
        self._ready = [
            ReadyKey(k, k.signing(), k.verifying(), end)
            for k, end in zip(ordered, ends, strict=True)
        ]
        self._by_name: dict[str | None, ReadyKey] = {ready.key.kid: ready for ready in self._ready}
        self._by_name.update((None, ready) for ready in self._ready if not ready.key.named)

    def signer(self, now: float) -> ReadyKey:
        """Return the newest key that may sign at `now` (Unix time in seconds)."""
        begun = [ready for ready in self._ready if ready.key.signs_from <= now]
        return begun[-1] if begun else self._ready[0]

    def verifier(self, kid: object, now: float) -> ReadyKey | None:
        """Return the key named `kid` if it still verifies, else None.

        Args:
            kid: The name in a token. It is untrusted and used for a dictionary lookup only.
            now: The Unix time in seconds.
        """
        ready = self._by_name.get(kid) if kid is None or isinstance(kid, str) else None
        return ready if ready is not None and now < ready.verifies_until else None

    def alive(self, now: float) -> list[ReadyKey]:
        """Return the keys that sign, will sign or still verify."""
        return [ready for ready in self._ready if now < ready.verifies_until]

    def public(self, now: float) -> list[dict[str, str]]:
        """Return the public keys as JWKs (RFC 8037). Secret keys are never included."""
        return [
            {
                "kty": "OKP",
                "crv": "Ed25519",
                "use": "sig",
                "alg": "EdDSA",
                "kid": ready.key.kid,
                "x": _encoded(ready),
            }
            for ready in self.alive(now)
            if ready.key.algorithm is Algorithm.EDDSA
        ]


def ensure_keys(data_dir: Path) -> Path:
    """Return the path of the data directory's key file, creating the file if it is missing.

    A `signing.key` of the old format becomes the first key of the new file.

    Raises:
        KeysUnusable: The file cannot be read, written or parsed.
    """
    path = data_dir / KEYS_FILE
    with _locked(path):
        if not path.exists():
            old = data_dir / OLD_FILE
            _write(
                path,
                [
                    _key_from_bytes(old, _read(old))
                    if old.exists()
                    else _new_key(Algorithm.HS256, 0.0)
                ],
            )
            old.unlink(missing_ok=True)
        load_keys(path)
    return path


def load_keys(path: Path) -> KeySet:
    """Read a key file: a set written by DevNest, or the raw bytes of one key.

    Raises:
        KeysUnusable: The file cannot be read or parsed.
    """
    return _key_set(path, _parse(path))


def rotate_keys(
    data_dir: Path, algorithm: Algorithm | None = None, *, delay_s: float, discard_old: bool = False
) -> Key:
    """Add a key to the data directory's file and drop the keys that verify no longer.

    Args:
        data_dir: The data directory.
        algorithm: By default that of the newest key.
        delay_s: The new key signs after so many seconds. By then every server and every consumer of
            the public keys must have read it.
        discard_old: Drop all other keys, and let the new one sign immediately.

    Raises:
        KeysUnusable: The file cannot be used, holds `MAX_KEYS` keys already, or the algorithm's
            package is not installed.
    """
    path = ensure_keys(data_dir)
    with _locked(path):
        now = time.time()
        alive = [ready.key for ready in load_keys(path).alive(now)]
        new = _new_key(algorithm or alive[-1].algorithm, now if discard_old else now + delay_s)
        kept = [] if discard_old else alive
        if len(kept) >= MAX_KEYS:
            raise KeysUnusable(
                path, f"{len(kept)} keys are in use; the first ends within {VERIFY_OVERLAP_S:g} s"
            )
        _key_set(path, [*kept, new])  # checked before writing: EdDSA may not be installed
        _write(path, [*kept, new])
    return new


def _parse(path: Path) -> list[Key]:
    content = _read(path)
    # A damaged JSON file must never be used as a raw key: what a crash leaves of one is easy to
    # guess.
    if path.suffix != ".json" and not content.startswith(b'{"keys":'):
        return [_key_from_bytes(path, content.strip())]
    try:
        keys = msgspec.json.decode(content, type=_File).keys
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise KeysUnusable(path, "it is not a file of keys, or it is damaged") from None
    if len({key.kid for key in keys}) < len(keys):
        raise KeysUnusable(path, "two keys have the same name")
    return keys


def _key_set(path: Path, keys: Sequence[Key]) -> KeySet:
    try:
        return KeySet(keys)
    except ImportError:
        reason = "EdDSA needs: pip install 'devnest[eddsa]', and HUP where DevNest runs already"
        raise KeysUnusable(path, reason) from None
    except ValueError as error:  # an Ed25519 seed that is not 32 bytes
        raise KeysUnusable(path, str(error)) from None


def _key_from_bytes(path: Path, secret: bytes) -> Key:
    """Make an HS256 key of raw bytes. Its name is a digest of them, the same on every machine."""
    # Imported here: HS256 keys that DevNest has made itself do not need PyJWT.
    from jwt import InvalidKeyError
    from jwt.algorithms import HMACAlgorithm

    if len(secret) < MIN_KEY_BYTES:
        raise KeysUnusable(path, f"it has {len(secret)} bytes, {MIN_KEY_BYTES} are needed")
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except InvalidKeyError:
        raise KeysUnusable(
            path, "it is a key pair, a certificate or a JWK; a secret is needed"
        ) from None
    kid = hashlib.sha256(b"devnest kid\0" + secret).hexdigest()[:16]
    return Key(kid=kid, algorithm=Algorithm.HS256, secret=secret, signs_from=0.0, named=False)


def _new_key(algorithm: Algorithm, signs_from: float) -> Key:
    secret = secrets.token_bytes(GENERATED_KEY_BYTES[algorithm])
    return Key(kid=secrets.token_hex(8), algorithm=algorithm, secret=secret, signs_from=signs_from)


def _ed25519(seed: bytes) -> Any:
    # Imported here: `cryptography` comes with the extra `eddsa` only.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from jwt.algorithms import has_crypto

    if not has_crypto:
        raise ImportError("PyJWT was loaded before cryptography was installed")
    return Ed25519PrivateKey.from_private_bytes(seed)


def _encoded(ready: ReadyKey) -> str:
    return base64.urlsafe_b64encode(ready.verifying.public_bytes_raw()).rstrip(b"=").decode()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeysUnusable(path, error.strerror or str(error)) from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process write at a time. The directory is locked, because the file is replaced."""
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise KeysUnusable(path, error.strerror or str(error)) from error
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _write(path: Path, keys: Sequence[Key]) -> None:
    """Replace the file atomically, readable by its owner only. Root keeps the file's owner."""
    new = path.with_suffix(".new")
    try:
        owner = path.stat() if path.exists() else path.parent.stat()
        new.unlink(missing_ok=True)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            if os.geteuid() == 0:
                os.fchown(fd, owner.st_uid, owner.st_gid)
            file.write(msgspec.json.encode(_File(list(keys))) + b"\n")
            file.flush()
            os.fsync(fd)
        new.rename(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise KeysUnusable(path, error.strerror or str(error)) from error
