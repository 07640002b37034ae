"""`devnest.contrib.pwdlib`, in pwdlib's own `PasswordHash`."""

from pathlib import Path

import pytest
from pwdlib import PasswordHash, exceptions
from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.bcrypt import BcryptHasher

from devnest.contrib.pwdlib import DevNestHasher
from devnest.passwords import UnusableHash
from tests.support import passes_in_a_fork


@pytest.fixture
def hasher(tmp_path: Path) -> DevNestHasher:
    """One with a pool of this test."""
    tmp_path.chmod(0o700)
    return DevNestHasher(str(tmp_path / "p"), cost=4)


def test_hash_and_verify(hasher: DevNestHasher) -> None:
    """Strings and bytes, of any length."""
    password_hash = PasswordHash((hasher,))
    for password in ("secret", "x" * 200, "пароль", b"secret"):
        stored = password_hash.hash(password)
        assert password_hash.verify(password, stored)
        assert password_hash.verify(password, stored.encode())
        assert not password_hash.verify("wrong", stored)
        assert password_hash.verify_and_update(password, stored) == (True, None)


@pytest.mark.parametrize("other", [BcryptHasher(rounds=4), Argon2Hasher(memory_cost=64)])
def test_hashes_of_pwdlib_are_verified_and_replaced(
    hasher: DevNestHasher, other: BcryptHasher | Argon2Hasher
) -> None:
    """argon2's are of another scheme; bcrypt's of this cost stay."""
    stored = other.hash("secret")
    right, new = PasswordHash((hasher,)).verify_and_update("secret", stored)
    assert right
    assert (new is None) is isinstance(other, BcryptHasher)
    assert new is None or new.startswith("$2b$04$")


def test_other_hashers_keep_what_is_theirs(hasher: DevNestHasher) -> None:
    """An unknown form is pwdlib's error, one with too much work is not verified."""
    with pytest.raises(exceptions.UnknownHashError):
        PasswordHash((hasher,)).verify("secret", "md5$x$y")
    assert not hasher.identify("$2b$31$" + "a" * 53)
    with pytest.raises(UnusableHash):
        hasher.verify("secret", "$2b$31$" + "a" * 53)
    with pytest.raises(ValueError, match="salt"):
        hasher.hash("secret", salt=b"0" * 16)


def test_bytes_that_are_no_text(hasher: DevNestHasher) -> None:
    """No error has the password or the hash in it, and other hashers get their turn."""
    with pytest.raises(ValueError, match="UTF-8") as password:
        hasher.hash(b"geheim\xff")
    with pytest.raises(ValueError, match="UTF-8") as guess:
        hasher.verify(b"geheim\xff", "$2b$04$" + "a" * 53)
    with pytest.raises(UnusableHash) as stored:
        hasher.verify("secret", b"geheim\xff")
    for caught in (password, guess, stored):
        assert not isinstance(caught.value, UnicodeError)
        assert "geheim" not in repr(caught.value)
        assert caught.value.__context__ is None
    assert not hasher.identify(b"\xff")
    assert hasher.check_needs_rehash(b"\xff")
    with pytest.raises(exceptions.UnknownHashError):
        PasswordHash((hasher,)).verify("secret", b"\xff")


def test_a_child_of_a_fork(hasher: DevNestHasher) -> None:
    """It connects to the pool itself."""
    stored = hasher.hash("secret")
    assert passes_in_a_fork(lambda: hasher.verify("secret", stored))
    assert hasher.verify("secret", stored)
