"""argon2id, beside bcrypt."""

import subprocess
import sys

import argon2
import pytest

from devnest.passwords import Scheme, UnusableHash, hash_password, needs_rehash, verify_password
from devnest.passwords.argon2id import MAX_LANES, MAX_MEMORY_KIB, MAX_PASSES
from devnest.passwords.scheme import Guess, NewPassword, Verdict, compute_all

# The reference implementation's own test (phc-winner-argon2, src/test.c): "password", "somesalt"
REFERENCE = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
LIGHT = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def test_the_reference_s_hash_is_verified() -> None:
    """The format is everyone's."""
    assert verify_password("password", REFERENCE)
    assert not verify_password("Password", REFERENCE)


def test_a_new_hash_takes_the_work_of_rfc_9106() -> None:
    """Its second recommendation, and other software verifies it."""
    stored = hash_password("caf\u00e9 au lait", 12, Scheme.ARGON2ID)
    assert argon2.extract_parameters(stored) == argon2.profiles.RFC_9106_LOW_MEMORY
    assert argon2.PasswordHasher().verify(stored, "caf\u00e9 au lait")
    assert verify_password("cafe\u0301 au lait", stored)
    assert not verify_password("cafe au lait", stored)


@pytest.mark.parametrize("password", ["", "x" * 1024, "with\0nul", "👩‍👩‍👧‍👦"])
def test_no_password_is_cut(password: str) -> None:
    """All of it counts, after NFKC."""
    stored = LIGHT.hash(password)
    assert verify_password(password, stored)
    assert not verify_password(password + "x", stored)
    assert not password or not verify_password(password[:-1], stored)


@pytest.mark.parametrize(
    "stored",
    [
        "$argon2id$",
        REFERENCE[:-1] + "ü",
        REFERENCE[:-1] + "5",  # bits that no digest has
        REFERENCE + "\n",
        REFERENCE.replace("m=256", "m=262145"),
        REFERENCE.replace("m=256", "m=99999999999"),
        REFERENCE.replace("m=256", "m=0256"),
        REFERENCE.replace("m=256", "m=7"),
        REFERENCE.replace("t=2", "t=17"),
        REFERENCE.replace("t=2", "t=0"),
        REFERENCE.replace("t=2", "t=4294967295"),
        REFERENCE.replace("p=1", "p=17"),
        REFERENCE.replace("p=1", "p=16777215"),
        REFERENCE.replace("p=1", "p=1,keyid=x"),
        REFERENCE.replace("v=19", "v=16"),
        REFERENCE.replace("$v=19", ""),
        REFERENCE.replace("argon2id", "argon2d"),
        REFERENCE.replace("c29tZXNhbHQ", "c2FsdA"),
        REFERENCE.replace("c29tZXNhbHQ", "A" * 87),
        REFERENCE[:-30],
        "$argon2id$" + "x" * 1_000_000,
    ],
)
def test_an_unusable_stored_hash_is_refused_before_any_work(stored: str) -> None:
    """No row of the database takes gigabytes or minutes; the message does not quote the hash."""
    with pytest.raises(UnusableHash) as caught:
        verify_password("password", stored)
    assert stored not in str(caught.value)


# Digests of "password" and "somesalt", the same by OpenSSL; all limits together would take half a
# minute.
AT_THE_LIMITS = {
    "passes and lanes": "$argon2id$v=19$m=128,t=16,p=16$c29tZXNhbHQ$p0oikKLaagiVCKaTF637jl41lEbbwQuKIG+162tFeYk",
    "memory": "$argon2id$v=19$m=262144,t=1,p=1$c29tZXNhbHQ$aJ554/e2qIXeTF4yIQ5dsbiqq7ERE2tGm1SSLTNIxlo",
}


@pytest.mark.parametrize("which", AT_THE_LIMITS)
def test_a_stored_hash_at_the_limits_is_verified(which: str) -> None:
    """What is above is refused, by the test before; what asks for just as much is not."""
    stored = AT_THE_LIMITS[which]
    assert {f"m={MAX_MEMORY_KIB}", f"t={MAX_PASSES}", f"p={MAX_LANES}"} & set(
        stored.replace("$", ",").split(",")
    )
    assert verify_password("password", stored)


# The address space is bounded, so the memory of the first two is refused. The third needs 32 KiB,
# and no thread.
STARVED = """
import resource
from devnest.passwords import hash_password, verify_password

used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 4 * 1024 * 1024, resource.RLIM_INFINITY))
stored = "$argon2id$v=19$m={},t=1,p=4$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
for work in (
    lambda: hash_password("secret", 4, "argon2id"),
    lambda: verify_password("secret", stored.format(65536)),
    lambda: verify_password("secret", stored.format(32)),
):
    try:
        print(work())
    except MemoryError as error:
        print(error)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(verify_password("secret", hash_password("secret", 4, "argon2id")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone holds to RLIMIT_AS")
def test_without_memory_it_is_a_memory_error() -> None:
    """Never "a wrong password", nor "a broken hash".

    And when there is memory again, all is well.
    """
    run = subprocess.run(
        [sys.executable, "-c", STARVED], capture_output=True, text=True, check=False, timeout=120
    )
    expected = ["argon2id: Memory allocation error"] * 2 + ["False", "True"]
    assert run.stdout.splitlines() == expected, run.stderr


def test_a_hash_below_the_policy_is_to_be_replaced() -> None:
    """Another scheme in either direction, and less work."""
    bcrypt_hash = hash_password("secret", 4)
    assert needs_rehash(bcrypt_hash, 4, Scheme.ARGON2ID)
    assert needs_rehash(REFERENCE, 4, Scheme.BCRYPT)
    assert needs_rehash(REFERENCE, 4, Scheme.ARGON2ID)
    good = REFERENCE.replace("m=256,t=2,p=1", "m=65536,t=3,p=4")
    assert not needs_rehash(good, 4, Scheme.ARGON2ID)
    assert not needs_rehash(good.replace("m=65536,t=3,p=4", "m=131072,t=4,p=1"), 4, Scheme.ARGON2ID)
    assert needs_rehash(good.replace("t=3", "t=2"), 4, Scheme.ARGON2ID)
    assert needs_rehash(good.replace("m=65536", "m=19456"), 4, Scheme.ARGON2ID)
    assert needs_rehash(good.replace("t=3", "t=99"), 4, Scheme.ARGON2ID)


def test_a_batch_of_both_gives_each_call_its_own_result() -> None:
    """In the order of the calls, whatever fails."""
    light, bcrypt_hash = LIGHT.hash("secret"), hash_password("secret", 4)
    calls = [
        ("secret", light),
        ("secret", bcrypt_hash),
        ("wrong", light),
        ("secret", "$argon2id$x"),
        ("\ud800", light),
    ]
    new = [("a", 4, "bcrypt"), ("b", 4, "argon2id"), ("c", 99, "bcrypt")]
    guesses = [Guess(*call) for call in [*calls, ("wrong", bcrypt_hash)]]
    results = compute_all([*guesses, *(NewPassword(*call) for call in new)])
    assert results[:3] == [Verdict.RIGHT, Verdict.RIGHT, Verdict.WRONG]
    assert isinstance(results[3], UnusableHash)
    assert isinstance(results[4], ValueError)
    assert results[5] == Verdict.WRONG
    first, second, third = results[6:]
    assert isinstance(first, str)
    assert first.startswith("$2b$")
    assert isinstance(second, str)
    assert second.startswith("$argon2id$")
    assert isinstance(third, ValueError)


WITHOUT_ARGON2 = """
import sys
sys.modules["argon2"] = None  # to the import system it is not there
from devnest.extras import MissingExtra
from devnest.passwords import Guess, Hasher, InlineRunner, NewPassword, Scheme
from devnest.passwords import compute_all, hash_password, verify_password
assert verify_password("secret", hash_password("secret", 4))
stored = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
for asked in (
    lambda: hash_password("secret", 4, Scheme.ARGON2ID),
    lambda: verify_password("secret", stored),
    lambda: Hasher(InlineRunner(), 4, Scheme.ARGON2ID),
):
    try:
        asked()
    except MissingExtra as error:
        print(error)
failed, hashed = compute_all([Guess("secret", stored), NewPassword("secret", 4)])
print(type(failed).__name__, type(hashed).__name__)
"""


def test_without_argon2_cffi_the_error_names_the_extra() -> None:
    """Where argon2id is asked for, and nowhere else; other calls of a batch are done."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_ARGON2], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    line = "argon2id needs an extra that is not installed: pip install 'devnest[argon2]'\n"
    assert done.stdout == 3 * line + "MissingExtra str\n"
