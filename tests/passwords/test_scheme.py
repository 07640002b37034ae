"""The stored form of a password."""

from collections.abc import Callable

import bcrypt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devnest.passwords import (
    MAX_COST,
    Guess,
    NewPassword,
    UnusableHash,
    Verdict,
    compute,
    hash_password,
    needs_rehash,
    verify_password,
)

# passlib's documentation, passlib.hash.bcrypt_sha256: the password is "password"
PASSLIB = "$bcrypt-sha256$v=2,t=2b,r=12$n79VH.0Q2TMWmt3Oqt9uku$Kq4Noyk3094Y2QlB8NdRT8SvGiI4ft2"


def test_passlib_s_example_is_verified() -> None:
    """The long format is passlib's, to the letter."""
    assert verify_password("password", PASSLIB)
    assert not verify_password("Password", PASSLIB)


@pytest.mark.parametrize(
    ("password", "prefix"),
    [
        ("short", "$2b$04$"),
        ("x" * 71, "$2b$04$"),
        ("x" * 72, "$bcrypt-sha256$v=2,t=2b,r=4$"),
        ("ü" * 36, "$bcrypt-sha256$v=2,t=2b,r=4$"),
        ("a\0a", "$bcrypt-sha256$v=2,t=2b,r=4$"),
        ("", "$2b$04$"),
    ],
)
def test_what_bcrypt_cannot_hold_is_hashed_before(password: str, prefix: str) -> None:
    """Plain bcrypt below 72 bytes without NUL, bcrypt-sha256 for the rest."""
    stored = hash_password(password, 4)
    assert stored.startswith(prefix)
    assert verify_password(password, stored)


@pytest.mark.parametrize("length", [71, 72, 73, 1000])
def test_no_byte_of_a_long_password_is_ignored(length: int) -> None:
    """A change of the last byte is another password."""
    stored = hash_password("x" * length, 4)
    assert not verify_password("x" * (length - 1) + "y", stored)
    assert not verify_password("x" * (length + 1), stored)


def test_passwords_that_differ_after_a_nul_differ() -> None:
    """bcrypt alone takes `a` and `a NUL a` for the same."""
    assert bcrypt.hashpw(b"a", salt := bcrypt.gensalt(4)) == bcrypt.hashpw(b"a\0a", salt)
    assert not verify_password("a\0a", hash_password("a", 4))
    assert not verify_password("a", hash_password("a\0a", 4))


def test_one_password_however_it_is_composed() -> None:
    """An e with an accent, typed as one character or two."""
    assert verify_password("cafe\u0301", hash_password("caf\u00e9", 4))


def test_a_plain_hash_of_other_software_is_verified() -> None:
    """Also with the older prefixes."""
    stored = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    assert verify_password("secret", stored)
    assert verify_password("secret", stored.replace("$2b$", "$2y$"))
    assert verify_password("secret", stored.replace("$2b$", "$2a$"))


def test_normalizing_takes_no_quadratic_time() -> None:
    """This text would take half an hour, so it is hashed as it is."""
    password = "a" + "\u0301" * 500_000 + "\u0323" * 500_000
    stored = hash_password(password, 4)
    assert verify_password(password, stored)
    assert not verify_password(password[:-1], stored)


@pytest.mark.parametrize(
    "work",
    [lambda: hash_password("sekrit\udc80", 4), lambda: verify_password("sekrit\udc80", GOOD)],
)
def test_no_error_holds_the_password(work: Callable[[], object]) -> None:
    """Not in its text, its `repr` or its attributes."""
    with pytest.raises(ValueError, match="UTF-8") as caught:
        work()
    assert "sekrit" not in repr((caught.value, vars(caught.value), caught.value.__cause__))
    assert "sekrit" not in repr((Guess("sekrit", GOOD), NewPassword("sekrit", 4)))


@pytest.mark.parametrize("scheme", ["argon2", "", "BCRYPT"])
def test_an_unknown_scheme_is_refused(scheme: str) -> None:
    """And not taken for bcrypt."""
    with pytest.raises(ValueError, match="Scheme"):
        hash_password("secret", 4, scheme)
    with pytest.raises(ValueError, match="Scheme"):
        needs_rehash(GOOD, 4, scheme)


GOOD = "$2b$04$KCAX3gTH.YBfqBhQacVREOtOZZGM0tHxghK0lTB78HgCyV5yRfHl2"  # of "secret"


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "secret",
        GOOD[:-1],
        GOOD + "x",
        GOOD + "\n",
        "\0" + GOOD,
        GOOD.replace("$04$", "$31$"),
        GOOD.replace("$04$", f"${MAX_COST + 1}$"),
        GOOD.replace("$04$", "$03$"),
        GOOD.replace("$04$", "$0x$"),
        GOOD.replace("$2b$", "$2x$"),
        GOOD[:-1] + "ü",
        GOOD[:28] + "P" + GOOD[29:],  # bits that a salt does not have
        PASSLIB.replace("v=2", "v=1"),
        PASSLIB.replace("r=12", "r=31"),
        PASSLIB.replace("r=12", f"r={MAX_COST + 1}"),
        PASSLIB[:-1],
        PASSLIB.replace("9uku$", "9ukv$"),
        "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$aGFzaA",
        "x" * 1_000_000,
    ],
    ids=lambda stored: stored[:80],
)
def test_an_unusable_stored_hash_is_refused_before_any_work(stored: str) -> None:
    """No cost of 31 keeps a core busy for a day; the message does not quote the hash."""
    assert verify_password("secret", GOOD)
    with pytest.raises(UnusableHash) as caught:
        verify_password("secret", stored)
    assert not stored or stored not in str(caught.value)
    assert needs_rehash(stored, 12)


def test_a_stored_hash_of_the_highest_cost_is_accepted() -> None:
    """In both forms; one more is refused, by the test before.

    Told by the check alone: the work takes 15 s.
    """
    assert not needs_rehash(GOOD.replace("$04$", f"${MAX_COST}$"), 12)
    assert not needs_rehash(PASSLIB.replace("r=12", f"r={MAX_COST}"), 12)


@pytest.mark.parametrize("cost", [-1, 3, MAX_COST + 1, 31])
def test_a_cost_out_of_bounds_is_refused(cost: int) -> None:
    """Before any work."""
    with pytest.raises(ValueError, match="cost"):
        hash_password("secret", cost)


def test_a_hash_of_less_cost_or_an_old_prefix_is_to_be_replaced() -> None:
    """What took more work stays: a lower cost makes no stored hash weaker."""
    assert not needs_rehash(GOOD, 4)
    assert not needs_rehash(hash_password("secret", 5), 4)
    assert needs_rehash(GOOD, 5)
    assert needs_rehash(GOOD.replace("$2b$", "$2a$"), 4)
    assert not needs_rehash(PASSLIB, 12)


@settings(max_examples=60, deadline=None)
@given(password=st.text(max_size=200), other=st.text(max_size=200))
def test_only_the_same_password_matches(password: str, other: str) -> None:
    """Any text, beside any other."""
    import unicodedata

    stored = hash_password(password, 4)
    assert compute(Guess(password, stored)) is Verdict.RIGHT
    same = unicodedata.normalize("NFKC", password) == unicodedata.normalize("NFKC", other)
    assert verify_password(other, stored) is same
