"""Which new passwords are refused."""

import hashlib
from pathlib import Path

import pytest

from devnest.passwords import BreachedFile, Policy, WeakPassword

NAMES = ("grace", "grace.hopper@example.org")


@pytest.mark.parametrize(
    "password",
    [
        "password",
        "PassWord",
        "password123",
        "P4ssw0rd!",
        "iloveyou",
        "12345678",
        "1qaz2wsx",
        "letmein2024",
        "\uff50\uff41\uff53\uff53\uff57\uff4f\uff52\uff44",
        "aaaaaaaaaaaa",
        "abcabcabcabc",
        "passwordpassword",
        "devnest1",
        "DevNest2026!",
        "tsenved1",
        "grace1234",
        "ecarg1234",
        "grace.hopper",
        "gr4ce.h0pper",
        "grace.hopper@example.org",
        "example.org",
    ],
)
async def test_what_is_guessed_first_is_refused(password: str) -> None:
    """Common passwords, names, and little variations of both."""
    with pytest.raises(WeakPassword) as caught:
        await Policy().check(password, NAMES)
    assert password not in str(caught.value) or password == "password"


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery",
        "password is what I hate",
        "grace notes in a minor",
        "xk2vqz9w",
        "        a space odyssey",
        "\0\0 not text \x7f",
        "пароль не простой",
        "👩‍👩‍👧‍👦 family",
        "7391048265",
        "x" * 500 + "y" * 500,
    ],
)
async def test_no_kinds_of_characters_are_asked_for(password: str) -> None:
    """Any characters, and phrases with common words in them."""
    await Policy().check(password, NAMES)


@pytest.mark.parametrize(("password", "length"), [("ﬁ7ö👍k2w", 8), ("o\u0308" * 7 + "x", 8)])
async def test_length_is_counted_in_characters_after_normalization(
    password: str, length: int
) -> None:
    """A ligature is two, a letter and its accent are one, whatever their bytes."""
    await Policy(length).check(password, ())
    with pytest.raises(WeakPassword, match="shorter than"):
        await Policy(length + 1).check(password, ())


async def test_another_number_after_the_name_hides_nothing() -> None:
    """The name's own digits do not count."""
    with pytest.raises(WeakPassword, match="name"):
        await Policy().check("grace1999", ("grace42",))


async def test_names_of_a_letter_or_two_refuse_nothing() -> None:
    """Only what is a name."""
    await Policy().check("a1947263", ("a", "a@b.org"))


@pytest.fixture
def breached(tmp_path: Path) -> Path:
    """A list of a thousand breached passwords, sorted."""
    lines = sorted(
        hashlib.sha1(f"leaked secret {n}".encode()).hexdigest().upper() for n in range(1000)
    )
    path = tmp_path / "breached.txt"
    path.write_text("".join(f"{line}:{n}\r\n" for n, line in enumerate(lines)))
    return path


async def test_breached_passwords_are_refused(breached: Path) -> None:
    """Each of the list, and no other; without a list nobody asks."""
    policy = Policy(breached=BreachedFile(breached))
    for number in range(1000):
        with pytest.raises(WeakPassword, match="breach"):
            await policy.check(f"leaked secret {number}", ())
    for number in range(1000, 1500):
        await policy.check(f"leaked secret {number}", ())
    await Policy().check("leaked secret 1", ())


@pytest.mark.parametrize(
    "content", ["", "\n", "no hashes\nat all\n", "F" * 39, "F" * 41, "\0" * 5000]
)
def test_a_list_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    """It would find nothing, and nobody would notice."""
    path = tmp_path / "list"
    path.write_text(content)
    with pytest.raises(ValueError, match="SHA-1"):
        BreachedFile(path)


def test_a_list_that_is_not_sorted_is_refused(breached: Path) -> None:
    """Have I Been Pwned has one by count too."""
    lines = breached.read_text().splitlines()
    breached.write_text("\n".join(lines[::-1]))
    with pytest.raises(ValueError, match="not sorted"):
        BreachedFile(breached)


async def test_a_list_of_one_is_a_list(tmp_path: Path) -> None:
    """Without a count or an end of the line."""
    path = tmp_path / "list"
    path.write_text(hashlib.sha1(b"leaked secret").hexdigest())
    with pytest.raises(WeakPassword, match="breach"):
        await Policy(breached=BreachedFile(path)).check("leaked secret", ())
