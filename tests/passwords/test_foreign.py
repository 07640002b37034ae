"""Stored hashes of other software, with vectors from it."""

import unicodedata

import bcrypt
import django
import pytest
import werkzeug.security
from django.conf import settings as django_settings
from django.contrib.auth import hashers
from hypothesis import given, settings
from hypothesis import strategies as st

from devnest.passwords import (
    Guess,
    PasswordHasher,
    UnusableHash,
    Verdict,
    compute,
    compute_all,
    needs_rehash,
    verify_password,
)
from devnest.passwords.stored import is_bcrypt

# From the documentation of passlib (passlib.hash.pbkdf2_sha256, passlib.hash.scrypt), and from that
# of Firebase's scrypt in the form that GoTrue writes.
PASSLIB_PBKDF2 = (
    "$pbkdf2-sha256$6400$.6UI/S.nXIk8jcbdHx3Fhg$98jZicV16ODfEsEZeYPGHU3kbrUrvUEXOPimVSQDD44"
)
PASSLIB_SCRYPT = (
    "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E"
)
# Written by passlib 1.7.4, whose import warns of what Python has deprecated.
PASSLIB_SHA1 = "$pbkdf2$1000$gBBCqHXOeW8tJUTImdPa2w$LHddzFWxi2IavJ.RKlbuXPr2IYM"
PASSLIB_SHA512 = (
    "$pbkdf2-sha512$1000$p/Te23tPSYmREsI4J2QMAQ"
    "$/Fena2hzV/ouVCoU0W5jcY.aluNPtnL8iLhKfhFpMvaVNgeX2LrKjVGaxokf3tHChnOW3vXRU40v2B6X.AkQFQ"
)
FIREBASE = (
    "$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk=jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZ"
    "JzxUECKbm0QsEmYUSDzZvpjeJ9WmXA==$42xEC+ixf3L2lw==$lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SA"
    "yZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ=="
)

WERKZEUG = (
    "scrypt:1024:8:1$mURBvuVZX0gkSsIY$"
    "53c04d4d4f526dab3313fc0139fe8e4038e56d2debe48d388a54f627d133ca6b"
    "68a41c63eff6cf3601d2579c9e60541f4446a7208d205fb9f87c9870e8707f65"
)


@pytest.mark.parametrize(
    ("password", "stored"),
    [
        ("password", PASSLIB_PBKDF2),
        ("password", PASSLIB_SCRYPT),
        ("password", PASSLIB_SHA1),
        ("password", PASSLIB_SHA512),
        ("user1password", FIREBASE),
        ("secret", WERKZEUG),
    ],
)
def test_published_vectors(password: str, stored: str) -> None:
    """The password matches, another does not, and the hash is to be replaced."""
    assert verify_password(password, stored)
    assert not verify_password(password + "x", stored)
    assert needs_rehash(stored, 4)
    assert needs_rehash(stored, 4, "argon2id")


if not django_settings.configured:
    django_settings.configure()
django.setup()
SALT = "abcdefghijklmnop"
PBKDF2, SCRYPT = hashers.PBKDF2PasswordHasher(), hashers.ScryptPasswordHasher()
PASSWORDS = ["correct horse", "", "x" * 100, "cafe\u0301", "caf\u00e9", "😀" * 20, "ﬁ", "p:$a=ss"]


def written_elsewhere(password: str) -> dict[str, str]:
    """The password as other software stores it."""
    raw, salt = password.encode(), bcrypt.gensalt(4)
    argon2, bcrypt_sha256 = hashers.Argon2PasswordHasher(), hashers.BCryptSHA256PasswordHasher()
    argon2.memory_cost = 64
    return {
        "bcrypt": bcrypt.hashpw(raw[:72], salt).decode(),
        "bcrypt 2a": bcrypt.hashpw(raw[:72], salt).decode().replace("$2b$", "$2a$"),
        "django pbkdf2_sha256": PBKDF2.encode(password, SALT, 1000),
        "django pbkdf2_sha1": hashers.PBKDF2SHA1PasswordHasher().encode(password, SALT, 1000),
        "django bcrypt_sha256": bcrypt_sha256.encode(password, bcrypt.gensalt(4)),
        "django bcrypt": f"bcrypt${bcrypt.hashpw(raw[:72], salt).decode()}",
        "django argon2": argon2.encode(password, SALT),
        "django scrypt": SCRYPT.encode(password, SALT, n=2**4),
        "werkzeug scrypt": werkzeug.security.generate_password_hash(password, "scrypt:1024:8:1"),
        "werkzeug pbkdf2": werkzeug.security.generate_password_hash(password, "pbkdf2:sha512:1000"),
    }


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("form", list(written_elsewhere("x")))
def test_what_matched_there_matches_here(form: str, password: str) -> None:
    """Also where NFKC changes the password, or bcrypt cuts it."""
    stored = written_elsewhere(password)[form]
    assert verify_password(password, stored)
    assert not verify_password("!" + password, stored)
    ours = stored.startswith(("$2b$", "$bcrypt-sha256$"))
    assert ours or needs_rehash(stored, 4)
    assert needs_rehash(stored, 5)
    assert needs_rehash(stored, 4, "argon2id")
    is_normal = unicodedata.normalize("NFKC", password) == password
    is_cut = is_bcrypt(stored) and "sha256" not in stored and len(password.encode()) >= 72
    verdict = Verdict.RIGHT if is_normal else Verdict.OUTDATED
    assert compute(Guess(password, stored)) is (Verdict.PARTIAL if is_cut else verdict)


def test_bcrypt_hashes_of_others_are_interleaved_with_ours() -> None:
    """In one batch, each call gets its own result."""
    elsewhere = written_elsewhere("correct horse")
    calls = [Guess(word, stored) for stored in elsewhere.values() for word in ("correct horse", "")]
    assert compute_all(calls) == [Verdict.RIGHT, Verdict.WRONG] * len(elsewhere)
    assert sum(call.is_interleaved for call in calls) == 2 * 4


def test_a_password_of_less_than_72_bytes_is_never_a_part_of_another() -> None:
    """bcrypt pads it with a NUL, so that what a guess is cut to differs."""
    stored = bcrypt.hashpw(b"x" * 71, bcrypt.gensalt(4)).decode()
    assert not verify_password("x" * 72, stored)
    assert not verify_password("x" * 71 + "\0", stored)


async def test_a_guess_that_may_be_mistyped_replaces_no_hash() -> None:
    """bcrypt ignored what follows 72 bytes, so the owner's password may be another."""
    stored = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
    hasher = PasswordHasher(cost=5)
    assert await hasher.verify_and_update("x" * 72 + "typo", stored) == (True, None)
    assert await hasher.check("x" * 72 + "typo", stored) is Verdict.PARTIAL
    for other in (DJANGO_PBKDF2, DJANGO_SCRYPT):  # HMAC does not see NULs at the end
        assert await hasher.verify_and_update("secret\0", other) == (True, None)
        right, new = await hasher.verify_and_update("secret", other)
        assert right
        assert new is not None


DJANGO_PBKDF2 = PBKDF2.encode("secret", SALT, 1000)
DJANGO_SCRYPT = SCRYPT.encode("secret", SALT, n=16)


@pytest.mark.parametrize(
    "stored",
    [
        DJANGO_PBKDF2.replace("$1000$", "$10000001$"),
        DJANGO_PBKDF2.replace("$1000$", f"${2**31}$"),
        DJANGO_PBKDF2.replace("$1000$", "$0$"),
        DJANGO_PBKDF2.replace("$1000$", "$-1$"),
        DJANGO_PBKDF2.replace("$1000$", "$१०००$"),
        DJANGO_PBKDF2.replace("sha256", "md5"),
        DJANGO_PBKDF2 + "\n",
        DJANGO_PBKDF2[:-8],
        DJANGO_PBKDF2[:-2] + "=",
        DJANGO_PBKDF2.replace(SALT, "a" * 129),
        PASSLIB_PBKDF2.replace("$6400$", "$99999999999$"),
        PASSLIB_PBKDF2[:-1],
        DJANGO_SCRYPT.replace("$16$", "$17$", 1),
        DJANGO_SCRYPT.replace("$16$", "$1$", 1),
        DJANGO_SCRYPT.replace("$16$", f"${2**30}$", 1),
        WERKZEUG.replace(":1024:", ":4294967296:"),
        WERKZEUG.replace(":8:1", ":8:9999999999"),
        WERKZEUG.replace(":8:1", ":9999999999:1"),
        WERKZEUG[:-1],
        PASSLIB_SCRYPT.replace("ln=16", "ln=64"),
        PASSLIB_SCRYPT.replace("ln=16", "ln=9999999999"),
        PASSLIB_SCRYPT.replace("ln=16", "ln=29"),  # 64 GB
        PASSLIB_SCRYPT.replace("p=1", "p=4096"),
        PASSLIB_SCRYPT.replace("ln=16,r=8", "ln=16,r=1"),  # OpenSSL refuses it
        PASSLIB_SCRYPT.replace("ln=16,r=8,p=1", "ln=1,r=1,p=8388608"),
        DJANGO_SCRYPT.replace("$16$", "$2$", 1).replace("$8$5$", "$1$2400000$"),
        DJANGO_PBKDF2.replace(SALT, "sa\udc80lt"),
        FIREBASE.replace("n=14", "n=40"),
        FIREBASE.replace("sk=jxspr8", "sk=!"),
        "bcrypt_sha256$$2b$31$" + "a" * 53,
        "bcrypt$$2b$99$" + "a" * 53,
        "argon2$argon2id$v=19$m=67108864,t=3,p=4$c29tZXNhbHQ$" + "a" * 43,
        "md5$salt$0123456789abcdef0123456789abcdef",
        "!unusable",
        "pbkdf2_sha256$" + "1" * 1_000_000,
    ],
    ids=lambda stored: stored[:70],
)
def test_an_unusable_stored_hash_is_refused_before_any_work(stored: str) -> None:
    """No row of a table takes gigabytes or minutes, and the message does not quote it."""
    with pytest.raises(UnusableHash) as caught:
        verify_password("secret", stored)
    assert stored not in str(caught.value)
    assert needs_rehash(stored, 4)


PIECES = st.sampled_from(
    ["$", "$$", ":", "=", ",", "pbkdf2_sha256", "pbkdf2:sha1", "scrypt", "$scrypt", "$fbscrypt", "v=1",
     "ln=4", "r=8", "p=1", "n=4", "ss=", "sk=", "16", "8", "1", "1000", "$argon2id", "argon2", "v=19",
     "m=64,t=1,p=1", "$2b$04$", "bcrypt$", "bcrypt_sha256$", "a" * 16, "A" * 22, "b" * 31, "c" * 43,
     "e" * 53, "0" * 64, "f" * 128, "é", "\0", "\n"]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=14).map("".join) | st.text(max_size=200))
def test_any_text_is_verified_or_refused(stored: str) -> None:
    """There is no third way, whatever a column contains."""
    try:
        matches = verify_password("secret", stored)
    except UnusableHash:
        return
    assert matches is False


def test_firebase_without_cryptography_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only that form needs it."""
    import sys

    from devnest.extras import MissingExtra

    for name in list(sys.modules):
        if name.partition(".")[0] == "cryptography":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(MissingExtra, match=r"devnest\[firebase\]"):
        verify_password("user1password", FIREBASE)
    assert verify_password("password", PASSLIB_PBKDF2)
